"""What maskrcnn-benchmark's keys of INPUT, DATASETS, SOLVER and TEST mean in lucidet's."""

from __future__ import annotations

from lucidet.config.maskrcnn_benchmark.source import Source, Target

_PIXELS = 255.0


def translate_input(source: Source, target: Target) -> None:
    same = ("MIN_SIZE_TRAIN", "MAX_SIZE_TRAIN", "MIN_SIZE_TEST", "MAX_SIZE_TEST")
    target.copy("INPUT", {name: name for name in same})
    span = source["INPUT.MIN_SIZE_RANGE_TRAIN"]
    if span[0] != -1:
        target.set("INPUT.MIN_SIZE_TRAIN", span, "INPUT.MIN_SIZE_RANGE_TRAIN")
        target.set("INPUT.MIN_SIZE_TRAIN_SAMPLING", "range", "INPUT.MIN_SIZE_RANGE_TRAIN")
    bgr = source["INPUT.TO_BGR255"]
    target.set("INPUT.FORMAT", "BGR" if bgr else "RGB", "INPUT.TO_BGR255")
    for name in ("PIXEL_MEAN", "PIXEL_STD"):
        # without TO_BGR255 they are for images of 0..1
        values = [value if bgr else value * _PIXELS for value in source[f"INPUT.{name}"]]
        target.set(f"MODEL.{name}", values, f"INPUT.{name}")
    target.set("INPUT.RANDOM_FLIP", _flip(source), "INPUT.HORIZONTAL_FLIP_PROB_TRAIN")
    for name in ("BRIGHTNESS", "CONTRAST", "SATURATION", "HUE"):
        if source[f"INPUT.{name}"]:
            raise source.refuse(f"INPUT.{name}", "colour changes have no key in lucidet's config")
    names = {name: name for name in ("TRAIN", "TEST")}
    target.copy("DATASETS", names)
    names = {name: name for name in ("NUM_WORKERS", "ASPECT_RATIO_GROUPING")}
    target.copy("DATALOADER", names)


def _flip(source: Source) -> str:
    across, down = "INPUT.HORIZONTAL_FLIP_PROB_TRAIN", "INPUT.VERTICAL_FLIP_PROB_TRAIN"
    if source.gives("INPUT.FLIP_PROB_TRAIN"):
        across = "INPUT.FLIP_PROB_TRAIN"
    chances = (source[across], source[down])
    kinds = {(0.5, 0.0): "horizontal", (0.0, 0.5): "vertical", (0.0, 0.0): "none"}
    if chances not in kinds:
        raise source.refuse(across, f"with {down} {chances[1]}: images flip one way, half of them")
    return kinds[chances]


def translate_solver(source: Source, target: Target) -> None:
    same = (
        *("MAX_ITER", "BASE_LR", "BIAS_LR_FACTOR", "MOMENTUM", "WEIGHT_DECAY", "GAMMA", "STEPS"),
        *("WEIGHT_DECAY_BIAS", "WARMUP_FACTOR", "WARMUP_ITERS", "WARMUP_METHOD"),
        *("CHECKPOINT_PERIOD", "IMS_PER_BATCH"),
    )
    target.copy("SOLVER", {**{name: name for name in same}, "TEST_PERIOD": "TEST.EVAL_PERIOD"})
    # maskrcnn-benchmark treats the weights of norms as all others
    target.set("SOLVER.WEIGHT_DECAY_NORM", source["SOLVER.WEIGHT_DECAY"], "SOLVER.WEIGHT_DECAY")
    if source["SOLVER.DCONV_OFFSETS_LR_FACTOR"] != 1.0:
        raise source.refuse("SOLVER.DCONV_OFFSETS_LR_FACTOR", "only 1 is built")
    if source["DTYPE"] == "float16":
        target.set("SOLVER.AMP.ENABLED", True, "DTYPE")
        target.set("SOLVER.AMP.DTYPE", "fp16", "DTYPE")
    elif source["DTYPE"] != "float32":
        raise source.refuse("DTYPE", "float32 or float16")


def translate_test(source: Source, target: Target, detector: str) -> None:
    key = "TEST.DETECTIONS_PER_IMG"
    if detector == "GeneralizedRCNN":
        key = "MODEL.ROI_HEADS.DETECTIONS_PER_IMG"
    target.set("TEST.DETECTIONS_PER_IMAGE", source[key], key)
    augment = "TEST.BBOX_AUG"
    if source[f"{augment}.ENABLED"]:
        target.set("TEST.AUG.ENABLED", True, f"{augment}.ENABLED")
        sizes = (source["INPUT.MIN_SIZE_TEST"], *source[f"{augment}.SCALES"])
        target.set("TEST.AUG.MIN_SIZES", tuple(dict.fromkeys(sizes)), f"{augment}.SCALES")
        target.set("TEST.AUG.MAX_SIZE", source[f"{augment}.MAX_SIZE"], f"{augment}.MAX_SIZE")
        flip = source[f"{augment}.H_FLIP"] or source[f"{augment}.SCALE_H_FLIP"]
        target.set("TEST.AUG.FLIP", flip, f"{augment}.H_FLIP")
        fusion = "vote" if source[f"{augment}.VOTE"] else "nms"
        target.set("TEST.AUG.FUSION", fusion, f"{augment}.VOTE")
    if source.gives("OUTPUT_DIR"):
        target.set("OUTPUT_DIR", source["OUTPUT_DIR"], "OUTPUT_DIR")
