"""What is chosen for a dataset, and that typed settings stay."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lucidet.config import CfgNode, get_cfg
from lucidet.config.names import find_config
from lucidet.engine.recipe import DataFacts, Plan, Request, plan_training


def facts(side: float = 60, images: int = 205, image: tuple[int, int] = (640, 480), **more: Any):
    count = 3 * images
    return DataFacts(
        train=("cells_train",),
        test=more.pop("test", ("cells_val",)),
        images=images,
        val_images=87,
        classes=more.pop("classes", ("RBC", "WBC", "Platelets")),
        boxes_per_class=more.pop("boxes_per_class", (count - 2, 1, 1)),
        image_sizes=np.tile(np.array([image], float), (images, 1)),
        box_sizes=np.full((count, 2), side),
        box_images=np.tile(np.array([image], float), (count, 1)),
        **{"most_boxes": 20, **more},
    )


def plan(
    model: str = "faster_rcnn_R_18_FPN",
    data: DataFacts | None = None,
    overrides: tuple[str, ...] = (),
    **request: Any,
) -> Plan:
    cfg = get_cfg()
    cfg.merge_from_file(find_config(model))
    request.setdefault("epochs", 10)
    return plan_training(cfg, Request(model=model, **request), data or facts(), overrides)


@pytest.mark.parametrize(
    ("model", "key"),
    [
        ("faster_rcnn_R_18_FPN", "MODEL.ROI_HEADS.NUM_CLASSES"),
        ("retinanet_R_18_FPN", "MODEL.RETINANET.NUM_CLASSES"),
        ("atss_R_18_FPN", "MODEL.ATSS.NUM_CLASSES"),
        ("fcos_R_50_FPN_1x", "MODEL.FCOS.NUM_CLASSES"),
    ],
)
def test_classes_go_to_the_head_that_is_there(model: str, key: str) -> None:
    done = plan(model, weights="")
    assert done.get(key) == 3
    assert done.cfg.DATASETS.TRAIN == ("cells_train",)
    others = {f"MODEL.{name}.NUM_CLASSES" for name in ("ROI_HEADS", "RETINANET", "ATSS", "FCOS")}
    assert all(done.get(other) == 80 for other in others - {key})


def test_epochs_become_iterations_steps_and_warm_up() -> None:
    solver = plan("faster_rcnn_R_50_FPN_1x", epochs=20, batch=4, weights="").cfg.SOLVER
    assert solver.MAX_ITER == 1025
    assert solver.STEPS == (683, 911)  # 2/3 and 8/9, as in the config
    assert solver.WARMUP_ITERS == 102
    assert pytest.approx(0.02 * 4 / 16) == solver.BASE_LR
    tiny = plan(epochs=0.01).cfg.SOLVER
    assert (tiny.MAX_ITER, tiny.WARMUP_ITERS) == (1, 0)


def test_typed_settings_win_and_the_rest_follows() -> None:
    words = ("SOLVER.MAX_ITER", "40", "SOLVER.IMS_PER_BATCH", "4", "MODEL.RESNETS.NORM", "BN")
    done = plan("faster_rcnn_R_50_FPN_1x", overrides=words, epochs=99, batch=16, weights="")
    solver = done.cfg.SOLVER
    assert (solver.MAX_ITER, solver.IMS_PER_BATCH, solver.STEPS) == (40, 4, (27, 36))
    assert solver.WARMUP_ITERS == 4
    assert pytest.approx(0.02 * 4 / 16) == solver.BASE_LR
    assert done.cfg.MODEL.RESNETS.NORM == "BN"
    rate = plan(overrides=("SOLVER.BASE_LR", "0.5"), batch=2).cfg.SOLVER.BASE_LR
    assert rate == 0.5


def test_random_weights_train_every_layer() -> None:
    model = plan("faster_rcnn_R_50_FPN_1x", weights="").cfg.MODEL
    assert (model.WEIGHTS, model.BACKBONE.FREEZE_AT) == ("", 0)
    assert (model.RESNETS.NORM, model.FPN.NORM) == ("GN", "GN")
    assert model.PIXEL_STD != [1.0, 1.0, 1.0]


def test_pretrained_weights_keep_what_they_were_trained_with() -> None:
    model = plan("faster_rcnn_R_50_FPN_1x").cfg.MODEL
    assert model.WEIGHTS.startswith("detectron2://")
    assert (model.BACKBONE.FREEZE_AT, model.RESNETS.NORM) == (2, "FrozenBN")
    assert model.PIXEL_STD == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("model", ["faster_rcnn_R_18_FPN", "retinanet_R_18_FPN", "atss_R_18_FPN"])
def test_small_models_need_no_download(model: str) -> None:
    assert plan(model).cfg.MODEL.WEIGHTS == ""


@pytest.mark.parametrize(
    ("side", "smallest", "largest"), [(2000, 20, 400), (120, 16, 16), (8, 1, 12)]
)
def test_anchors_follow_the_boxes(side: float, smallest: float, largest: float) -> None:
    done = plan(data=facts(side, image=(2 * 1000, 2000)), size=320)
    assert smallest <= min(done.cfg.MODEL.ANCHOR_GENERATOR.SIZES[0]) <= largest
    # heads of trained weights have one output for each anchor of a location
    assert [len(level) for level in done.cfg.MODEL.ANCHOR_GENERATOR.SIZES] == [2] * 4


def test_small_boxes_get_larger_images() -> None:
    assert plan(data=facts(60)).cfg.INPUT.MAX_SIZE_TRAIN == 320
    assert 384 <= plan(data=facts(24)).cfg.INPUT.MAX_SIZE_TEST <= 512
    # never larger than the files are
    assert plan(data=facts(8, image=(320, 240))).cfg.INPUT.MAX_SIZE_TRAIN == 320
    # enlarging large boxes shows nothing new
    assert plan(data=facts(30, image=(128, 128))).cfg.INPUT.MAX_SIZE_TRAIN == 128
    asked = plan(data=facts(8), size=256).cfg.INPUT
    assert (asked.MIN_SIZE_TRAIN, asked.MAX_SIZE_TRAIN, asked.MIN_SIZE_TEST) == ((256,), 256, 256)


def test_degenerate_data() -> None:
    lone = plan(data=facts(images=1, test=()))
    assert lone.cfg.SOLVER.IMS_PER_BATCH == 1
    assert lone.cfg.DATASETS.TEST == ()
    assert "never" in lone.text()
    flat = plan(data=facts(side=0.0))
    assert "hardly be found" in flat.text()
    assert plan(data=facts(most_boxes=250)).cfg.TEST.DETECTIONS_PER_IMAGE == 400


@pytest.mark.parametrize(
    ("absent", "said"),
    [(0, None), (1, "of class a1"), (8, "a7, a8"), (11, "a7, a8 and 3 more")],
)
def test_classes_without_a_box_are_counted(absent: int, said: str | None) -> None:
    names = tuple(f"a{k}" for k in range(absent + 1))
    done = plan(data=facts(classes=names, boxes_per_class=(615, *[0] * absent)))
    warning = next((w for w in done.warnings if "no box to train on" in w), None)
    assert warning is None if said is None else str(warning).endswith(said)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"epochs": 0}, "--epochs must be positive, got 0"),
        ({"batch": -1}, "--batch must be positive, got -1"),
        ({"size": 8}, "--size is the longer side in pixels, at least 32, got 8"),
    ],
)
def test_options_are_checked(request_: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Request(**request_)
    with pytest.raises(ValueError, match="8 images cannot be split over 3 processes"):
        plan(batch=8, processes=3)


def test_the_summary_is_short_and_the_config_whole() -> None:
    done = plan("retinanet_R_18_FPN")
    assert len(done.text().splitlines()) <= 12
    again = get_cfg()
    again.merge_from_other_cfg(CfgNode.load_cfg(done.cfg.dump()))
    assert again == done.cfg
