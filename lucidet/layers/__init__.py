"""Layers and functions on tensors: pure maths, no config and no Instances."""

from lucidet._absent import absent
from lucidet.layers.batch_norm import (
    CycleBatchNormList,
    FrozenBatchNorm2d,
    LayerNorm,
    NaiveSyncBatchNorm,
    get_norm,
)
from lucidet.layers.blocks import CNNBlockBase, DepthwiseSeparableConv2d
from lucidet.layers.deform_conv import (
    DeformConv,
    ModulatedDeformConv,
    deform_conv,
    modulated_deform_conv,
)
from lucidet.layers.fast.roi_align import fast_roi_align, fast_roi_align_levels
from lucidet.layers.losses import (
    ciou_loss,
    diou_loss,
    giou_loss,
    sigmoid_focal_loss,
    sigmoid_focal_loss_jit,
    sigmoid_focal_loss_star,
    smooth_l1_loss,
)
from lucidet.layers.mask_ops import crop_and_resize_masks, paste_masks_in_image
from lucidet.layers.nms import batched_nms, batched_nms_rotated, nms, nms_padded, nms_rotated
from lucidet.layers.roi_align import ROIAlign, roi_align
from lucidet.layers.rotated_boxes import pairwise_iou_rotated
from lucidet.layers.shape_spec import ShapeSpec
from lucidet.layers.wrappers import (
    BatchNorm2d,
    Conv2d,
    ConvTranspose2d,
    Linear,
    cat,
    check_if_dynamo_compiling,
    conv2d_together,
    cross_entropy,
    disable_torch_compiler,
    empty_input_loss_func_wrapper,
    interpolate,
    move_device_like,
    nonzero_tuple,
    shapes_to_tensor,
)

__all__ = [
    "ASPP",
    "BatchNorm2d",
    "CNNBlockBase",
    "Conv2d",
    "ConvTranspose2d",
    "CycleBatchNormList",
    "DeformConv",
    "DepthwiseSeparableConv2d",
    "FrozenBatchNorm2d",
    "LayerNorm",
    "Linear",
    "ModulatedDeformConv",
    "NaiveSyncBatchNorm",
    "ROIAlign",
    "ROIAlignRotated",
    "ShapeSpec",
    "batched_nms",
    "batched_nms_rotated",
    "cat",
    "check_if_dynamo_compiling",
    "conv2d_together",
    "ciou_loss",
    "crop_and_resize_masks",
    "cross_entropy",
    "deform_conv",
    "diou_loss",
    "disable_torch_compiler",
    "empty_input_loss_func_wrapper",
    "fast_roi_align",
    "fast_roi_align_levels",
    "get_norm",
    "giou_loss",
    "interpolate",
    "modulated_deform_conv",
    "move_device_like",
    "nms",
    "nms_padded",
    "nms_rotated",
    "nonzero_tuple",
    "pairwise_iou_rotated",
    "paste_masks_in_image",
    "roi_align",
    "roi_align_rotated",
    "shapes_to_tensor",
    "sigmoid_focal_loss",
    "sigmoid_focal_loss_jit",
    "sigmoid_focal_loss_star",
    "smooth_l1_loss",
]

ASPP = absent("ASPP")
ROIAlignRotated = absent("ROIAlignRotated")
roi_align_rotated = absent("roi_align_rotated")
