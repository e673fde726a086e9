"""Names of detectron2 that lucidet has no use for: they import, and using one says why not.

Programs for boxes often name parts for masks or keypoints among their imports. :data:`GROUPS` is
the whole list; the module where detectron2 has a name says ``Name = absent("Name")``.
"""

from __future__ import annotations

from typing import Any, NamedTuple, NoReturn

__all__ = ["GROUPS", "absent"]


class Group(NamedTuple):
    """Names that are absent for one reason.

    Attributes:
        purpose: what they are for.
        names: detectron2's.
        instead: what to do, for the end of the message.
    """

    purpose: str
    names: tuple[str, ...]
    instead: str = ""


GROUPS = (
    Group(
        "Cityscapes' own measure",
        ("CityscapesInstanceEvaluator",),
        "evaluate its JSON in COCO's format with COCOEvaluator",
    ),
    Group(
        "semantic segmentation",
        (
            "ASPP",
            "CityscapesSemSegEvaluator",
            "SemSegEvaluator",
            "SemanticSegmentor",
            "build_sem_seg_head",
            "load_sem_seg",
        ),
    ),
    Group(
        "panoptic segmentation",
        ("COCOPanopticEvaluator", "PanopticFPN", "register_coco_panoptic_separated"),
    ),
    Group(
        "rotated boxes",
        ("ROIAlignRotated", "RROIHeads", "RRPN", "RotatedCOCOEvaluator", "roi_align_rotated"),
    ),
    Group("LVIS", ("LVISEvaluator",), "evaluate its JSON with COCOEvaluator"),
    Group("the federated loss of LVIS", ("get_fed_loss_cls_weights",)),
    Group("proposals from files", ("load_proposals_into_dataset", "transform_proposals")),
    Group(
        "lazy configs",
        ("LazyCall", "LazyConfig", "instantiate"),
        "write the config as YAML, or build the model in Python",
    ),
    Group(
        "lazy configs",
        ("MViT", "SimpleFeaturePyramid", "SwinTransformer", "ViT"),
        "MODEL.BACKBONE.NAME 'build_timm_fpn_backbone' builds such backbones",
    ),
    Group("lazy configs", ("get_vit_lr_decay_rate",)),
    Group(
        "export",
        (
            "Caffe2Model",
            "Caffe2Tracer",
            "ONNXTracer",
            "STABLE_ONNX_OPSET_VERSION",
            "TracingAdapter",
            "add_export_config",
            "dump_torchscript_IR",
            "scripting_with_instances",
        ),
        "torch.jit.trace records a model for images of one size",
    ),
    Group(
        "detectron2 before 0.4",
        ("FastRCNNOutputs",),
        "FastRCNNOutputLayers.losses and .inference do what its methods did",
    ),
)


class _Absent(type):
    """The type of an absent name: neither it nor a subclass can be called."""

    reason: str

    def __call__(cls, *args: Any, **kwargs: Any) -> NoReturn:
        raise NotImplementedError(cls.reason)

    def __getattr__(cls, name: str) -> NoReturn:
        raise AttributeError(f"no {name!r}: {cls.reason}")


def absent(name: str) -> Any:
    """Return what stands for `name`: a class to import, subclass and ask for with isinstance.

    >>> RRPN = absent("RRPN")
    >>> isinstance(3, RRPN)
    False
    >>> RRPN([])
    Traceback (most recent call last):
    ...
    NotImplementedError: RRPN is for rotated boxes; lucidet detects boxes, masks and keypoints only

    Args:
        name: one of GROUPS.
    """
    group = next(group for group in GROUPS if name in group.names)
    reason = f"{name} is for {group.purpose}; lucidet detects boxes, masks and keypoints only"
    return _Absent(name, (), {"reason": f"{reason}: {group.instead}" if group.instead else reason})
