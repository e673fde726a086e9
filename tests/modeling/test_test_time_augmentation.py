"""Several views of an image: made, undone, and their detections joined."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lucidet.config import get_cfg
from lucidet.modeling import DatasetMapperTTA, GeneralizedRCNNWithTTA, build_model
from lucidet.modeling.test_time_augmentation import ResizeFlip, vote
from lucidet.structures import Boxes, Instances
from tests.modeling.tiny import (
    ATSS,
    CASCADE,
    FCOS,
    FPN,
    PROPOSALS,
    RETINANET,
    record,
    tiny_config,
    tiny_model,
)

SIZE = (96, 128)


def config(*sizes: int, flip: bool = True, fusion: str = "nms", max_size: int = 4000):
    cfg = get_cfg()
    cfg.TEST.AUG.MIN_SIZES, cfg.TEST.AUG.MAX_SIZE = sizes, max_size
    cfg.TEST.AUG.FLIP, cfg.TEST.AUG.FUSION = flip, fusion
    return cfg


class BrightSpot(nn.Module):
    """Finds the bright rectangle of each image, if there is one; of class 0."""

    test_nms_thresh = 0.5

    def __init__(self, legacy_plus_one: bool = False, scores: tuple[float, ...] = ()) -> None:
        super().__init__()
        self.legacy_plus_one = legacy_plus_one
        self.scores = list(scores)
        self.seen: list[tuple[int, int]] = []
        self.register_buffer("pixel_mean", torch.zeros(3, 1, 1))

    def forward(self, batched_inputs):
        return [{"instances": self.detect(item)} for item in batched_inputs]

    def detect(self, item) -> Instances:
        size = tuple(item["image"].shape[1:])
        assert (item["height"], item["width"]) == size
        self.seen.append(size)
        bright = item["image"].float().mean(dim=0) > 127
        boxes = torch.zeros(0, 4)
        if bright.any():
            y, x = (bright.any(dim=d).nonzero() for d in (1, 0))
            last = 0 if self.legacy_plus_one else 1
            edges = [x.min(), y.min(), x.max() + last, y.max() + last]
            boxes = torch.stack(edges)[None].float()
        score = self.scores.pop(0) if self.scores else 0.5
        return Instances(
            size,
            pred_boxes=Boxes(boxes),
            scores=torch.full((len(boxes),), score),
            pred_classes=torch.zeros(len(boxes), dtype=torch.int64),
        )


def spot(box: list[int] | None, size: tuple[int, int] = SIZE, **more):
    image = torch.zeros(3, *size, dtype=torch.uint8)
    if box:
        image[:, box[1] : box[3], box[0] : box[2]] = 255
    return {"image": image, **more}


def test_views() -> None:
    image = torch.arange(3 * 40 * 80).reshape(3, 40, 80).to(torch.uint8)
    views = DatasetMapperTTA([20, 40, 100], max_size=120, flip=True)(
        {"image": image, "height": 400, "width": 800, "image_id": 7}
    )
    sizes = [tuple(view["image"].shape) for view in views]
    assert sizes == [(3, 20, 40)] * 2 + [(3, 40, 80)] * 2 + [(3, 60, 120)] * 2
    assert torch.equal(views[2]["image"], image)
    assert torch.equal(views[3]["image"], image.flip(2))
    assert all(view["image_id"] == 7 for view in views)
    box = views[1]["transforms"].apply_box(np.array([[0.0, 0, 200, 400]]))
    assert box.tolist() == [[30.0, 0.0, 40.0, 20.0]]
    assert views[1]["transforms"].inverse().apply_box(box).tolist() == [[0.0, 0.0, 200.0, 400.0]]


def test_views_without_flip() -> None:
    views = DatasetMapperTTA(config(20, flip=False))({"image": torch.zeros(3, 40, 80)})
    assert [view["transforms"].flip for view in views] == [False]


def test_a_view_is_never_empty() -> None:
    (view,) = DatasetMapperTTA([2], max_size=2, flip=False)({"image": torch.zeros(3, 1, 100)})
    assert view["image"].shape == (3, 1, 2)


@pytest.mark.parametrize("sizes", [[], [0, 20]])
def test_bad_sizes(sizes: list[int]) -> None:
    with pytest.raises(ValueError, match=r"TEST.AUG.MIN_SIZES needs at least one length"):
        DatasetMapperTTA(sizes, max_size=100, flip=True)


@pytest.mark.parametrize("fusion", ["nms", "vote"])
@pytest.mark.parametrize("legacy", [False, True])
def test_all_views_find_the_same_place(fusion: str, legacy: bool) -> None:
    model = BrightSpot(legacy)
    detector = GeneralizedRCNNWithTTA(config(48, 96, 192, fusion=fusion), model)
    (output,) = detector([spot([16, 32, 48, 64], height=192, width=256)])
    assert model.seen == [(48, 64)] * 2 + [(96, 128)] * 2 + [(192, 256)] * 2
    found = output["instances"]
    last = 1 if legacy else 0
    assert found.image_size == (192, 256)
    torch.testing.assert_close(
        found.pred_boxes.tensor, torch.tensor([[32.0, 64, 96 - last, 128 - last]])
    )
    assert found.scores.tolist() == [0.5]


def test_nothing_found() -> None:
    for fusion in ("nms", "vote"):
        detector = GeneralizedRCNNWithTTA(config(48, 96, fusion=fusion), BrightSpot())
        found = detector([spot(None)])[0]["instances"]
        assert len(found) == 0
        assert found.pred_boxes.tensor.shape == (0, 4)


def test_views_of_one_size_go_together() -> None:
    sizes: list[int] = []

    class Watched(BrightSpot):
        def forward(self, batched_inputs):
            sizes.append(len(batched_inputs))
            return super().forward(batched_inputs)

    detector = GeneralizedRCNNWithTTA(config(48, 48, 96), Watched(), batch_size=3)
    detector([spot([16, 32, 48, 64])])
    assert sizes == [3, 1, 2]


@pytest.mark.parametrize(
    ("boxes", "scores", "classes", "expected"),
    [
        ([], [], [], [[0.0, 0, 10, 10]]),  # nobody votes: the winner stays
        ([[0.0, 0, 10, 10]], [0.0], [0], [[0.0, 0, 10, 10]]),  # a vote of no weight
        ([[0.0, 0, 10, 10], [0, 0, 10, 6]], [0.6, 0.2], [0, 0], [[0.0, 0, 10, 9]]),
        ([[0.0, 0, 10, 10], [0, 0, 10, 6]], [0.6, 0.2], [0, 1], [[0.0, 0, 10, 10]]),
        ([[0.0, 0, 10, 10], [5, 5, 5, 5]], [0.6, 0.2], [0, 0], [[0.0, 0, 10, 10]]),  # no area
        ([[0.0, 0, 10, 10], [0, 0, 10, 5]], [0.6, 0.2], [0, 0], [[0.0, 0, 10, 10]]),  # IoU 0.5
    ],
)
def test_vote(boxes: list, scores: list, classes: list, expected: list) -> None:
    winner, zero = torch.tensor([[0.0, 0, 10, 10]]), torch.zeros(1, dtype=torch.int64)
    got = vote(
        winner,
        zero,
        torch.tensor(boxes).reshape(-1, 4),
        torch.tensor(scores),
        torch.tensor(classes, dtype=torch.int64),
        0.5,
    )
    torch.testing.assert_close(got, torch.tensor(expected))


def test_no_winner_no_vote() -> None:
    none, some = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
    assert vote(none, some, none, torch.zeros(0), some, 0.5).shape == (0, 4)


ARCHITECTURES = {
    "RetinaNet": (RETINANET,),
    "ATSS": (ATSS,),
    "FCOS": (FCOS,),
    "Faster": (FPN,),
    "Cascade": (FPN, CASCADE),
}


@pytest.mark.parametrize("fusion", ["nms", "vote"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_detector(name: str, fusion: str) -> None:
    cfg = tiny_config(*ARCHITECTURES[name])
    model = tiny_model(cfg).eval()
    aug = ["TEST.AUG.MIN_SIZES", (64, 96), "TEST.AUG.FUSION", fusion]
    cfg.merge_from_list(aug)
    found = GeneralizedRCNNWithTTA(cfg, model)([record(SIZE, height=192, width=256)])
    instances = found[0]["instances"]
    assert 0 < len(instances) <= cfg.TEST.DETECTIONS_PER_IMAGE
    boxes: Tensor = instances.pred_boxes.tensor
    assert boxes.isfinite().all()
    assert (boxes >= 0).all()
    assert (boxes <= torch.tensor([256.0, 192, 256, 192])).all()
    assert torch.equal(instances.scores, instances.scores.sort(descending=True).values)


@pytest.mark.parametrize("name", ["ATSS", "Faster"])
def test_one_view_is_the_detector_itself(name: str) -> None:
    cfg = tiny_config(*ARCHITECTURES[name])
    model = tiny_model(cfg).eval()
    cfg.merge_from_list(["TEST.AUG.MIN_SIZES", (96,), "TEST.AUG.FLIP", False])
    cfg.TEST.OPTIMIZE = False
    image = record(SIZE)
    with torch.no_grad():
        alone = model([image])[0]["instances"]
    found = GeneralizedRCNNWithTTA(cfg, model)([image])[0]["instances"]
    assert len(found) == len(alone)
    torch.testing.assert_close(found.scores, alone.scores)
    torch.testing.assert_close(found.pred_boxes.tensor, alone.pred_boxes.tensor)
    assert torch.equal(found.pred_classes, alone.pred_classes)


def test_the_twin_finds_the_same() -> None:
    cfg = tiny_config(RETINANET)
    model = tiny_model(cfg).eval()
    cfg.TEST.AUG.MIN_SIZES = (64, 96)
    results = []
    for optimize in (False, True):
        cfg.TEST.OPTIMIZE = optimize
        results.append(GeneralizedRCNNWithTTA(cfg, model)([record(SIZE)])[0]["instances"])
    torch.testing.assert_close(results[0].scores, results[1].scores, rtol=1e-3, atol=1e-3)


def test_no_parameter_twice() -> None:
    cfg = tiny_config(RETINANET)
    model = tiny_model(cfg)
    names = GeneralizedRCNNWithTTA(cfg, model).state_dict().keys()
    assert names == {f"model.{name}" for name in model.state_dict()}


def test_only_detectors_of_classes() -> None:
    cfg = tiny_config(FPN, PROPOSALS)
    with pytest.raises(ValueError, match=r"ProposalNetwork finds none; set TEST.AUG.ENABLED False"):
        GeneralizedRCNNWithTTA(cfg, tiny_model(cfg))


def test_unknown_fusion() -> None:
    with pytest.raises(ValueError, match=r"TEST.AUG.FUSION 'mean' is none of nms, vote"):
        GeneralizedRCNNWithTTA(config(96, fusion="mean"), BrightSpot())


def test_record_without_image() -> None:
    with pytest.raises(ValueError, match="has no 'image'"):
        GeneralizedRCNNWithTTA(config(96), BrightSpot())([{"file_name": "a.jpg"}])


def test_a_users_own_views() -> None:
    def upright_only(item):
        size = tuple(item["image"].shape[1:])
        return [{**item, "transforms": ResizeFlip(size, size, False)}]

    model = BrightSpot()
    detector = GeneralizedRCNNWithTTA(config(96), model, tta_mapper=upright_only)
    found = detector([spot([16, 32, 48, 64])])[0]["instances"]
    assert model.seen == [SIZE]
    assert found.pred_boxes.tensor.tolist() == [[16.0, 32, 48, 64]]


MASKS = [("MODEL.MASK_ON", True), ("MODEL.ROI_MASK_HEAD.NUM_CONV", 1)]


@pytest.mark.parametrize("flip", [False, True])
def test_masks_are_the_mean_of_the_views(flip: bool) -> None:
    cfg = tiny_config(FPN, MASKS)
    model = build_model(cfg).eval()
    model.load_state_dict(tiny_model(tiny_config(FPN)).state_dict(), strict=False)
    cfg.merge_from_list(["TEST.AUG.MIN_SIZES", (96,), "TEST.AUG.FLIP", flip])
    cfg.TEST.OPTIMIZE = False
    image = record(SIZE)
    found = GeneralizedRCNNWithTTA(cfg, model)([image])[0]["instances"]
    assert found.pred_masks.shape == (len(found), *SIZE)
    assert found.pred_masks.dtype == torch.bool
    assert model.roi_heads.mask_on
    if not flip:
        with torch.no_grad():
            alone = model([image])[0]["instances"]
        assert len(found) == len(alone)
        assert (found.pred_masks != alone.pred_masks).float().mean() < 1e-3


def test_methods_that_programs_for_detectron2_override() -> None:
    calls: list[str] = []

    class Mine(GeneralizedRCNNWithTTA):
        def __init__(self, cfg, model):
            nn.Module.__init__(self)
            self.cfg, self.model, self.batch_size = cfg.clone(), model, 2
            self.tta_mapper = DatasetMapperTTA(cfg)

        def _get_augmented_inputs(self, input):
            calls.append("inputs")
            return super()._get_augmented_inputs(input)

        def _get_augmented_boxes(self, augmented_inputs, tfms):
            calls.append("boxes")
            boxes, scores, classes = super()._get_augmented_boxes(augmented_inputs, tfms)
            return boxes, list(scores), list(classes)  # lists, as detectron2's

        def _batch_inference(self, batched_inputs, detected_instances=None):
            calls.append("inference")
            return super()._batch_inference(batched_inputs, detected_instances)

        def _merge_detections(self, all_boxes, all_scores, all_classes, shape_hw):
            calls.append("merge")
            return super()._merge_detections(all_boxes, all_scores, all_classes, shape_hw)

        def _inference_one_image(self, input):
            with self._turn_off_roi_heads(["mask_on", "nothing"]):
                return super()._inference_one_image(input)

    detector = Mine(config(48, 96), BrightSpot())
    (output,) = detector([spot([16, 32, 48, 64])])
    torch.testing.assert_close(
        output["instances"].pred_boxes.tensor, torch.tensor([[16.0, 32, 48, 64]])
    )
    assert calls == ["inputs", "boxes", "inference", "merge"]
    assert len(detector([spot(None)])[0]["instances"]) == 0
