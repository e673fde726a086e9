from __future__ import annotations

import pytest
import torch

from lucidet.structures import ImageList


@pytest.mark.parametrize(
    ("sizes", "kwargs", "expected"),
    [
        ([(4, 6)], {}, (4, 6)),
        ([(4, 6), (5, 3)], {}, (5, 6)),
        ([(4, 6), (5, 3)], {"size_divisibility": 4}, (8, 8)),
        ([(4, 8)], {"size_divisibility": 4}, (4, 8)),
        ([(4, 6)], {"padding_constraints": {"square_size": 10}}, (10, 10)),
        ([(4, 6)], {"padding_constraints": {"size_divisibility": 8, "square_size": 0}}, (8, 8)),
        ([(0, 6)], {"size_divisibility": 4}, (0, 8)),
    ],
)
def test_padded_size(sizes, kwargs, expected):
    images = [torch.rand(3, *size) for size in sizes]
    batch = ImageList.from_tensors(images, pad_value=7.0, **kwargs)
    assert batch.tensor.shape == (len(images), 3, *expected)
    assert batch.image_sizes == sizes
    assert len(batch) == len(images)
    for i, image in enumerate(images):
        assert batch[i].equal(image)
    total = sum(float(image.sum()) for image in images)
    padding = batch.tensor.numel() - sum(image.numel() for image in images)
    assert float(batch.tensor.sum()) == pytest.approx(total + 7 * padding, rel=1e-5)


def test_images_without_channels_and_integers():
    batch = ImageList.from_tensors([torch.ones(2, 3, dtype=torch.uint8)], 4, pad_value=255)
    assert batch.tensor.shape == (1, 4, 4)
    assert batch.tensor.dtype == torch.uint8
    assert batch.to(torch.float32).tensor.dtype == torch.float32
    assert batch.device.type == "cpu"


def test_errors_teach():
    with pytest.raises(ValueError, match="an empty list"):
        ImageList.from_tensors([])
    with pytest.raises(ValueError, match="got Tensor"):
        ImageList.from_tensors(torch.zeros(2, 3, 4, 4))
    with pytest.raises(ValueError, match=r"image 1 has shape \(1, 4, 4\), the first \(3, 4, 4\)"):
        ImageList.from_tensors([torch.zeros(3, 4, 4), torch.zeros(1, 4, 4)])
    with pytest.raises(ValueError, match=r"4 x 12 .* square_size = 8"):
        ImageList.from_tensors([torch.zeros(3, 4, 12)], padding_constraints={"square_size": 8})
