"""Images and ground truth on their way to a GPU: same numbers, as many launches for any N."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from lucidet.modeling.meta_arch.detector import instances_on_device, normalized_batch
from lucidet.structures import Boxes, Instances
from tests.modeling.operator_count import counted_operators
from tests.modeling.pretended_gpu import GPU, put_on_host
from tests.modeling.tiny import FPN, record, tiny_config, tiny_model

MEAN = torch.tensor([103.53, 116.28, 123.675]).view(-1, 1, 1)
STD = torch.tensor([57.375, 57.12, 58.395]).view(-1, 1, 1)
SIZES = [(64, 96), (40, 96), (64, 30), (1, 1)]


def images(dtype: torch.dtype, sizes: list[tuple[int, int]]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    pixels = [torch.randint(0, 256, (3, *size), generator=generator) for size in sizes]
    return [image.to(dtype) for image in pixels]


def on_host(tensors: list[Any]) -> list[Any]:
    for value in tensors:
        getattr(value, "tensor", value).on_host = True
    return tensors


@pytest.mark.parametrize("sizes", [SIZES, SIZES[:1], SIZES[:1] * 3])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float16, torch.float64])
@pytest.mark.parametrize("where", ["host", "device"])
def test_the_same_numbers_on_a_gpu(
    dtype: torch.dtype, sizes: Any, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = normalized_batch(images(dtype, sizes), MEAN, STD, 32)
    given = images(dtype, sizes)
    if where == "host":
        on_host(given)
    with counted_operators(monkeypatch):
        batch = normalized_batch(given, MEAN, STD, 32)
        assert batch.device == GPU
    assert batch.image_sizes == expected.image_sizes
    assert batch.tensor.dtype == expected.tensor.dtype
    assert torch.equal(batch.tensor, expected.tensor)


def test_images_of_different_types_and_places(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = [torch.uint8, torch.float32]
    expected = normalized_batch([images(k, SIZES[:1])[0] for k in kinds], MEAN, STD)
    for host in (0, 1, 2):  # how many of the images are on the host
        given = [images(kind, SIZES[:1])[0] for kind in kinds]
        on_host(given[:host])
        with counted_operators(monkeypatch):
            batch = normalized_batch(given, MEAN, STD)
        assert torch.equal(batch.tensor, expected.tensor)


def ground_truth(count: int, extra: bool = False) -> Instances:
    instances = Instances((64, 96))
    boxes = torch.rand(count, 4) + torch.tensor([0.0, 0, 5, 5])
    instances.gt_boxes = Boxes(boxes)
    instances.gt_classes = torch.arange(count)
    instances.names = [f"box {i}" for i in range(count)]  # a field without `to`
    if extra:
        instances.gt_depth = torch.rand(count)
    on_host([instances.gt_boxes, instances.gt_classes])
    return instances


@pytest.mark.parametrize("counts", [(2, 3), (0, 3), (0, 0), (1,), (2, 0, 4)])
@pytest.mark.parametrize("mapped", [False, True])
def test_instances(counts: tuple[int, ...], mapped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    given = [ground_truth(count) for count in counts]
    classes = torch.arange(10).flip(0) if mapped else None
    with counted_operators(monkeypatch) as operators:
        moved = instances_on_device(given, GPU, classes)
        assert all(own.gt_boxes.device == GPU for own in moved)
    assert len(operators) == (3 if mapped else 2), operators.by("operator", "place")
    for own, source in zip(moved, given, strict=True):
        assert own.image_size == source.image_size
        assert torch.equal(own.gt_boxes.tensor, source.gt_boxes.tensor)
        expected = 9 - source.gt_classes if mapped else source.gt_classes
        assert torch.equal(own.gt_classes, expected)
        assert own.names == source.names


def test_fields_that_not_every_image_has(monkeypatch: pytest.MonkeyPatch) -> None:
    given = [ground_truth(2), ground_truth(1, extra=True)]
    with counted_operators(monkeypatch):
        moved = instances_on_device(given, GPU)
        assert moved[1].gt_depth.device == GPU
    assert not moved[0].has("gt_depth")
    assert torch.equal(moved[0].gt_boxes.tensor, given[0].gt_boxes.tensor)


def test_instances_that_are_there_already(monkeypatch: pytest.MonkeyPatch) -> None:
    given = Instances((4, 4), gt_boxes=Boxes(torch.ones(2, 4)), gt_classes=torch.zeros(2))
    with counted_operators(monkeypatch) as operators:
        (moved,) = instances_on_device([given], GPU)
    assert len(operators) == 0
    assert moved.gt_classes is given.gt_classes


def test_on_a_cpu_nothing_is_copied() -> None:
    given = ground_truth(3)
    (moved,) = instances_on_device([given], torch.device("cpu"))
    assert moved.gt_boxes.tensor.data_ptr() == given.gt_boxes.tensor.data_ptr()


def test_launches_do_not_depend_on_the_number_of_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Boxes, classes, pixels, sizes: 4 copies; 2 operators normalize, 6 clear the padding."""
    model = tiny_model(tiny_config(FPN)).train()
    for count in (1, 2, 7):
        size = [(60, 90), (64, 96)]
        records = [record(size[i % 2], [[1.0, 1, 9, 9]] * 3, seed=i) for i in range(count)]
        with counted_operators(monkeypatch) as operators:
            prepared, objects = model.prepare(put_on_host(records))
            assert prepared.device == objects[0].gt_boxes.device == GPU
        assert len(operators) == 12, operators.by("operator", "place")


def test_overridden_preprocess_image_is_called() -> None:
    """As detectron2's: images of the device in a list."""
    from lucidet.structures import ImageList

    model = tiny_model(tiny_config(FPN)).eval()
    plain = type(model)

    class Halved(plain):  # type: ignore[misc, valid-type]
        def preprocess_image(self, batched_inputs: Any) -> ImageList:
            moved = [self._move_to_current_device(x["image"]) for x in batched_inputs]
            return ImageList.from_tensors([x / 2 for x in moved], 32)

    model.__class__ = Halved
    prepared, objects = model.prepare([record((32, 32), seed=1)])
    assert objects is None
    assert torch.equal(prepared[0], record((32, 32), seed=1)["image"] / 2)
