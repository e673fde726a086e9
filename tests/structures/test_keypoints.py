from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from lucidet.structures import Instances, Keypoints, heatmaps_to_keypoints
from lucidet.structures.keypoints import _keypoints_to_heatmap


def test_holds_what_it_is_given():
    points = Keypoints(np.arange(24, dtype=np.float64).reshape(2, 4, 3))
    assert points.tensor.dtype == torch.float32
    assert len(points) == 2
    assert points[0].tensor.shape == (1, 4, 3)
    assert points[torch.tensor([False, True])].tensor.equal(points.tensor[1:])
    assert [tuple(p.shape) for p in points] == [(4, 3), (4, 3)]
    assert points.to("meta").device.type == "meta"
    assert Keypoints.cat([points, points[:0]]).tensor.equal(points.tensor)
    assert len(Instances((5, 5), gt_keypoints=points)[1:].gt_keypoints) == 1
    for wrong in (torch.zeros(2, 17, 2), torch.zeros(17, 3), []):
        with pytest.raises(ValueError, match=r"\(M, K, 3\)"):
            Keypoints(wrong)
    with pytest.raises(ValueError, match="at least one"):
        Keypoints.cat([])


@pytest.mark.parametrize(
    ("x", "y", "visibility", "location", "valid"),
    [
        (10.0, 20.0, 2, 0, 1),  # the first corner
        (18.0, 24.0, 1, 4 * 8 - 1, 1),  # the last corner belongs to the last location
        (15.0, 21.0, 2, 6, 1),
        (17.9, 20.0, 2, 3, 1),
        (9.9, 21.0, 2, 0, 0),  # left of the box
        (12.0, 24.1, 2, 0, 0),  # below it
        (12.0, 22.0, 0, 0, 0),  # not labelled
        (float("inf"), 22.0, 2, 0, 0),
    ],
)
def test_location_in_the_heat_map(x, y, visibility, location, valid):
    box = torch.tensor([[10.0, 20.0, 18.0, 24.0]])
    locations, inside = Keypoints([[[x, y, visibility]]]).to_heatmap(box, 4)
    assert inside.tolist() == [[valid]]
    if valid:
        column, row = min(int((x - 10) / 2), 3), min(int(y - 20), 3)
        location = row * 4 + column
    assert locations.tolist() == [[location]]
    assert locations.dtype == inside.dtype == torch.int64


def test_no_boxes_and_a_box_without_a_side():
    locations, valid = _keypoints_to_heatmap(torch.zeros(0, 17, 3), torch.zeros(0, 4), 56)
    assert locations.shape == valid.shape == (0, 17)
    assert locations.dtype == torch.int64
    flat = torch.tensor([[3.0, 3.0, 3.0, 9.0]])
    locations, valid = _keypoints_to_heatmap(torch.tensor([[[4.0, 5.0, 2.0]]]), flat, 56)
    assert (locations.item(), valid.item()) == (0, 0)


def test_the_highest_location_becomes_a_keypoint():
    random = torch.Generator().manual_seed(0)
    maps = torch.randn(3, 5, 8, 8, generator=random)
    boxes = torch.tensor([[0.0, 0, 20.5, 10], [7, 9, 7, 9], [-3, 2, 40, 60.25]])
    found = heatmaps_to_keypoints(maps, boxes)
    assert found.shape == (3, 5, 4)
    for box, of_box, points in zip(boxes, maps, found, strict=True):
        width, height = ((box[2:] - box[:2]).clamp(min=1)).tolist()
        columns, rows = int(np.ceil(width)), int(np.ceil(height))
        enlarged = F.interpolate(of_box[None], (rows, columns), mode="bicubic")[0]
        for of_point, (x, y, logit, score) in zip(range(5), points.tolist(), strict=True):
            index = int(enlarged[of_point].argmax())
            row, column = divmod(index, columns)
            assert x == pytest.approx(float(box[0]) + (column + 0.5) * width / columns, abs=1e-4)
            assert y == pytest.approx(float(box[1]) + (row + 0.5) * height / rows, abs=1e-4)
            assert logit == pytest.approx(float(enlarged[of_point, row, column]))
            expected = np.exp(logit) / float(of_box[of_point].exp().sum())
            assert score == pytest.approx(expected, rel=1e-4)


def test_a_keypoint_survives_the_way_to_the_heat_map_and_back():
    box = torch.tensor([[10.0, 10.0, 66.0, 66.0]])
    points = torch.tensor([[[20.3, 40.7, 2.0], [65.9, 10.0, 2.0]]])
    locations, valid = _keypoints_to_heatmap(points, box, 56)
    maps = F.one_hot(locations, 56 * 56).view(1, 2, 56, 56).float() * 20
    found = heatmaps_to_keypoints(maps, box)
    assert valid.all()
    assert (found[..., :2] - points[..., :2]).abs().max() <= 0.5
    assert (found[..., 3] > 0.99).all()


def test_no_heat_maps():
    assert heatmaps_to_keypoints(torch.zeros(0, 17, 56, 56), torch.zeros(0, 4)).shape == (0, 17, 4)
