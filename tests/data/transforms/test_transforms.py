from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from lucidet.data import transforms as T

BOX = np.array([[10.0, 20.0, 30.0, 25.0]])


def picture(h=40, w=60, channels=3):
    return np.random.default_rng(0).integers(0, 256, (h, w, channels), dtype=np.uint8)


# (transform of a 40 x 60 image, where BOX lands)
CASES = [
    (T.NoOpTransform(), [10, 20, 30, 25]),
    (T.HFlipTransform(60), [30, 20, 50, 25]),
    (T.VFlipTransform(40), [10, 15, 30, 20]),
    (T.CropTransform(5, 10, 40, 20, 60, 40), [5, 10, 25, 15]),
    (T.PadTransform(1, 2, 3, 4, 60, 40), [11, 22, 31, 27]),
    (T.ResizeTransform(40, 60, 80, 30), [5, 40, 15, 50]),
    (T.ScaleTransform(40, 60, 80, 30), [5, 40, 15, 50]),
    (T.RotationTransform(40, 60, 90), [20, 30, 25, 50]),
    (T.RotationTransform(40, 60, 180), [30, 15, 50, 20]),
    (T.RotationTransform(40, 60, -90), [15, 10, 20, 30]),
    (T.ExtentTransform((10, 10, 50, 30), (40, 80)), [0, 20, 40, 30]),
    (T.BlendTransform(0, 0.5, 0.5), [10, 20, 30, 25]),
    (T.TransformList([T.HFlipTransform(60), T.CropTransform(5, 0, 50, 40)]), [25, 20, 45, 25]),
]
IDS = [type(t).__name__ for t, _ in CASES]


@pytest.mark.parametrize(("transform", "expected"), CASES, ids=IDS)
def test_boxes_land_where_they_should(transform, expected):
    np.testing.assert_allclose(transform.apply_box(BOX), [expected], atol=1e-9)
    assert transform.apply_box(np.zeros((0, 4))).shape == (0, 4)
    point = np.array([[12.0, 20.0, 12.0, 20.0]])  # no area: stays so
    assert np.ptp(transform.apply_box(point).reshape(2, 2), axis=0) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("transform", "_"), CASES, ids=IDS)
def test_boxes_follow_the_image(transform, _):
    """The rectangle painted into the image is found where the box goes."""
    image = np.zeros((40, 60, 3), np.uint8)
    image[20:25, 10:30] = 255
    out = transform.apply_image(image)
    if isinstance(transform, T.BlendTransform):
        return
    ys, xs = np.nonzero(out[..., 0] > 127)
    x0, y0, x1, y1 = transform.apply_box(BOX)[0]
    np.testing.assert_allclose(
        [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], [x0, y0, x1, y1], atol=0.51
    )


@pytest.mark.parametrize(
    "transform", [t for t, _ in CASES if not isinstance(t, (T.ExtentTransform, T.TransformList))]
)
def test_inverse_undoes_coordinates(transform):
    points = np.array([[1.5, 2.0], [33.0, 7.25]])
    back = transform.inverse().apply_coords(transform.apply_coords(points))
    np.testing.assert_allclose(back, points, atol=1e-9)


def test_inverse_of_a_list_runs_backwards():
    both = T.TransformList([T.ResizeTransform(40, 60, 80, 30), T.HFlipTransform(30)])
    points = np.array([[1.5, 2.0]])
    np.testing.assert_allclose(both.inverse().apply_coords(both.apply_coords(points)), points)


@pytest.mark.parametrize("channels", [1, 3, 4, 5])
@pytest.mark.parametrize("size", [(17, 90), (80, 31), (40, 60)])
def test_resize_equals_pil(channels, size):
    image = picture(channels=channels)
    out = T.ResizeTransform(40, 60, *size).apply_image(image)
    assert out.shape == (*size, channels)
    assert out.dtype == np.uint8
    for c in range(channels):
        plane = Image.fromarray(image[..., c]).resize(size[::-1], Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(out[..., c], plane)


def test_resize_of_a_bgr_view_equals_pil():
    image = picture()[:, :, ::-1]
    plain = np.asarray(Image.fromarray(image.copy()).resize((90, 17), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(T.ResizeTransform(40, 60, 17, 90).apply_image(image), plain)


@pytest.mark.parametrize("view", [np.s_[:, :, :], np.s_[:, :, ::-1], np.s_[:, ::-1], np.s_[::-1]])
@pytest.mark.parametrize("size", [(17, 90), (80, 31)])
def test_fast_resize_is_within_one_of_pil(view, size):
    image = picture()[view]
    exact = T.ResizeTransform(40, 60, *size).apply_image(image)
    fast = T.ResizeTransform(40, 60, *size, fast=True).apply_image(image)
    difference = np.abs(exact.astype(int) - fast)
    assert difference.max() <= 1


def test_fast_resize_of_a_smooth_picture_is_nearly_pil():
    y, x = np.mgrid[:120, :160]
    image = np.stack([x, y * 2, (x + y) % 256], axis=2).astype(np.uint8)
    exact = T.ResizeTransform(120, 160, 77, 103).apply_image(image)
    fast = T.ResizeTransform(120, 160, 77, 103, fast=True).apply_image(image)
    assert (exact != fast).mean() < 0.02


def test_resize_of_floats_and_labels():
    ramp = np.linspace(0, 1, 60, dtype=np.float32)[None].repeat(40, 0)
    out = T.ResizeTransform(40, 60, 80, 120).apply_image(ramp)
    assert out.dtype == np.float32
    assert out.shape == (80, 120)
    labels = picture(channels=1)[..., 0]
    resized = T.ResizeTransform(40, 60, 13, 17).apply_segmentation(labels)
    assert set(resized.ravel()) <= set(labels.ravel())
    wide = labels.astype(np.int32) * 1000
    assert set(T.ResizeTransform(40, 60, 80, 17).apply_segmentation(wide).ravel()) <= set(
        wide.ravel()
    )


def test_resize_refuses_another_image():
    with pytest.raises(ValueError, match=r"made for an image of 40 x 60.*got 30 x 30"):
        T.ResizeTransform(40, 60, 20, 20).apply_image(picture(30, 30))
    with pytest.raises(ValueError, match=r"sizes must be > 0"):
        T.ResizeTransform(40, 60, 0, 20)
    with pytest.raises(ValueError, match=r"LANCZOS works on uint8"):
        T.ResizeTransform(40, 60, 20, 20, Image.Resampling.LANCZOS).apply_image(
            picture().astype(np.float32)
        )


def test_rotation_moves_pixels_counter_clockwise():
    image = picture()
    np.testing.assert_array_equal(
        T.RotationTransform(40, 60, 90).apply_image(image), np.rot90(image)
    )
    np.testing.assert_array_equal(
        T.RotationTransform(40, 60, 180, expand=False).apply_image(image), np.rot90(image, 2)
    )


def test_rotation_without_expanding_keeps_size_and_centre():
    turn = T.RotationTransform(40, 60, 30, expand=False, center=(10, 5))
    assert turn.apply_image(picture()).shape == (40, 60, 3)
    np.testing.assert_allclose(turn.apply_coords(np.array([[10.0, 5.0]])), [[10, 5]])


def test_padding_and_blending_values():
    padded = T.PadTransform(1, 2, 3, 4, pad_value=7, seg_pad_value=9)
    assert padded.apply_image(picture())[0, 0].tolist() == [7, 7, 7]
    assert padded.apply_segmentation(np.zeros((40, 60), int))[-1, -1] == 9
    assert padded.apply_image(picture()).shape == (46, 64, 3)
    bright = T.BlendTransform(0, 0, 2.0).apply_image(np.full((2, 2, 3), 200, np.uint8))
    assert bright.max() == 255
    assert bright.dtype == np.uint8


def test_color_transforms():
    image = picture()
    np.testing.assert_array_equal(
        T.ColorTransform(lambda a: 255 - a).apply_image(image), 255 - image
    )
    grey = T.PILColorTransform(lambda im: im.convert("L").convert("RGB"))
    assert np.ptp(grey.apply_image(image), axis=2).max() == 0
    with pytest.raises(ValueError, match=r"needs a function"):
        T.ColorTransform(3)


def test_extent_fills_what_is_outside():
    out = T.ExtentTransform((-10, 0, 50, 40), (40, 60), fill=9).apply_image(picture())
    assert out[0, 0].tolist() == [9, 9, 9]


def test_rotated_boxes():
    boxes = np.array([[10.0, 20.0, 8.0, 4.0, 30.0]])
    flipped = T.HFlipTransform(60).apply_rotated_box(boxes)
    np.testing.assert_allclose(flipped, [[50, 20, 8, 4, -30]])
    doubled = T.ResizeTransform(40, 60, 80, 120).apply_rotated_box(boxes)
    np.testing.assert_allclose(doubled, [[20, 40, 16, 8, 30]])
    wide = T.ResizeTransform(40, 60, 40, 120).apply_rotated_box(np.array([[10.0, 20, 8, 4, 90]]))
    np.testing.assert_allclose(wide, [[20, 20, 8, 8, 90]])
    both = T.TransformList([T.HFlipTransform(60), T.NoOpTransform()])
    np.testing.assert_allclose(both.apply_rotated_box(boxes), flipped)
    with pytest.raises(AttributeError, match=r"CropTransform has no method apply_rotated_box"):
        T.TransformList([T.CropTransform(0, 0, 1, 1)]).apply_rotated_box(boxes)


def test_lists_flatten_and_add():
    flip, crop = T.HFlipTransform(60), T.CropTransform(0, 0, 9, 9)
    total = flip + crop
    total += T.TransformList([flip])
    assert [type(t).__name__ for t in total.transforms] == [
        "HFlipTransform",
        "CropTransform",
        "HFlipTransform",
    ]
    assert len(T.TransformList([total, T.TransformList([])])) == 3
    assert total[1] is crop
    np.testing.assert_array_equal(T.TransformList([]).apply_box(BOX), BOX)
    with pytest.raises(ValueError, match=r"takes Transform objects, got RandomFlip"):
        T.TransformList([T.RandomFlip()])


def test_polygons():
    polygons = [np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])]
    moved = T.HFlipTransform(60).apply_polygons(polygons)
    np.testing.assert_allclose(moved[0][:, 0], [59, 57, 55])


def test_whole_number_boxes_do_not_lose_their_fraction():
    whole = np.array([[10, 20, 30, 25]])
    out = T.ResizeTransform(40, 60, 60, 90).apply_box(whole)
    np.testing.assert_allclose(out, [[15, 30, 45, 37.5]])
    points = T.ResizeTransform(40, 60, 60, 90).apply_coords(np.array([[1, 1]]))
    np.testing.assert_allclose(points, [[1.5, 1.5]])


def test_abstract_parts_say_what_is_missing():
    for method in ("apply_image", "apply_coords"):
        with pytest.raises(NotImplementedError, match=r"Transform does not say"):
            getattr(T.Transform(), method)(None)
    with pytest.raises(NotImplementedError, match=r"no inverse"):
        T.Transform().inverse()
    for transform in (T.CropTransform(0, 0, 1, 1), T.PadTransform(0, 0, 1, 1)):
        with pytest.raises(ValueError, match=r"build it with orig_w="):
            transform.inverse()
    with pytest.raises(ValueError, match=r"needs 2 parameters"):
        T.HFlipTransform.register_type("thing", lambda data: data)
