"""Pasting of masks into images, and cropping of masks of images, against plain forms."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lucidet.layers import crop_and_resize_masks, paste_masks_in_image
from lucidet.layers.mask_ops import _weights
from lucidet.structures import BitMasks, Boxes

BOXES = [
    [10.0, 20, 50, 60],
    [-15.5, 3.2, 22.7, 90.1],  # over the left edge
    [100.3, 70.6, 140, 130],  # over the right and the lower edge
    [0, 0, 120, 100],  # the whole image
    [33.3, 44.4, 33.9, 44.8],  # less than a pixel
    [200, 10, 240, 30],  # outside
]


def sampled(masks: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the masks in the image, by torch's own bilinear sampling of every pixel."""
    pixels = [torch.arange(length) + 0.5 for length in size]
    x = (pixels[1] - boxes[:, :1]) / (boxes[:, 2:3] - boxes[:, :1]) * 2 - 1  # (M, W)
    y = (pixels[0] - boxes[:, 1:2]) / (boxes[:, 3:] - boxes[:, 1:2]) * 2 - 1
    shape = (len(masks), *size)
    grid = torch.stack([x[:, None].expand(shape), y[:, :, None].expand(shape)], dim=3)
    return F.grid_sample(masks[:, None], grid, align_corners=False)[:, 0]


class TestPasting:
    @pytest.mark.parametrize("side", [1, 14, 28])
    def test_equals_bilinear_sampling(self, side: int) -> None:
        boxes = torch.tensor(BOXES)
        masks = torch.rand(len(boxes), side, side)
        expected = sampled(masks, boxes, (100, 120))
        found = paste_masks_in_image(masks, boxes, (100, 120))
        assert found.dtype == torch.bool
        certain = (expected - 0.5).abs() > 1e-5
        assert torch.equal(found[certain], (expected >= 0.5)[certain])
        probabilities = paste_masks_in_image(masks, Boxes(boxes), (100, 120), threshold=-1)
        assert probabilities.dtype == torch.uint8
        assert (probabilities.float() - expected * 255).abs().max() < 1.01

    def test_the_form_for_gpus_gives_the_same(self) -> None:
        boxes = torch.tensor(BOXES)
        masks = torch.rand(len(boxes), 28, 28)
        rows = _weights(boxes[:, 1], boxes[:, 3], 0, 100, 28)
        columns = _weights(boxes[:, 0], boxes[:, 2], 0, 120, 28)
        pasted = rows @ masks @ columns.mT >= 0.5
        assert (pasted != paste_masks_in_image(masks, boxes, (100, 120))).float().mean() < 1e-4

    @pytest.mark.parametrize("count", [0, 1])
    def test_nothing_to_paste(self, count: int) -> None:
        masks, boxes = torch.ones(count, 28, 28), torch.tensor([[5.0, 5, 5, 9]])[:count]
        found = paste_masks_in_image(masks, boxes, (20, 30))
        assert found.shape == (count, 20, 30)
        assert not found.any()  # a box without area covers no pixel

    def test_a_box_that_is_not_finite(self) -> None:
        masks = torch.ones(1, 28, 28)
        for value in (torch.nan, torch.inf):
            found = paste_masks_in_image(masks, torch.tensor([[0.0, 0, value, 9]]), (20, 30))
            assert found.shape == (1, 20, 30)

    @pytest.mark.parametrize(
        ("masks", "boxes", "match"),
        [
            (torch.zeros(2, 28, 14), torch.zeros(2, 4), "square masks"),
            (torch.zeros(2, 28, 28), torch.zeros(3, 4), "a box for each of 2 masks"),
        ],
    )
    def test_other_shapes_are_refused(self, masks: Tensor, boxes: Tensor, match: str) -> None:
        with pytest.raises(ValueError, match=match):
            paste_masks_in_image(masks, boxes, (20, 30))

    def test_memory_of_large_images(self) -> None:
        """100 masks on 4000 x 3000 would fill 1.2 GB; only the pages of their boxes are used."""
        code = """
import resource, torch
from lucidet.layers import paste_masks_in_image
torch.manual_seed(0)
corner = torch.rand(100, 2) * torch.tensor([3000.0, 2000.0])
boxes = torch.cat([corner, corner + 200 + torch.rand(100, 2) * 800], dim=1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
pasted = paste_masks_in_image(torch.rand(100, 28, 28), boxes, (3000, 4000))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, int(pasted.any((1, 2)).sum()))
"""
        printed = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
        grown, filled = (int(word) for word in printed.split())
        assert filled == 100
        unit = 1 if sys.platform == "darwin" else 1024
        assert grown * unit < 1e9


class TestCropping:
    def test_equals_cropping_image_by_image(self) -> None:
        """Images of different sizes, masks that several boxes share, boxes at the edge."""
        generator = torch.Generator().manual_seed(0)
        sizes, counts = [(40, 60), (50, 30), (40, 60)], [3, 2, 0]
        masks = [
            torch.rand(count, *size, generator=generator) < 0.5
            for count, size in zip(counts, sizes, strict=True)
        ]
        rows = [torch.tensor([2, 0, 2, 1]), torch.tensor([1, 1]), torch.zeros(0, dtype=torch.long)]
        boxes = torch.tensor(
            [
                [0, 0, 60, 40],
                [59, 10, 60, 39.5],
                [3.3, 4.4, 30.2, 20.9],
                [10, 10, 12, 12],
                [0, 0, 30, 50],
                [28.5, 48.2, 30, 50],
            ]
        )
        found = crop_and_resize_masks(masks, rows, boxes, 14)
        parts = boxes.split([len(own) for own in rows])
        expected = [
            BitMasks(mask[own]).crop_and_resize(part, 14)
            for mask, own, part in zip(masks, rows, parts, strict=True)
        ]
        assert torch.equal(found, torch.cat(expected))

    def test_in_parts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        masks, boxes = [torch.rand(5, 20, 20) < 0.5], torch.tensor([[1.0, 2, 15, 18]]).repeat(9, 1)
        rows = [torch.tensor([4, 0, 3, 3, 1, 0, 2, 4, 4])]
        whole = crop_and_resize_masks(masks, rows, boxes, 7)
        monkeypatch.setattr("lucidet.layers.mask_ops._PIXELS_AT_ONCE", 200)  # two masks at once
        assert torch.equal(crop_and_resize_masks(masks, rows, boxes, 7), whole)

    def test_no_boxes(self) -> None:
        none = torch.zeros(0, dtype=torch.long)
        found = crop_and_resize_masks([torch.ones(2, 8, 8) > 0], [none], torch.zeros(0, 4), 7)
        assert found.shape == (0, 7, 7)
