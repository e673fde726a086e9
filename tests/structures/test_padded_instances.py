"""Instances that are views of a padded batch behave as all others, and are cut when looked at."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

from lucidet.structures import (
    Boxes,
    Instances,
    PaddedInstances,
    RowsOfImages,
    clip_padded,
    pad_fields,
    pad_rows,
    set_other_fields,
)

SIZE = (20, 30)


def batch(counts: list[int]) -> PaddedInstances:
    rows = max(counts)
    boxes = torch.arange(len(counts) * rows * 4.0).view(len(counts), rows, 4)
    fields = {
        "pred_boxes": boxes,
        "scores": boxes[..., 0] / 100,
        "pred_classes": boxes[..., 1].long(),
    }
    return PaddedInstances([SIZE] * len(counts), fields, torch.tensor(counts))


@pytest.mark.parametrize("counts", [[2, 3], [0, 1], [0, 0]])
def test_rows_of_each_image(counts: list[int]) -> None:
    padded = batch(counts)
    images = padded.split()
    assert [len(own) for own in images] == counts
    for image, own in enumerate(images):
        assert isinstance(own, Instances)
        assert own.image_size == SIZE
        assert isinstance(own.pred_boxes, Boxes)
        assert torch.equal(own.scores, padded.fields["scores"][image, : counts[image]])
    rows = RowsOfImages(padded.fields["scores"], padded)
    assert [len(own) for own in rows] == [len(own) for own in rows[0:]] == counts


def test_only_what_nobody_looked_at_is_still_a_batch() -> None:
    padded = batch([2, 3])
    images = padded.split()
    assert PaddedInstances.untouched(images) is padded
    assert PaddedInstances.untouched(images[::-1]) is None
    assert PaddedInstances.untouched(images[:1]) is None
    assert PaddedInstances.untouched([*images[:1], *batch([2, 3]).split()[1:]]) is None
    assert PaddedInstances.untouched([]) is None
    assert images[0].has("scores")
    assert PaddedInstances.untouched(images) is None
    again = PaddedInstances.padded(images)
    assert again.count.tolist() == [2, 3]
    assert torch.equal(again.valid, padded.valid)
    assert torch.equal(
        again.fields["pred_boxes"][padded.valid], padded.fields["pred_boxes"][padded.valid]
    )


def test_fields_can_be_set_indexed_copied_and_sent() -> None:
    first, second = batch([2, 3]).split()
    first.note = [1, 2]
    first.remove("scores")
    assert set(first.get_fields()) == {"pred_boxes", "pred_classes", "note"}
    with pytest.raises(ValueError, match="3 entries"):
        first.more = [1, 2, 3]
    with pytest.raises(AttributeError, match="no field 'nothing'"):
        _ = second.nothing
    assert second[second.scores > 0.13].pred_classes.tolist() == [17, 21]
    for other in (pickle.loads(pickle.dumps(second)), copy.deepcopy(second), second.to("cpu")):
        assert other.scores.tolist() == second.scores.tolist()
    assert type(copy.copy(second)) is Instances
    assert len(Instances.cat(batch([2, 3]).split())) == 5


def test_rows_without_a_wait_are_filled_with_nan() -> None:
    first, second = batch([1, 2]).with_all_rows("pred_boxes")
    assert len(first) == len(second) == 2
    assert first.pred_boxes.tensor.isnan().all(dim=1).tolist() == [False, True]


def test_fields_of_other_types_follow() -> None:
    class Names:
        def __init__(self, names: list[str]) -> None:
            self.names = names

        def __len__(self) -> int:
            return len(self.names)

        def __getitem__(self, item: torch.Tensor) -> Names:
            return Names([self.names[i] for i in item.tolist()])

    source = Instances(SIZE, gt_boxes=Boxes(torch.zeros(2, 4)), gt_names=Names(["a", "b"]))
    source.gt_notes = ["x", "y"]
    empty = Instances(SIZE, gt_boxes=Boxes([]), gt_names=Names([]), gt_notes=[])
    padded = pad_fields([source, empty], "gt_")
    assert {name: tuple(values.shape) for name, values in padded.items()} == {"gt_boxes": (2, 2, 4)}
    sampled = batch([3, 0]).split()
    index = torch.tensor([[1, 0, 1], [0, 0, 0]])
    set_other_fields(sampled, [source, empty], index, padded, "gt_")
    assert sampled[0].gt_names.names == ["b", "a", "b"]
    assert sampled[0].gt_notes == ["y", "x", "y"]
    assert not sampled[1].has("gt_names")


def test_clipping_and_padding() -> None:
    boxes = torch.tensor([[[-1.0, 2, 40, 8]], [[5, 5, 6, 30]]])
    assert clip_padded(boxes, [(20, 30), (9, 9)]).tolist() == [[[0, 2, 30, 8]], [[5, 5, 6, 9]]]
    assert pad_rows([torch.ones(0, 2), torch.ones(0, 2)]).shape == (2, 0, 2)
