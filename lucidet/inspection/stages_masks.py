"""The rows of the table of stages for masks and keypoints."""

from __future__ import annotations

from lucidet.inspection.stage_types import Field, Stage

__all__ = ["MASKS_AND_KEYPOINTS", "RESULTS"]

_IMAGE = Field("number of the image in the batch", "", "int")
_BOXES = "XYXY, pixels of the resized image"

MASKS_AND_KEYPOINTS: dict[str, Stage] = {
    "mask.targets": Stage(
        "roi",
        "Masks: targets and logits",
        "What of the ground-truth mask lies inside each foreground proposal, stretched to a "
        "square, beside what the mask head computes for the proposal's class.",
        {
            "image": _IMAGE,
            "boxes": Field(_BOXES, "o 4", "float"),
            "classes": Field("0..K-1", "o", "int"),
            "targets": Field("the location belongs to the object", "o s s"),
            "logits": Field("of the proposal's class, before the sigmoid", "o s s", "float"),
        },
        "mask_targets",
    ),
    "mask.head": Stage(
        "roi",
        "Masks inside the boxes",
        "For each detection the probability of every location of its box to belong to the object.",
        {
            "image": _IMAGE,
            "boxes": Field(_BOXES, "G 4", "float"),
            "classes": Field("0..K-1", "G", "int"),
            "masks": Field("of the detection's class, 0..1", "G s s", "float"),
        },
        "mask_head",
    ),
    "keypoint.targets": Stage(
        "roi",
        "Keypoints: targets and heat maps",
        "Each keypoint inside a proposal is one location of the heat map: the target of a softmax "
        "over all locations.",
        {
            "image": _IMAGE,
            "boxes": Field(_BOXES, "o 4", "float"),
            "keypoints": Field("x, y (resized image), visibility", "o j 3", "float"),
            "targets": Field("row * s + column; 0 where not valid", "o j", "int"),
            "valid": Field("labelled, and inside the proposal", "o j", "bool"),
            "logits": Field("heat maps before the softmax", "o j s s", "float"),
        },
        "keypoint_targets",
    ),
    "keypoint.head": Stage(
        "roi",
        "Heat maps inside the boxes",
        "The highest location of each heat map is the keypoint.",
        {
            "image": _IMAGE,
            "boxes": Field(_BOXES, "G 4", "float"),
            "keypoints": Field("x, y (resized image), probability", "G j 3", "float"),
            "logits": Field("heat maps before the softmax", "G j s s", "float"),
        },
        "keypoint_head",
    ),
}

RESULTS: dict[str, Stage] = {
    "detections.masks": Stage(
        "detections",
        "Masks on the original image",
        "Each mask stretched over its box; a pixel belongs to the object from probability 0.5 on.",
        {
            "image": _IMAGE,
            "boxes": Field("XYXY, pixels of the original image", "v 4", "float"),
            "classes": Field("0..K-1", "v", "int"),
            "scores": Field("0..1, highest first", "v", "float"),
            "masks": Field("of the first detections", "v h w", "bool"),
        },
        "pasted_masks",
    ),
    "detections.keypoints": Stage(
        "detections",
        "Keypoints on the original image",
        "Scaled to the size of the file.",
        {
            "image": _IMAGE,
            "boxes": Field("XYXY, pixels of the original image", "i 4", "float"),
            "keypoints": Field("x, y (original image), probability", "i j 3", "float"),
        },
        "final_keypoints",
    ),
}
