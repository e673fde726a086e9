from __future__ import annotations

import numpy as np
import pycocotools.mask as oracle
import pytest

from lucidet.data.segmentation import (
    as_polygons,
    bitmask_to_rle,
    json_segmentation,
    rle_to_bitmask,
    segmentation_area,
    segmentation_to_bitmask,
)

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SQUARE = [2.0, 1.0, 6.0, 1.0, 6.0, 4.0, 2.0, 4.0]


def noise(height: int = 9, width: int = 13) -> np.ndarray:
    return np.random.default_rng(0).random((height, width)) > 0.6


def test_run_lengths_are_the_coco_librarys():
    mask = noise()
    expected = oracle.encode(np.asfortranarray(mask, dtype=np.uint8))
    rle = bitmask_to_rle(mask)
    assert rle == {"size": [9, 13], "counts": expected["counts"].decode()}
    assert np.array_equal(rle_to_bitmask(rle, 9, 13), mask)
    assert np.array_equal(rle_to_bitmask(expected, 9, 13), mask)  # bytes
    flat = mask.T.ravel()
    ends = [0, *(np.flatnonzero(np.diff(flat)) + 1).tolist(), flat.size]
    runs = np.diff(ends).tolist()
    uncompressed = {"size": [9, 13], "counts": [0, *runs] if flat[0] else runs}
    assert np.array_equal(rle_to_bitmask(uncompressed, 9, 13), mask)
    split = {"size": [2, 2], "counts": [1, 0, 0, 2, 1, 0]}  # runs of no length
    assert rle_to_bitmask(split, 2, 2).astype(int).tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize(
    ("rle", "message"),
    [
        ({"counts": [1]}, "has 'size' and 'counts', this one"),
        ({"size": [4, 5], "counts": [20]}, r"is \[4, 5\], expected the image's \[5, 4\]"),
        ({"size": [10**6, 10**6], "counts": "0"}, r"expected the image's \[5, 4\]"),
        ({"size": "5x4", "counts": [20]}, "size .* is '5x4'"),
        ({"size": [5, 4], "counts": [5, 5]}, "add up to 10 pixels, expected 5 x 4 = 20"),
        ({"size": [5, 4], "counts": [5, 500]}, "add up to 505"),
        ({"size": [5, 4], "counts": [-5, 25]}, "whole numbers >= 0"),
        ({"size": [5, 4], "counts": [2.5, 17.5]}, "whole numbers >= 0"),
        ({"size": [5, 4], "counts": [2**70]}, "add up to 11805"),
        ({"size": [5, 4], "counts": None}, "whole numbers >= 0, got None"),
        ({"size": [5, 4], "counts": "garbage"}, "can't be read"),
        ({"size": [5, 4], "counts": "~~~~é"}, "can't be read"),
        ({"size": [5, 4], "counts": b"\xff\x00"}, "can't be read"),
        ({"size": [5, 4], "counts": "55"}, "end before the last of the 5 x 4"),
        ({"size": [5, 4], "counts": ""}, "end before the last"),
    ],
)
def test_hostile_run_lengths_are_refused(rle, message):
    with pytest.raises(ValueError, match=message):
        rle_to_bitmask(rle, 5, 4)


def test_polygons_are_understood_or_refused():
    kept = as_polygons([SQUARE, [1, 2, 3, 4], [1, 2, 3, 4, 5, 6, 7], np.array(SQUARE)])
    assert [p.tolist() for p in kept] == [SQUARE, SQUARE]
    assert as_polygons(SQUARE)[0].tolist() == SQUARE  # the outer list forgotten
    assert as_polygons([[[0, 0], [4, 0], [4, 3]]])[0].tolist() == [0, 0, 4, 0, 4, 3]
    assert as_polygons([]) == []
    for wrong, message in (
        ([["a", "b"]], "polygon 0 must be a list of numbers"),
        ([SQUARE, None], "polygon 1"),
        ([[0, 0, float("nan"), 1, 2, 2]], "not finite"),
        ([{"x": 1}], "polygon 0 must be a list of numbers"),
    ):
        with pytest.raises(ValueError, match=message):
            as_polygons(wrong)


@pytest.mark.parametrize(
    "segmentation",
    [
        [SQUARE],
        {"size": [6, 8], "counts": [13, 3, 3, 3, 3, 3, 3, 3, 14]},
        np.pad(np.ones((3, 4), dtype=bool), ((1, 2), (2, 2))),
    ],
)
def test_every_kind_becomes_the_same_pixels(segmentation):
    mask = segmentation_to_bitmask(segmentation, 6, 8)
    assert mask.dtype == bool
    assert np.array_equal(mask, np.pad(np.ones((3, 4), dtype=bool), ((1, 2), (2, 2))))
    assert segmentation_area(segmentation, 6, 8) == 12
    written = json_segmentation(segmentation, 6, 8)
    assert np.array_equal(segmentation_to_bitmask(written, 6, 8), mask)


def test_pixels_of_another_size_and_other_things_are_refused():
    with pytest.raises(ValueError, match=r"3 x 4 \(height x width\), expected the image's 4 x 3"):
        segmentation_to_bitmask(np.ones((3, 4)), 4, 3)
    with pytest.raises(ValueError, match=r"is a list of polygons .* got 'mask.png'"):
        segmentation_to_bitmask("mask.png", 4, 3)


def test_images_without_pixels():
    assert rle_to_bitmask({"size": [0, 4], "counts": []}, 0, 4).shape == (0, 4)
    assert bitmask_to_rle(np.zeros((0, 4), dtype=bool)) == {"size": [0, 4], "counts": ""}
