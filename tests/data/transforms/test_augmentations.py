from __future__ import annotations

import numpy as np
import pytest

from lucidet.data import transforms as T
from lucidet.utils.probe import watching


@pytest.fixture(autouse=True)
def _numpy_seed():
    np.random.seed(0)


def picture(h=40, w=60):
    return np.random.default_rng(0).integers(0, 256, (h, w, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("size", "short", "longest", "expected"),
    [
        ((480, 640), 800, 1333, (800, 1067)),
        ((640, 480), 800, 1333, (1067, 800)),
        ((480, 1280), 800, 1333, (500, 1333)),
        ((427, 640), 800, 1333, (800, 1199)),
        ((400, 400), 800, 1333, (800, 800)),
        ((1, 2000), 800, 1000, (1, 1000)),  # the height must not vanish
    ],
)
def test_resize_shortest_edge_sizes(size, short, longest, expected):
    assert T.ResizeShortestEdge.get_output_shape(*size, short, longest) == expected


def test_resize_shortest_edge_choice_and_range():
    choice = T.ResizeShortestEdge((20, 30), 1000, "choice")
    heights = {choice.get_transform(picture()).new_h for _ in range(40)}
    assert heights == {20, 30}
    ranged = T.ResizeShortestEdge((20, 24), 1000, "range")
    heights = {ranged.get_transform(picture()).new_h for _ in range(100)}
    assert heights == {20, 21, 22, 23, 24}
    assert T.ResizeShortestEdge(20).get_transform(picture()).new_h == 20
    assert isinstance(T.ResizeShortestEdge(0).get_transform(picture()), T.NoOpTransform)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: T.ResizeShortestEdge((1, 2, 3), sample_style="range"), "'range' needs.*min, max"),
        (lambda: T.ResizeShortestEdge((), sample_style="choice"), "is empty"),
        (lambda: T.ResizeShortestEdge(1, sample_style="both"), "must be 'range' or 'choice'"),
        (lambda: T.RandomFlip(horizontal=True, vertical=True), "use two RandomFlip"),
        (lambda: T.RandomFlip(horizontal=False), "exactly one"),
        (lambda: T.RandomFlip(prob=1.5), "0..1, got 1.5"),
        (lambda: T.RandomApply(T.NoOpTransform(), prob=-1), "0..1, got -1"),
        (lambda: T.RandomCrop("relative", (0.5, 2)), r"parts.*\(0, 1\].*use 'absolute'"),
        (lambda: T.RandomCrop("relativ", (0.5, 1)), "crop_type must be one of"),
        (lambda: T.RandomCrop("absolute", (5,)), "two numbers"),
        (lambda: T.RandomCrop("absolute_range", (9, 5)), "takes .min, max."),
        (lambda: T.RandomRotation(30, sample_style="x"), "sample_style"),
        (lambda: T.RandomBrightness(1.2, 0.8), "intensity_min <= intensity_max, got 1.2"),
        (lambda: T.RandomLighting(1.0).get_transform(np.zeros((3, 3))), r"RGB images"),
        (lambda: T.RandomSaturation(1, 1).get_transform(np.zeros((3, 3))), r"RGB images"),
        (lambda: T.AugInput(np.zeros((2, 2), np.int64)), "uint8.*got int64.*astype"),
        (lambda: T.AugInput(np.zeros(2)), "shape"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_flip_probability():
    kinds = [type(T.RandomFlip(0.25).get_transform(picture())).__name__ for _ in range(400)]
    assert 60 < kinds.count("HFlipTransform") < 140
    vertical = T.RandomFlip(1.0, horizontal=False, vertical=True).get_transform(picture())
    assert vertical.height == 40


@pytest.mark.parametrize(
    ("crop_type", "crop_size", "heights", "widths"),
    [
        ("relative", (0.5, 0.25), (20, 20), (15, 15)),
        ("relative_range", (0.5, 0.5), (20, 40), (30, 60)),
        ("absolute", (10, 20), (10, 10), (20, 20)),
        ("absolute", (100, 20), (40, 40), (20, 20)),
        ("absolute_range", (10, 50), (10, 40), (10, 50)),
        ("absolute_range", (50, 90), (40, 40), (50, 60)),
    ],
)
def test_random_crop(crop_type, crop_size, heights, widths):
    aug = T.RandomCrop(crop_type, crop_size)
    for _ in range(30):
        crop = aug.get_transform(picture())
        assert heights[0] <= crop.h <= heights[1]
        assert widths[0] <= crop.w <= widths[1]
        assert 0 <= crop.x0 <= 60 - crop.w
        assert 0 <= crop.y0 <= 40 - crop.h
        assert crop.apply_image(picture()).shape[:2] == (crop.h, crop.w)


def test_crop_with_category_constraint():
    labels = np.zeros((40, 60), np.int64)
    labels[:, 30:] = 1
    aug = T.RandomCrop_CategoryAreaConstraint("relative", (0.5, 0.5), 0.75)
    data = T.AugInput(picture(), sem_seg=labels)
    aug(data)
    assert data.sem_seg.shape == data.image.shape[:2] == (20, 30)
    assert len(np.unique(data.sem_seg)) == 2
    with pytest.raises(ValueError, match=r"needs a label map.*sem_seg="):
        aug(T.AugInput(picture()))


@pytest.mark.parametrize("size", [(20, 30), (80, 30), (80, 90)])
def test_fixed_size_crop(size):
    data = T.AugInput(picture(), boxes=np.array([[0.0, 0, 60, 40]]))
    transform = T.FixedSizeCrop(size)(data)
    assert data.image.shape[:2] == size
    assert data.boxes.shape == (1, 4)
    np.testing.assert_allclose(transform.inverse().apply_box(data.boxes), [[0, 0, 60, 40]])
    unpadded = T.FixedSizeCrop(size, pad=False).get_transform(picture())
    assert unpadded.apply_image(picture()).shape[:2] == (min(40, size[0]), min(60, size[1]))


def test_min_iou_crop_keeps_objects():
    boxes = np.array([[5.0, 5, 25, 25], [40, 20, 55, 35]])
    for seed in range(30):
        np.random.seed(seed)
        data = T.AugInput(picture(), boxes=boxes)
        T.MinIoURandomCrop()(data)
        h, w = data.image.shape[:2]
        centers = (data.boxes[:, :2] + data.boxes[:, 2:]) / 2
        assert ((centers > 0) & (centers < [w, h])).all(1).any()
    for none in (None, np.zeros((0, 4))):
        assert isinstance(T.MinIoURandomCrop().get_transform(picture(), none), T.NoOpTransform)


def test_resize_scale_and_resize():
    data = T.AugInput(picture())
    T.ResizeScale(1.0, 1.0, 80, 80)(data)
    assert data.image.shape[:2] == (53, 80)
    T.Resize(16)(data)
    assert data.image.shape[:2] == (16, 16)
    T.Resize((8, 9), fast=True)(data)
    assert data.image.shape[:2] == (8, 9)


def test_random_rotation():
    aug = T.RandomRotation((-10, 10), expand=False, center=((0.5, 0.5), (0.5, 0.5)))
    turn = aug.get_transform(picture())
    np.testing.assert_allclose(turn.center, (30, 20))
    assert -10 <= turn.angle <= 10
    assert isinstance(T.RandomRotation(0).get_transform(picture()), T.NoOpTransform)
    turn = T.RandomRotation([90], sample_style="choice", center=[(0, 0)]).get_transform(picture())
    assert turn.apply_image(picture()).shape[:2] == (60, 40)


def test_random_extent():
    data = T.AugInput(picture(), boxes=np.array([[0.0, 0, 60, 40]]))
    T.RandomExtent((0.5, 0.5), (0, 0))(data)
    assert data.image.shape[:2] == (20, 30)
    np.testing.assert_allclose(data.boxes, [[-15, -10, 45, 30]])


@pytest.mark.parametrize("aug", [T.RandomContrast, T.RandomBrightness, T.RandomSaturation])
def test_color_augmentations(aug):
    image = picture()
    np.testing.assert_array_equal(aug(1.0, 1.0).get_transform(image).apply_image(image), image)
    weakest = aug(0.0, 0.0).get_transform(image).apply_image(image)
    assert weakest.dtype == np.uint8
    if aug is T.RandomBrightness:
        assert weakest.max() == 0
    elif aug is T.RandomContrast:
        assert np.ptp(weakest) == 0
    else:
        assert np.ptp(weakest, axis=2).max() == 0


def test_lighting_shifts_all_pixels_alike():
    image = np.full((4, 4, 3), 0.5)
    out = T.RandomLighting(0.5).get_transform(image).apply_image(image)
    assert np.ptp(out.reshape(-1, 3), axis=0).max() == pytest.approx(0)
    assert not np.allclose(out, image)


def test_random_apply():
    flip = T.HFlipTransform(60)
    drawn = [T.RandomApply(flip, 0.5)(T.AugInput(picture())) for _ in range(50)]
    assert 10 < sum(t is flip for t in drawn) < 40
    nested = T.RandomApply(T.AugmentationList([T.RandomFlip(1.0)]), prob=1.0)
    assert isinstance(nested(T.AugInput(picture()))[0], T.HFlipTransform)


def test_same_numpy_seed_same_choice():
    augs = [T.ResizeShortestEdge((20, 60)), T.RandomFlip(), T.RandomBrightness(0.5, 1.5)]
    outs = []
    for _ in range(2):
        np.random.seed(7)
        outs.append(T.apply_augmentations(augs, picture())[0])
    np.testing.assert_array_equal(*outs)


def test_each_step_is_shown_once():
    seen = []
    augs = [
        T.Resize((20, 30)),
        T.AugmentationList([T.RandomFlip(1.0), T.CropTransform(0, 0, 5, 6)]),
    ]
    data = T.AugInput(picture(), boxes=np.array([[0.0, 0, 60, 40]]))
    with watching(lambda name, values: seen.append((name, values))):
        transforms = T.AugmentationList(augs)(data)
    assert [name for name, _ in seen] == ["input.transform"] * 3
    assert [v["transform"] for _, v in seen] == transforms.transforms
    assert [v["image"].shape[:2] for _, v in seen] == [(20, 30), (20, 30), (6, 5)]
    np.testing.assert_allclose(seen[0][1]["boxes"], [[0, 0, 30, 20]])


def test_own_augmentation_with_own_field():
    class KeepFirst(T.Augmentation):
        def __init__(self, share):
            self.share = share

        def get_transform(self, image, weight):
            return T.CropTransform(0, 0, int(image.shape[1] * self.share * weight), 5)

    data = T.AugInput(picture())
    with pytest.raises(AttributeError, match=r"has no 'weight'"):
        KeepFirst(0.5)(data)
    data.weight = 0.5
    KeepFirst(0.5)(data)
    assert data.image.shape == (5, 15, 3)
    assert repr(KeepFirst(0.5)) == "KeepFirst(share=0.5)"


def test_apply_augmentations_of_an_aug_input():
    data = T.AugInput(picture(), boxes=np.array([[0.0, 0, 30, 40]]))
    same, transforms = T.apply_augmentations([T.RandomFlip(1.0)], data)
    assert same is data
    np.testing.assert_allclose(data.boxes, [[30, 0, 60, 40]])
    assert isinstance(transforms, T.TransformList)
    assert T.TransformGen is T.Augmentation
    assert T.apply_transform_gens is T.apply_augmentations


def test_wrong_members_are_named():
    with pytest.raises(TypeError, match=r"Augmentation or a Transform, got int"):
        T.AugmentationList([3])

    class Bad(T.Augmentation):
        def get_transform(self, image):
            return image

    with pytest.raises(TypeError, match=r"Bad.get_transform must return a Transform, got ndarray"):
        Bad()(T.AugInput(picture()))
    with pytest.raises(NotImplementedError, match=r"Augmentation lacks get_transform"):
        T.Augmentation()(T.AugInput(picture()))

    class Hides(T.Augmentation):
        def get_transform(self, image, *others):
            return T.NoOpTransform()

    with pytest.raises(TypeError, match=r"must name what it needs.*or set input_args"):
        Hides()(T.AugInput(picture()))
    Hides.input_args = ("image", "boxes")
    Hides()(T.AugInput(picture(), boxes=np.zeros((0, 4))))


def test_one_parameter_of_any_name_is_the_image():
    seen = []

    class Named(T.Augmentation):
        def get_transform(self, picture):
            seen.append(picture.shape)
            return T.NoOpTransform()

    class KeywordOnly(T.Augmentation):
        def get_transform(self, *anything):
            seen.append(len(anything))
            return T.NoOpTransform()

    class Asks(T.Augmentation):
        def __init__(self, names):
            self.input_args = names

        def get_transform(self, first, second):
            seen.append((first.ndim, second))
            return T.NoOpTransform()

    data = T.AugInput(picture())
    data.mood = "calm"
    inner = Asks(("image", "mood"))
    for augmentation in (Named(), KeywordOnly(), inner, T.RandomApply(inner, 1.0)):
        augmentation(data)
    assert seen == [picture().shape, 1, (3, "calm"), (3, "calm")]
