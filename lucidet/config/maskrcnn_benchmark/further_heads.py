"""What maskrcnn-benchmark's keys of the mask and keypoint heads mean in lucidet's."""

from __future__ import annotations

from lucidet.config.maskrcnn_benchmark.source import Source, Target

__all__ = ["translate_keypoint_head", "translate_mask_head"]


def translate_mask_head(source: Source, target: Target) -> None:
    """Set MODEL.ROI_MASK_HEAD where the file has MASK_ON."""
    head = "MODEL.ROI_MASK_HEAD"
    key = f"{head}.FEATURE_EXTRACTOR"
    convs = list(source[f"{head}.CONV_LAYERS"])
    if source[key] == "ResNet50Conv5ROIFeatureExtractor":
        convs = convs[-1:]  # res5 alone; the layer that doubles the side stays
    elif source[key] != "MaskRCNNFPNFeatureExtractor":
        raise source.refuse(
            key, "the forms are ResNet50Conv5ROIFeatureExtractor, MaskRCNNFPNFeatureExtractor"
        )
    else:
        convs.append(convs[-1])
    _pooler(source, target, head)
    if len(set(convs)) != 1:
        raise source.refuse(f"{head}.CONV_LAYERS", "all layers have the same channels here")
    target.set(f"{head}.NUM_CONV", len(convs) - 1, key)
    target.set(f"{head}.CONV_DIM", convs[0], f"{head}.CONV_LAYERS")
    target.set(f"{head}.NORM", "GN" if source[f"{head}.USE_GN"] else "", f"{head}.USE_GN")
    if source[f"{head}.DILATION"] != 1:
        raise source.refuse(f"{head}.DILATION", "only 1 is built")
    agnostic = "MODEL.CLS_AGNOSTIC_BBOX_REG"
    target.set(f"{head}.CLS_AGNOSTIC_MASK", False, agnostic)  # that is about boxes only there


def translate_keypoint_head(source: Source, target: Target) -> None:
    """Set MODEL.ROI_KEYPOINT_HEAD where the file has KEYPOINT_ON."""
    head = "MODEL.ROI_KEYPOINT_HEAD"
    if source[f"{head}.FEATURE_EXTRACTOR"] != "KeypointRCNNFeatureExtractor":
        raise source.refuse(f"{head}.FEATURE_EXTRACTOR", "it is KeypointRCNNFeatureExtractor")
    _pooler(source, target, head)
    target.copy(head, {"CONV_LAYERS": "CONV_DIMS", "NUM_CLASSES": "NUM_KEYPOINTS"})


def _pooler(source: Source, target: Target, head: str) -> None:
    names = {"POOLER_RESOLUTION": "POOLER_RESOLUTION"}
    names["POOLER_SAMPLING_RATIO"] = "POOLER_SAMPLING_RATIO"
    target.copy(head, names)
    # built into maskrcnn-benchmark: pixel centers at whole numbers
    target.set(f"{head}.POOLER_TYPE", "ROIAlign", "MODEL.META_ARCHITECTURE")
