"""The table of every probe: what it means, its fields, their shapes in symbols.

A shape is a list of symbols: ``N R_l 4``. ``[L] N R_l 4`` is a list over levels of such tensors,
``{F} N C_f h_f w_f`` a dict over features. A symbol has one value wherever it occurs, as long as
its scope lasts; with an index (``R_l``) one value for each level. ``K+1`` and ``4*k`` are meant as
they read. :mod:`lucidet.inspection.stage_shapes` holds traces to this table.
"""

from __future__ import annotations

from lucidet.inspection.stage_types import CHAPTERS, SYMBOLS, Chapter, Field, Stage
from lucidet.inspection.stages_masks import MASKS_AND_KEYPOINTS, RESULTS

__all__ = ["CHAPTERS", "STAGES", "SYMBOLS", "Chapter", "Field", "Stage", "chapter_of"]

_IMAGE = Field("number of the image in the batch", "", "int")
_MATCHED = "of each anchor, its ground-truth box; valid only where labels == 1"
_LABELS = "1 positive, 0 background, -1 ignored in the loss"
_QUALITY = "highest IoU with a ground-truth box"
_BOXES = "XYXY, pixels of the resized image"

STAGES: dict[str, Stage] = {
    "config.values": Stage(
        "config",
        "Effective config",
        "Defaults, then _BASE_ files, the config file, and the command line.",
        {
            "rows": Field("key, value, origin, read", None, "any"),
            "schedule": Field("learning rate over the run", None, "any"),
        },
        "config",
    ),
    "model.tree": Stage(
        "model",
        "Module tree",
        "FLOPs count a multiplication with its addition as 2; the time is of this one pass, "
        "watching included.",
        {"rows": Field("one a module", None, "any"), "weights": Field("where from", None, "text")},
        "model",
    ),
    "input.read": Stage(
        "input",
        "As read",
        "The file decoded, turned upright, channels in the order of INPUT.FORMAT.",
        {
            "record": Field("the dataset's record, with its annotations", None, "any"),
            "image": Field("0..255, channels in the order of INPUT.FORMAT", "h w c", "int"),
        },
        "read",
    ),
    "input.transform": Stage(
        "input",
        "After a transform",
        "One augmentation moved the image and its boxes together.",
        {
            "transform": Field("with its parameters", None, "text"),
            "image": Field("0..255", "h w c", "int"),
            "boxes": Field("XYXY, pixels of this image, not clipped yet", "B 4", "float", True),
        },
        "transform",
    ),
    "input.batch": Stage(
        "input",
        "Normalized and padded",
        "(image - PIXEL_MEAN) / PIXEL_STD; zeros to the right and below up to a common size.",
        {
            "images": Field("normalized", "N c H W", "float"),
            "image_sizes": Field("height, width of each image without padding", None, "any"),
        },
        "batch",
        opens=("*",),
    ),
    "backbone.features": Stage(
        "backbone",
        "Feature maps",
        "Mean absolute activation of each map, drawn on the image at the map's stride.",
        {"features": Field("by name, finest first", "{F} N C_f h_f w_f", "float")},
        "features",
    ),
    "anchors.grid": Stage(
        "anchors",
        "The grid",
        "The shapes of one location, repeated at every location: some reach outside of the image.",
        {
            "anchors": Field("XYXY, pixels of the padded batch", "[L] R_l 4", "float"),
            "strides": Field("pixels between locations, a number a level", None, "any"),
            "cell_anchors": Field("shapes around the origin", "[L] A_l 4", "float"),
        },
        "anchors",
    ),
    "assign.atss": Stage(
        "assign",
        "ATSS: candidates and thresholds",
        "Of every level the anchors nearest to the center of a ground-truth box are candidates; "
        "those with an IoU of at least mean + standard deviation, and their center inside, are "
        "positive.",
        {
            "image": _IMAGE,
            "candidates": Field("indices of anchors", "m q", "int"),
            "ious": Field("0..1, with their ground-truth box", "m q", "float"),
            "thresholds": Field("mean + standard deviation of the IoUs", "m", "float"),
            "positive": Field("reaches the threshold, center inside", "m q", "bool"),
        },
        "atss",
    ),
    "rpn.assign": Stage(
        "assign",
        "RPN: assignment",
        "An anchor is positive if its IoU with a ground-truth box is high, or the highest of that "
        "box (a low-quality match); background if it is low with all; between them it is ignored.",
        {
            "image": _IMAGE,
            "matched_idxs": Field(_MATCHED, "R", "int"),
            "labels": Field(_LABELS, "R", "int"),
            "quality": Field(_QUALITY, "R", "float"),
            "gt_boxes": Field(_BOXES, "M 4", "float"),
            "anchors": Field("XYXY, pixels of the padded batch", "[L] R_l 4", "float"),
        },
        "assign",
    ),
    "rpn.sample": Stage(
        "assign",
        "RPN: sampled anchors",
        "Positives are few and negatives many: a fixed number is sampled at random, at most half "
        "of it positive.",
        {"image": _IMAGE, "labels": Field("as above; -1: not sampled", "R", "int")},
        "sample",
    ),
    "dense.assign": Stage(
        "assign",
        "Assignment",
        "All anchors are in the losses, except those ignored: nothing is sampled.",
        {
            "image": _IMAGE,
            "matched_idxs": Field(_MATCHED, "R", "int"),
            "labels": Field(_LABELS, "R", "int"),
            "quality": Field(_QUALITY, "R", "float"),
            "gt_boxes": Field(_BOXES, "M 4", "float"),
            "gt_classes": Field("0..K-1", "M", "int"),
            "anchors": Field("XYXY, pixels of the padded batch", "[L] R_l 4", "float"),
        },
        "assign",
    ),
    "rpn.head": Stage(
        "head",
        "RPN head",
        "One objectness logit and four deltas for each anchor.",
        {
            "logits": Field("objectness before the sigmoid", "[L] N R_l", "float"),
            "deltas": Field("dx, dy, dw, dh", "[L] N R_l 4", "float"),
        },
        "dense_head",
    ),
    "dense.head": Stage(
        "head",
        "Dense head",
        "K class logits and four deltas for each anchor; some heads add a centerness.",
        {
            "logits": Field("class scores before the sigmoid", "[L] N R_l K", "float"),
            "deltas": Field("offsets, or distances to the sides", "[L] N R_l 4", "float"),
            "centerness": Field("before the sigmoid", "[L] N R_l", "float", True),
        },
        "dense_head",
    ),
    "rpn.decode": Stage(
        "proposals",
        "After top-k, before clipping",
        "The anchors with the highest logits of each level, moved by their deltas.",
        {
            "image": _IMAGE,
            "boxes": Field("XYXY, may reach outside", "n 4", "float"),
            "logits": Field("objectness", "n", "float"),
            "levels": Field("index of the level", "n", "int"),
        },
        "boxes",
        opens=("n", "u", "P"),
    ),
    "rpn.candidates": Stage(
        "proposals",
        "After clipping, before NMS",
        "Clipped to the image; boxes without area are dropped.",
        {
            "image": _IMAGE,
            "boxes": Field(_BOXES, "u 4", "float"),
            "scores": Field("objectness logits", "u", "float"),
            "levels": Field("index of the level", "u", "int"),
        },
        "boxes",
    ),
    "rpn.proposals": Stage(
        "proposals",
        "After NMS: proposals",
        "Of boxes that overlap, the best is kept (within a level); then the best of all levels.",
        {
            "image": _IMAGE,
            "boxes": Field(_BOXES, "P 4", "float"),
            "logits": Field("objectness, highest first", "P", "float"),
            "keep": Field("indices into the candidates", "P", "int"),
        },
        "rpn_nms",
    ),
    "dense.candidates": Stage(
        "proposals",
        "Candidates before NMS",
        "The best anchor-class pairs of each level above the score threshold, decoded.",
        {
            "image": _IMAGE,
            "boxes": Field(_BOXES, "E 4", "float"),
            "scores": Field("0..1", "E", "float"),
            "classes": Field("0..K-1", "E", "int"),
        },
        "boxes",
        opens=("E",),
    ),
    "roi.assign": Stage(
        "roi",
        "Proposals: assignment",
        "A proposal with IoU 0.5 or more takes the class of its ground-truth box; the others are "
        "background. The ground-truth boxes themselves are among the proposals.",
        {
            "image": _IMAGE,
            "matched_idxs": Field(_MATCHED, "T", "int"),
            "labels": Field(_LABELS, "T", "int"),
            "quality": Field(_QUALITY, "T", "float"),
            "proposals": Field(_BOXES, "T 4", "float"),
            "gt_boxes": Field(_BOXES, "M 4", "float"),
        },
        "roi_assign",
        opens=("T", "S"),
    ),
    "roi.sample": Stage(
        "roi",
        "Sampled proposals",
        "A fixed number, at most a quarter of it foreground.",
        {
            "image": _IMAGE,
            "indices": Field("into the proposals", "S", "int"),
            "classes": Field("0..K-1, K: background", "S", "int"),
            "foreground": Field("matched to a ground-truth box", "S", "bool"),
        },
        "roi_sample",
    ),
    "roi.levels": Stage(
        "roi",
        "Level of each region",
        "Large regions take coarse maps: level = 4 + log2(size / 224), within those there are.",
        {
            "boxes": Field("image number, then XYXY", "Q 5", "float"),
            "levels": Field("index of the pooler's level", "Q", "int"),
        },
        "roi_levels",
        opens=("Q",),
    ),
    "roi.pool": Stage(
        "roi",
        "What ROIAlign saw",
        "Each region, whatever its size, becomes a grid of the same size.",
        {"features": Field("bilinear samples of the maps", "Q D S_h S_w", "float")},
        "roi_pool",
    ),
    "roi.head": Stage(
        "roi",
        "ROI head",
        "K + 1 class logits, background last, and four deltas for each class (or for all).",
        {
            "scores": Field("before the softmax", "Q K+1", "float"),
            "deltas": Field("dx, dy, dw, dh, times the coder's weights", "Q 4*k", "float"),
        },
        "roi_head",
    ),
    **MASKS_AND_KEYPOINTS,
    "loss.term": Stage(
        "loss",
        "Loss terms",
        "value = sum / normalizer x weight.",
        {
            "name": Field("key in the losses", None, "text"),
            "sum": Field("over anchors or proposals", "", "float"),
            "normalizer": Field("what it is divided by", "", "any"),
            "weight": Field("factor from the config", "", "any"),
            "value": Field("what is added to the total loss", "", "float"),
        },
        "losses",
    ),
    "loss.gradients": Stage(
        "loss",
        "Gradients",
        "L2 norm of the gradient of every parameter; frozen parameters have none.",
        {"rows": Field("one a parameter: name, norm of weight and gradient", None, "any")},
        "gradients",
    ),
    "loss.optimizer": Stage(
        "loss",
        "Optimizer",
        "Parameters that share a learning rate and a weight decay form a group.",
        {
            "name": Field("class", None, "text"),
            "groups": Field("rates, decay, number of parameters", None, "any"),
        },
        "optimizer",
    ),
    "detections.nms": Stage(
        "detections",
        "Final NMS",
        "Within a class the best box is kept, others that overlap it are suppressed.",
        {
            "image": _IMAGE,
            "boxes": Field(_BOXES, "E 4", "float"),
            "scores": Field("0..1", "E", "float"),
            "classes": Field("0..K-1", "E", "int"),
            "keep": Field("indices of the kept, highest score first", "G", "int"),
            "rows": Field("the proposal that each candidate comes from", "E", "int", True),
            "all_boxes": Field(
                "of each proposal and class, before any threshold", "J 4*k", "float", True
            ),
            "all_scores": Field("of each proposal, background last", "J K+1", "float", True),
        },
        "final_nms",
    ),
    "detections.final": Stage(
        "detections",
        "On the original image",
        "Scaled to the size of the file, beside the annotations.",
        {
            "image": _IMAGE,
            "boxes": Field("XYXY, pixels of the original image", "i 4", "float"),
            "scores": Field("0..1, highest first", "i", "float"),
            "classes": Field("0..K-1", "i", "int"),
        },
        "final",
    ),
    **RESULTS,
}


def chapter_of(event_name: str) -> str:
    """Return the chapter of a probe.

    Raises:
        KeyError: the table has no such probe.
    """
    if event_name not in STAGES:
        raise KeyError(f"no stage {event_name!r}; known are {', '.join(STAGES)}")
    return STAGES[event_name].chapter
