"""What maskrcnn-benchmark's keys of MODEL mean in lucidet's."""

from __future__ import annotations

import re

from lucidet.config.maskrcnn_benchmark.further_heads import (
    translate_keypoint_head,
    translate_mask_head,
)
from lucidet.config.maskrcnn_benchmark.source import Source, Target
from lucidet.config.maskrcnn_benchmark.training_rules import (
    translate_input,
    translate_solver,
    translate_test,
)

_BODY = re.compile(r"(R|X)-(50|101|152)(?:-(\d+)x(\d+)d)?-(C4|C5|FPN|FPN-RETINANET)")
_BODY_FORMS = "R-50-C4, R-50-C5, R-50-FPN, R-50-FPN-RETINANET, R-101-..., X-101-32x8d-..."
_NORMS = {"FixedBatchNorm": "FrozenBN", "BatchNorm": "BN", "GN": "GN"}
_DENSE = {"ATSS": "ATSS_ON", "FCOS": "FCOS_ON", "RetinaNet": "RETINANET_ON"}


def apply(source: Source, target: Target) -> None:
    """Set every key of `target` that the file, or a default of maskrcnn-benchmark, decides."""
    neck = _backbone(source, target)
    detector = _detector(source, target, neck)
    target.set("MODEL.LEGACY_PLUS_ONE", True, "MODEL.META_ARCHITECTURE")
    if detector not in ("ATSS", "RetinaNet"):
        target.note(
            f"a box is x2 - x1 wide in {detector}, and x2 - x1 + 1 in maskrcnn-benchmark: "
            "MODEL.LEGACY_PLUS_ONE is for ATSS and RetinaNet; boxes differ by up to a pixel"
        )
    if detector == "ATSS":
        _atss(source, target)
    elif detector == "FCOS":
        _fcos(source, target)
    elif detector == "RetinaNet":
        _retinanet(source, target)
    else:
        _rpn(source, target, neck)
        if detector == "GeneralizedRCNN":
            _roi_heads(source, target, neck)
            if source["MODEL.MASK_ON"]:
                translate_mask_head(source, target)
            if source["MODEL.KEYPOINT_ON"]:
                translate_keypoint_head(source, target)
    translate_input(source, target)
    translate_solver(source, target)
    translate_test(source, target, detector)


def _detector(source: Source, target: Target, neck: str) -> str:
    """Set and return META_ARCHITECTURE."""
    if source["MODEL.META_ARCHITECTURE"] != "GeneralizedRCNN":
        raise source.refuse("MODEL.META_ARCHITECTURE", "maskrcnn-benchmark has GeneralizedRCNN")
    on = {name: key for name, key in _DENSE.items() if source[f"MODEL.{key}"]}
    if len(on) > 1:
        raise ValueError(f"{' and '.join(on.values())} are both on; a model is one of them")
    rpn_only = source["MODEL.RPN_ONLY"]
    if not on:
        name, because = "ProposalNetwork" if rpn_only else "GeneralizedRCNN", "MODEL.RPN_ONLY"
        if neck == "FPN-RETINANET":
            raise source.refuse(
                "MODEL.BACKBONE.CONV_BODY", "needs one of ATSS_ON, FCOS_ON, RETINANET_ON"
            )
    else:
        (name, flag) = next(iter(on.items()))
        because = f"MODEL.{flag}"
        if neck != "FPN-RETINANET":
            raise source.refuse(
                "MODEL.BACKBONE.CONV_BODY", f"with {flag} it must end in -FPN-RETINANET"
            )
        if not rpn_only and name != "RetinaNet":
            raise source.refuse(
                "MODEL.RPN_ONLY", f"{name} as a first stage is not built; set RPN_ONLY: True"
            )
    target.set("MODEL.META_ARCHITECTURE", name, because)
    target.set("MODEL.WEIGHTS", source["MODEL.WEIGHT"], "MODEL.WEIGHT")
    target.copy("MODEL", {"DEVICE": "DEVICE", "MASK_ON": "MASK_ON", "KEYPOINT_ON": "KEYPOINT_ON"})
    return name


def _backbone(source: Source, target: Target) -> str:
    """Set BACKBONE, RESNETS and FPN; return what stands on the ResNet: C4, C5, FPN, ..."""
    body_key = "MODEL.BACKBONE.CONV_BODY"
    match = _BODY.fullmatch(source[body_key])
    if match is None:
        raise source.refuse(body_key, f"not built; the forms are {_BODY_FORMS}")
    family, depth, groups, width, neck = match.groups()
    resnets = "MODEL.RESNETS"
    target.set(f"{resnets}.DEPTH", int(depth), body_key)
    target.copy(
        resnets,
        {
            "NUM_GROUPS": "NUM_GROUPS",
            "WIDTH_PER_GROUP": "WIDTH_PER_GROUP",
            "STRIDE_IN_1X1": "STRIDE_IN_1X1",
            "RES5_DILATION": "RES5_DILATION",
            "RES2_OUT_CHANNELS": "RES2_OUT_CHANNELS",
            "STEM_OUT_CHANNELS": "STEM_OUT_CHANNELS",
        },
    )
    stages = list(source[f"{resnets}.STAGE_WITH_DCN"])
    target.set(f"{resnets}.DEFORM_ON_PER_STAGE", stages, f"{resnets}.STAGE_WITH_DCN")
    if any(stages):
        names = {"WITH_MODULATED_DCN": "DEFORM_MODULATED"}
        target.copy(resnets, {**names, "DEFORMABLE_GROUPS": "DEFORM_NUM_GROUPS"})
    if family == "X":
        _resnext(source, target, int(groups or 32), int(width or 8))
    _norms(source, target)
    target.set(
        "MODEL.BACKBONE.FREEZE_AT",
        source["MODEL.BACKBONE.FREEZE_CONV_BODY_AT"],
        "MODEL.BACKBONE.FREEZE_CONV_BODY_AT",
    )
    _neck(source, target, neck)
    padding = "DATALOADER.SIZE_DIVISIBILITY"
    built = 32 if neck.startswith("FPN") else 0
    if source[padding] != built and source.gives(padding):
        target.note(
            f"{source.origin(padding)}: {padding} {source[padding]} has no effect here: images are "
            f"padded to what the backbone needs, {f'a multiple of {built}' if built else 'nothing'}"
        )
    return neck


def _resnext(source: Source, target: Target, groups: int, width: int) -> None:
    """Set what the name X-101-32x8d says, unless the file says it itself."""
    said = {"NUM_GROUPS": groups, "WIDTH_PER_GROUP": width, "STRIDE_IN_1X1": False}
    for name, value in said.items():
        if not source.gives(f"MODEL.RESNETS.{name}"):
            target.set(f"MODEL.RESNETS.{name}", value, "MODEL.BACKBONE.CONV_BODY")


def _norms(source: Source, target: Target) -> None:
    block, stem = "MODEL.RESNETS.TRANS_FUNC", "MODEL.RESNETS.STEM_FUNC"
    norms = [source[block].removeprefix("BottleneckWith"), source[stem].removeprefix("StemWith")]
    if norms[0] not in _NORMS:
        raise source.refuse(block, f"not built; it is BottleneckWith and {', '.join(_NORMS)}")
    if norms[0] != norms[1]:
        raise source.refuse(stem, f"another norm than {block} {source[block]!r}")
    norm = "GN" if source["MODEL.BACKBONE.USE_GN"] else _NORMS[norms[0]]
    target.set("MODEL.RESNETS.NORM", norm, block)
    for key, only in {
        "MODEL.GROUP_NORM.DIM_PER_GP": -1,
        "MODEL.GROUP_NORM.NUM_GROUPS": 32,
        "MODEL.GROUP_NORM.EPSILON": 1e-5,
        "MODEL.FPN.USE_RELU": False,
        "MODEL.USE_SYNCBN": False,
    }.items():
        if source[key] != only:
            raise source.refuse(key, f"only {only} is built")


def _neck(source: Source, target: Target, neck: str) -> None:
    body_key = "MODEL.BACKBONE.CONV_BODY"
    builder = {
        "FPN": "build_resnet_fpn_backbone",
        "FPN-RETINANET": "build_retinanet_resnet_fpn_backbone",
    }.get(neck, "build_resnet_backbone")
    target.set("MODEL.BACKBONE.NAME", builder, body_key)
    maps = {
        "C4": ["res4"],
        "C5": ["res5"],
        "FPN": ["res2", "res3", "res4", "res5"],
        "FPN-RETINANET": ["res3", "res4", "res5"],
    }[neck]
    target.set("MODEL.RESNETS.OUT_FEATURES", maps, body_key)
    key = "MODEL.RESNETS.BACKBONE_OUT_CHANNELS"
    channels, older = source[key], source["MODEL.BACKBONE.OUT_CHANNELS"]
    if not neck.startswith("FPN"):
        return
    if not source.gives(key) and older:
        key, channels = "MODEL.BACKBONE.OUT_CHANNELS", older
    target.set("MODEL.FPN.IN_FEATURES", maps, body_key)
    target.set("MODEL.FPN.OUT_CHANNELS", channels, key)
    if not source.gives(key):
        target.note(
            f"{key} isn't given: the pyramid has {channels} channels, as there; 256 is usual"
        )
    norm = "GN" if source["MODEL.FPN.USE_GN"] else ""
    target.set("MODEL.FPN.NORM", norm, "MODEL.FPN.USE_GN")
    if neck == "FPN-RETINANET":
        top = "res5" if source["MODEL.RETINANET.USE_C5"] else "p5"
        target.set("MODEL.FPN.TOP_BLOCK_IN_FEATURE", top, "MODEL.RETINANET.USE_C5")


def _foreground(source: Source, target: Target, theirs: str, ours: str) -> None:
    """Set a class count: theirs has background in it."""
    if source[theirs] < 2:
        raise source.refuse(theirs, "it counts the background, so it is 2 or more")
    target.set(ours, source[theirs] - 1, theirs)


def _thresholds(source: Source, target: Target, prefix: str) -> None:
    low, high = source[f"{prefix}.BG_IOU_THRESHOLD"], source[f"{prefix}.FG_IOU_THRESHOLD"]
    because = f"{prefix}.FG_IOU_THRESHOLD"
    apart = low != high
    target.set(f"{prefix}.IOU_THRESHOLDS", [low, high] if apart else [high], because)
    target.set(f"{prefix}.IOU_LABELS", [0, -1, 1] if apart else [0, 1], because)


_DENSE_NAMES = {
    "NUM_CONVS": "NUM_CONVS",
    "PRIOR_PROB": "PRIOR_PROB",
    "LOSS_ALPHA": "FOCAL_LOSS_ALPHA",
    "LOSS_GAMMA": "FOCAL_LOSS_GAMMA",
    "INFERENCE_TH": "SCORE_THRESH_TEST",
    "PRE_NMS_TOP_N": "TOPK_CANDIDATES_TEST",
    "NMS_TH": "NMS_THRESH_TEST",
}


def _atss(source: Source, target: Target) -> None:
    atss = "MODEL.ATSS"
    _foreground(source, target, f"{atss}.NUM_CLASSES", f"{atss}.NUM_CLASSES")
    same = (
        *("ANCHOR_SIZES", "ASPECT_RATIOS", "ANCHOR_STRIDES", "OCTAVE"),
        *("SCALES_PER_OCTAVE", "USE_DCN_IN_TOWER", "POSITIVE_TYPE", "TOPK", "REGRESSION_TYPE"),
        "REG_LOSS_WEIGHT",
    )
    target.copy(atss, {**_DENSE_NAMES, **{name: name for name in same}})
    if source[f"{atss}.POSITIVE_TYPE"] == "IoU":
        _thresholds(source, target, atss)


def _fcos(source: Source, target: Target) -> None:
    fcos = "MODEL.FCOS"
    _foreground(source, target, f"{fcos}.NUM_CLASSES", f"{fcos}.NUM_CLASSES")
    same = "CENTER_SAMPLING_RADIUS", "USE_DCN_IN_TOWER"
    target.copy(fcos, {**_DENSE_NAMES, **{name: name for name in same}})
    # built into the authors' code
    target.set(f"{fcos}.LEARN_SCALES", True, "MODEL.FCOS_ON")
    target.set(f"{fcos}.LOSS_NORMALIZER", "batch", "MODEL.FCOS_ON")
    target.note(
        "the box loss counts all positive locations alike; there their centerness weights them"
    )
    target.note(
        f"{fcos}.INFERENCE_TH is compared with the final score, which has the centerness in it; "
        "there with the class score alone"
    )
    built = {
        "IOU_LOSS_TYPE": "giou",
        "NORM_REG_TARGETS": True,
        "CENTERNESS_ON_REG": True,
        "FPN_STRIDES": (8, 16, 32, 64, 128),
    }
    for name, only in built.items():
        if source[f"{fcos}.{name}"] != only:
            target.note(
                f"{source.origin(f'{fcos}.{name}')}: {fcos}.{name} {source[f'{fcos}.{name}']!r} "
                f"has no counterpart: lucidet's FCOS has {only!r}"
            )


def _retinanet(source: Source, target: Target) -> None:
    retinanet = "MODEL.RETINANET"
    _foreground(source, target, f"{retinanet}.NUM_CLASSES", f"{retinanet}.NUM_CLASSES")
    target.copy(retinanet, {**_DENSE_NAMES, "BBOX_REG_BETA": "SMOOTH_L1_LOSS_BETA"})
    target.set(f"{retinanet}.LOSS_NORMALIZER", "batch", "MODEL.RETINANET_ON")  # built in there
    target.note(
        "the box loss is divided by the positives; there by BBOX_REG_WEIGHT (4) times their number"
    )
    _thresholds(source, target, retinanet)
    weights = (10.0, 10.0, 5.0, 5.0)  # built into maskrcnn-benchmark's RetinaNet
    target.set(f"{retinanet}.BBOX_REG_WEIGHTS", weights, "MODEL.RETINANET_ON")
    steps = source[f"{retinanet}.SCALES_PER_OCTAVE"]
    octave = [source[f"{retinanet}.OCTAVE"] ** (step / steps) for step in range(steps)]
    sizes = [[size * scale for scale in octave] for size in source[f"{retinanet}.ANCHOR_SIZES"]]
    _anchors(source, target, retinanet, sizes)
    if source[f"{retinanet}.ANCHOR_STRIDES"] != (8, 16, 32, 64, 128):
        raise source.refuse(f"{retinanet}.ANCHOR_STRIDES", "p3 ... p7 have 8, 16, 32, 64, 128")


def _anchors(source: Source, target: Target, prefix: str, sizes: list[list[float]]) -> None:
    anchors = "MODEL.ANCHOR_GENERATOR"
    target.set(f"{anchors}.SIZES", sizes, f"{prefix}.ANCHOR_SIZES")
    ratios = [list(source[f"{prefix}.ASPECT_RATIOS"])]
    target.set(f"{anchors}.ASPECT_RATIOS", ratios, f"{prefix}.ASPECT_RATIOS")
    target.set(f"{anchors}.OFFSET", 0.5, f"{prefix}.ANCHOR_SIZES")
    target.note(
        "anchors lie at the middle of their cell and are not rounded; maskrcnn-benchmark's lie "
        "half a pixel before it and have whole sides"
    )


def _rpn(source: Source, target: Target, neck: str) -> None:
    rpn, fpn = "MODEL.RPN", neck == "FPN"
    given = source[f"{rpn}.ANCHOR_SIZES"]
    _anchors(source, target, rpn, [[size] for size in given] if fpn else [list(given)])
    maps = ["p2", "p3", "p4", "p5", "p6"] if fpn else ["res" + neck[1]]
    target.set(f"{rpn}.IN_FEATURES", maps, "MODEL.BACKBONE.CONV_BODY")
    _thresholds(source, target, rpn)
    target.copy(
        rpn,
        {
            "STRADDLE_THRESH": "BOUNDARY_THRESH",
            "BATCH_SIZE_PER_IMAGE": "BATCH_SIZE_PER_IMAGE",
            "POSITIVE_FRACTION": "POSITIVE_FRACTION",
            "NMS_THRESH": "NMS_THRESH",
            "PRE_NMS_TOP_N_TRAIN": "PRE_NMS_TOPK_TRAIN",
            "PRE_NMS_TOP_N_TEST": "PRE_NMS_TOPK_TEST",
            "MIN_SIZE": "MODEL.PROPOSAL_GENERATOR.MIN_SIZE",
        },
    )
    for mode in ("TRAIN", "TEST"):
        _proposals(source, target, mode, fpn)
    # built into maskrcnn-benchmark's RPN
    target.set(f"{rpn}.SMOOTH_L1_BETA", 1.0 / 9, "MODEL.META_ARCHITECTURE")
    if source[f"{rpn}.RPN_HEAD"] != "SingleConvRPNHead":
        raise source.refuse(f"{rpn}.RPN_HEAD", "only SingleConvRPNHead is built")


def _proposals(source: Source, target: Target, mode: str, fpn: bool) -> None:
    """Set the number of proposals of an image."""
    key = f"MODEL.RPN.POST_NMS_TOP_N_{mode}"
    number = source[key]
    if fpn:
        key = f"MODEL.RPN.FPN_POST_NMS_TOP_N_{mode}"
        number = source[key]
        if mode == "TRAIN" and source["MODEL.RPN.FPN_POST_NMS_PER_BATCH"]:
            number //= 2  # there it counts for a GPU's batch, which is 2 images in their files
            target.note(
                f"{source.origin(key)}: {key} counts for a batch of one GPU there; "
                f"POST_NMS_TOPK_TRAIN {number} for an image is that of 2 images"
            )
    target.set(f"MODEL.RPN.POST_NMS_TOPK_{mode}", number, key)


def _roi_heads(source: Source, target: Target, neck: str) -> None:
    heads, box = "MODEL.ROI_HEADS", "MODEL.ROI_BOX_HEAD"
    _foreground(source, target, f"{box}.NUM_CLASSES", f"{heads}.NUM_CLASSES")
    _thresholds(source, target, heads)
    maps = ["p2", "p3", "p4", "p5"] if neck == "FPN" else ["res" + neck[1]]
    target.set(f"{heads}.IN_FEATURES", maps, "MODEL.BACKBONE.CONV_BODY")
    target.copy(
        heads,
        {
            "BATCH_SIZE_PER_IMAGE": "BATCH_SIZE_PER_IMAGE",
            "POSITIVE_FRACTION": "POSITIVE_FRACTION",
            "SCORE_THRESH": "SCORE_THRESH_TEST",
            "NMS": "NMS_THRESH_TEST",
            "BBOX_REG_WEIGHTS": f"{box}.BBOX_REG_WEIGHTS",
        },
    )
    target.copy(
        box,
        {
            "POOLER_RESOLUTION": "POOLER_RESOLUTION",
            "POOLER_SAMPLING_RATIO": "POOLER_SAMPLING_RATIO",
        },
    )
    _box_head(source, target)
    agnostic = "MODEL.CLS_AGNOSTIC_BBOX_REG"
    target.set(f"{box}.CLS_AGNOSTIC_BBOX_REG", source[agnostic], agnostic)
    # built into maskrcnn-benchmark: pixel centres at whole numbers, and where L1 begins
    target.set(f"{box}.POOLER_TYPE", "ROIAlign", "MODEL.META_ARCHITECTURE")
    target.set(f"{box}.SMOOTH_L1_BETA", 1.0, "MODEL.META_ARCHITECTURE")
    if source[f"{box}.DILATION"] != 1:
        raise source.refuse(f"{box}.DILATION", "only 1 is built")


def _box_head(source: Source, target: Target) -> None:
    box = "MODEL.ROI_BOX_HEAD"
    key = f"{box}.FEATURE_EXTRACTOR"
    extractor = source[key]
    shapes = {"FPN2MLPFeatureExtractor": (0, 2), "FPNXconv1fcFeatureExtractor": (None, 1)}
    if extractor == "ResNet50Conv5ROIFeatureExtractor":
        target.set("MODEL.ROI_HEADS.NAME", "Res5ROIHeads", key)
        return
    if extractor not in shapes:
        known = ", ".join(["ResNet50Conv5ROIFeatureExtractor", *shapes])
        raise source.refuse(key, f"not built; the forms are {known}")
    convs, layers = shapes[extractor]
    target.set("MODEL.ROI_HEADS.NAME", "StandardROIHeads", key)
    target.set(f"{box}.NAME", "FastRCNNConvFCHead", key)
    target.set(f"{box}.NUM_FC", layers, key)
    target.copy(box, {"MLP_HEAD_DIM": "FC_DIM"})
    if convs is None:
        target.copy(box, {"NUM_STACKED_CONVS": "NUM_CONV", "CONV_HEAD_DIM": "CONV_DIM"})
    norm = "GN" if source[f"{box}.USE_GN"] else ""
    target.set(f"{box}.NORM", norm, f"{box}.USE_GN")
    if norm:
        target.note(f"{box}.USE_GN: only the head's convolutions have a norm, not its fc layers")
