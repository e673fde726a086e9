"""Defaults of the backbone, the anchors, the RPN and the ROI heads."""

from __future__ import annotations

from lucidet.config.node import CfgNode as CN


def add_backbone(_C: CN) -> None:
    """Add MODEL.BACKBONE, MODEL.RESNETS, MODEL.FPN and MODEL.TIMM."""
    _C.MODEL.BACKBONE = CN()
    # Name in BACKBONE_REGISTRY
    _C.MODEL.BACKBONE.NAME = "build_resnet_backbone"
    # Freeze this many stages of the five (stem, res2 ... res5); 0 trains all
    _C.MODEL.BACKBONE.FREEZE_AT = 2
    # Pad images to multiples of this, pixels, for a ResNet without a pyramid (torchvision: 32);
    # 0: no padding. A pyramid pads by itself.
    _C.MODEL.BACKBONE.SIZE_DIVISIBILITY = 0
    # Stages of a ResNet (res2 ... res5) that keep no activations at training but compute them
    # anew in the backward pass: less memory, a third more time for each of them
    _C.MODEL.BACKBONE.CHECKPOINT_STAGES = []

    _C.MODEL.RESNETS = CN()
    # Layers: 18, 34, 50, 101 or 152
    _C.MODEL.RESNETS.DEPTH = 50
    # Maps that come out, among stem, res2 ... res5: res4 for C4, res2 ... res5 for FPN
    _C.MODEL.RESNETS.OUT_FEATURES = ["res4"]
    # Groups of the 3x3 convolutions; more than 1 makes a ResNeXt
    _C.MODEL.RESNETS.NUM_GROUPS = 1
    # FrozenBN, BN, SyncBN or GN
    _C.MODEL.RESNETS.NORM = "FrozenBN"
    # Added to the variance in BN and FrozenBN; 0.0 for torchvision's COCO weights of version 1
    _C.MODEL.RESNETS.NORM_EPS = 1e-5
    # Channels of one group in res2; doubled in each later stage
    _C.MODEL.RESNETS.WIDTH_PER_GROUP = 64
    # Stride 2 in the 1x1 convolution (MSRA's weights) or in the 3x3 (all others)
    _C.MODEL.RESNETS.STRIDE_IN_1X1 = True
    # Dilation of res5: 1, or 2, which keeps stride 16
    _C.MODEL.RESNETS.RES5_DILATION = 1
    # Channels out of res2, doubled in each later stage; 64 for depths 18 and 34
    _C.MODEL.RESNETS.RES2_OUT_CHANNELS = 256
    _C.MODEL.RESNETS.STEM_OUT_CHANNELS = 64
    # Deformable 3x3 convolutions in res2, res3, res4, res5
    _C.MODEL.RESNETS.DEFORM_ON_PER_STAGE = [False, False, False, False]
    # Their samples are weighted too: deformable v2, arXiv 1811.11168
    _C.MODEL.RESNETS.DEFORM_MODULATED = False
    # Groups of channels with offsets of their own
    _C.MODEL.RESNETS.DEFORM_NUM_GROUPS = 1

    _C.MODEL.FPN = CN()
    # Backbone maps that enter, each of twice the stride of the one before
    _C.MODEL.FPN.IN_FEATURES = []
    _C.MODEL.FPN.OUT_CHANNELS = 256
    # "" (none), BN, SyncBN or GN
    _C.MODEL.FPN.NORM = ""
    # The way down is added ("sum") or averaged ("avg") with the lateral map
    _C.MODEL.FPN.FUSE_TYPE = "sum"
    # Where P6 and P7 of the one-stage detectors start: "res5" (RetinaNet) or "p5" (ATSS, FCOS)
    _C.MODEL.FPN.TOP_BLOCK_IN_FEATURE = "res5"
    # Numbers of the levels, one for each of IN_FEATURES; empty: log2 of their strides. Given, maps
    # may have equal strides, as the last two of MobileNetV3 in torchvision's detectors.
    _C.MODEL.FPN.LEVELS = []

    # For build_mobilenet_backbone and build_mobilenet_fpn_backbone: MobileNetV3 large
    _C.MODEL.MOBILENET = CN()
    # Maps that come out, among c0 ... c5 at strides 2, 4, 8, 16, 32, 32
    _C.MODEL.MOBILENET.OUT_FEATURES = ["c4", "c5"]
    # FrozenBN or BN
    _C.MODEL.MOBILENET.NORM = "FrozenBN"
    # Added to the variance: 1e-5 in torchvision's detectors, 1e-3 in its classifiers
    _C.MODEL.MOBILENET.NORM_EPS = 1e-5

    # For build_timm_backbone, build_timm_fpn_backbone, build_retinanet_timm_fpn_backbone
    _C.MODEL.TIMM = CN()
    # A model that gives feature maps, as in timm.list_models(); maps are named by stride: res2 ...
    _C.MODEL.TIMM.NAME = "resnet18"
    # Which of the model's maps, counted from its finest; empty: those at strides 4 to 32
    _C.MODEL.TIMM.OUT_INDICES = []
    # Load timm's weights over the network
    _C.MODEL.TIMM.PRETRAINED = False
    # "FrozenBN" fixes the statistics of the BatchNorms; "" leaves the model's norms as they are
    _C.MODEL.TIMM.NORM = ""


def add_anchors_and_rpn(_C: CN) -> None:
    """Add MODEL.ANCHOR_GENERATOR, MODEL.PROPOSAL_GENERATOR and MODEL.RPN."""
    _C.MODEL.ANCHOR_GENERATOR = CN()
    # DefaultAnchorGenerator or RotatedAnchorGenerator
    _C.MODEL.ANCHOR_GENERATOR.NAME = "DefaultAnchorGenerator"
    # Square roots of the anchors' areas, pixels: a list per feature map, or one list for all
    _C.MODEL.ANCHOR_GENERATOR.SIZES = [[32, 64, 128, 256, 512]]
    # Height / width: a list per feature map, or one list for all
    _C.MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS = [[0.5, 1.0, 2.0]]
    # Degrees, for RotatedAnchorGenerator
    _C.MODEL.ANCHOR_GENERATOR.ANGLES = [[-90, 0, 90]]
    # Centre of the first anchor in strides from the image's corner, 0 <= OFFSET < 1
    _C.MODEL.ANCHOR_GENERATOR.OFFSET = 0.0
    # Round the anchors' corners to whole pixels (torchvision)
    _C.MODEL.ANCHOR_GENERATOR.ROUND = False
    # Cells lie floor(image's side / cells along it) pixels apart, as measured on each batch
    # (torchvision), instead of the map's nominal stride
    _C.MODEL.ANCHOR_GENERATOR.MEASURE_STRIDES = False

    _C.MODEL.PROPOSAL_GENERATOR = CN()
    # RPN (PrecomputedProposals and RRPN are not built)
    _C.MODEL.PROPOSAL_GENERATOR.NAME = "RPN"
    # Proposals whose width or height is not above this are dropped, pixels
    _C.MODEL.PROPOSAL_GENERATOR.MIN_SIZE = 0.0

    _C.MODEL.RPN = CN()
    # Name in RPN_HEAD_REGISTRY
    _C.MODEL.RPN.HEAD_NAME = "StandardRPNHead"
    # Maps with anchors: p2 ... p6 with FPN
    _C.MODEL.RPN.IN_FEATURES = ["res4"]
    # Anchors further outside the image than this many pixels don't train; -1: all train
    _C.MODEL.RPN.BOUNDARY_THRESH = -1
    # IoU with the best object: below the first number background, from the second on object
    _C.MODEL.RPN.IOU_THRESHOLDS = [0.3, 0.7]
    # Labels of these three ranges: 0 background, -1 ignored, 1 object
    _C.MODEL.RPN.IOU_LABELS = [0, -1, 1]
    # Anchors of an image that enter the loss, and the largest share of objects among them
    _C.MODEL.RPN.BATCH_SIZE_PER_IMAGE = 256
    _C.MODEL.RPN.POSITIVE_FRACTION = 0.5
    # smooth_l1, giou, diou or ciou
    _C.MODEL.RPN.BBOX_REG_LOSS_TYPE = "smooth_l1"
    _C.MODEL.RPN.BBOX_REG_LOSS_WEIGHT = 1.0
    # Factors of the targets (dx, dy, dw, dh)
    _C.MODEL.RPN.BBOX_REG_WEIGHTS = (1.0, 1.0, 1.0, 1.0)
    # Where smooth L1 goes from square to straight; 0 is L1
    _C.MODEL.RPN.SMOOTH_L1_BETA = 0.0
    # Weight of both RPN losses
    _C.MODEL.RPN.LOSS_WEIGHT = 1.0
    # Candidates that go into NMS, for each level of an image
    _C.MODEL.RPN.PRE_NMS_TOPK_TRAIN = 12000
    _C.MODEL.RPN.PRE_NMS_TOPK_TEST = 6000
    # Proposals that come out, for each image (all levels together)
    _C.MODEL.RPN.POST_NMS_TOPK_TRAIN = 2000
    _C.MODEL.RPN.POST_NMS_TOPK_TEST = 1000
    # A box whose IoU with a better one is above this is dropped
    _C.MODEL.RPN.NMS_THRESH = 0.7
    # Candidates whose objectness, 0..1, is below this don't enter NMS; 0: all do
    _C.MODEL.RPN.SCORE_THRESH = 0.0
    # NMS ranks candidates by probability instead of logit (torchvision): where float32 cannot tell
    # two probabilities apart, the order differs
    _C.MODEL.RPN.RANK_PROBABILITIES = False
    # Divide the losses by the anchors really sampled (torchvision) instead of
    # BATCH_SIZE_PER_IMAGE * images; they differ where an image has too few anchors
    _C.MODEL.RPN.NORMALIZE_BY_SAMPLED = False
    # Channels of the head's 3x3 convolutions, one number each; -1: as many as come in
    _C.MODEL.RPN.CONV_DIMS = [-1]


def add_roi_heads(_C: CN) -> None:
    """Add MODEL.ROI_HEADS, MODEL.ROI_BOX_HEAD and MODEL.ROI_BOX_CASCADE_HEAD."""
    _C.MODEL.ROI_HEADS = CN()
    # Res5ROIHeads (C4), StandardROIHeads or CascadeROIHeads (FPN, DC5)
    _C.MODEL.ROI_HEADS.NAME = "Res5ROIHeads"
    # Classes without background
    _C.MODEL.ROI_HEADS.NUM_CLASSES = 80
    # Maps that ROIs are pooled from: p2 ... p5 with FPN
    _C.MODEL.ROI_HEADS.IN_FEATURES = ["res4"]
    # A proposal is an object where its IoU reaches this, else background
    _C.MODEL.ROI_HEADS.IOU_THRESHOLDS = [0.5]
    _C.MODEL.ROI_HEADS.IOU_LABELS = [0, 1]
    # Proposals of an image that enter the loss, and the largest share of objects among them
    _C.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 512
    _C.MODEL.ROI_HEADS.POSITIVE_FRACTION = 0.25
    # Detections need a score above this, 0..1
    _C.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.05
    # A detection whose IoU with a better one of its class is above this is dropped
    _C.MODEL.ROI_HEADS.NMS_THRESH_TEST = 0.5
    # Detections narrower or lower than this after clipping, pixels of the resized image, are
    # dropped before NMS (torchvision: 0.01); 0: none are
    _C.MODEL.ROI_HEADS.MIN_BOX_SIZE_TEST = 0.0
    # Objects join the proposals at training
    _C.MODEL.ROI_HEADS.PROPOSAL_APPEND_GT = True

    _C.MODEL.ROI_BOX_HEAD = CN()
    # Name in ROI_BOX_HEAD_REGISTRY, FastRCNNConvFCHead; not used by Res5ROIHeads
    _C.MODEL.ROI_BOX_HEAD.NAME = ""
    # smooth_l1, giou, diou or ciou
    _C.MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE = "smooth_l1"
    _C.MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_WEIGHT = 1.0
    # Factors of the targets (dx, dy, dw, dh), which make their variance about 1
    _C.MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
    # Where smooth L1 goes from square to straight; 0 is L1
    _C.MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA = 0.0
    # Cells of the pooled map, a side
    _C.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = 14
    # Samples of a cell, a side; 0: as many as the ROI's size asks for
    _C.MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO = 0
    # ROIAlignV2 (pixel centres at 0.5), ROIAlign (at 0) or ROIPool
    _C.MODEL.ROI_BOX_HEAD.POOLER_TYPE = "ROIAlignV2"
    # Convolutions, then fully connected layers, and their channels
    _C.MODEL.ROI_BOX_HEAD.NUM_CONV = 0
    _C.MODEL.ROI_BOX_HEAD.CONV_DIM = 256
    _C.MODEL.ROI_BOX_HEAD.NUM_FC = 0
    _C.MODEL.ROI_BOX_HEAD.FC_DIM = 1024
    # Norm of the convolutions: "" (none), BN, SyncBN or GN
    _C.MODEL.ROI_BOX_HEAD.NORM = ""
    # One box for all classes instead of one for each
    _C.MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG = False
    # Later heads train on the boxes that this head predicts
    _C.MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES = False
    # Loss on a drawn subset of the classes (LVIS); not built
    _C.MODEL.ROI_BOX_HEAD.USE_FED_LOSS = False
    # Each class by itself (sigmoid) instead of softmax
    _C.MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE = False
    _C.MODEL.ROI_BOX_HEAD.FED_LOSS_FREQ_WEIGHT_POWER = 0.5
    _C.MODEL.ROI_BOX_HEAD.FED_LOSS_NUM_CLASSES = 50

    # Cascade R-CNN (ROI_HEADS.NAME CascadeROIHeads): a stage for each entry
    _C.MODEL.ROI_BOX_CASCADE_HEAD = CN()
    _C.MODEL.ROI_BOX_CASCADE_HEAD.BBOX_REG_WEIGHTS = (
        (10.0, 10.0, 5.0, 5.0),
        (20.0, 20.0, 10.0, 10.0),
        (30.0, 30.0, 15.0, 15.0),
    )
    _C.MODEL.ROI_BOX_CASCADE_HEAD.IOUS = (0.5, 0.6, 0.7)


def add_masks_and_keypoints(_C: CN) -> None:
    """Add MODEL.MASK_ON, MODEL.KEYPOINT_ON and the heads that they turn on."""
    # Masks of the objects (Mask R-CNN): read from annotations, trained, predicted
    _C.MODEL.MASK_ON = False
    # Keypoints of the objects (Keypoint R-CNN), likewise
    _C.MODEL.KEYPOINT_ON = False

    _C.MODEL.ROI_MASK_HEAD = CN()
    # Name in ROI_MASK_HEAD_REGISTRY
    _C.MODEL.ROI_MASK_HEAD.NAME = "MaskRCNNConvUpsampleHead"
    # As in ROI_BOX_HEAD; not used by Res5ROIHeads, whose masks share the boxes' features.
    # POOLER_TYPE "": the head gets the feature maps as they are
    _C.MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION = 14
    _C.MODEL.ROI_MASK_HEAD.POOLER_SAMPLING_RATIO = 0
    _C.MODEL.ROI_MASK_HEAD.POOLER_TYPE = "ROIAlignV2"
    # 3x3 convolutions before the one that doubles the side, and the channels of all of them
    _C.MODEL.ROI_MASK_HEAD.NUM_CONV = 0
    _C.MODEL.ROI_MASK_HEAD.CONV_DIM = 256
    # Norm of the 3x3 convolutions: "" (none), BN, SyncBN or GN
    _C.MODEL.ROI_MASK_HEAD.NORM = ""
    # One mask for all classes instead of one for each
    _C.MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK = False
    # Train on how much of each location the mask covers, 0..1 (torchvision), instead of on whether
    # it covers half of it
    _C.MODEL.ROI_MASK_HEAD.SOFT_TARGETS = False
    # Paste masks into boxes rounded to whole pixels (torchvision)
    _C.MODEL.ROI_MASK_HEAD.PASTE_WHOLE_PIXELS = False

    _C.MODEL.ROI_KEYPOINT_HEAD = CN()
    # Name in ROI_KEYPOINT_HEAD_REGISTRY
    _C.MODEL.ROI_KEYPOINT_HEAD.NAME = "KRCNNConvDeconvUpsampleHead"
    # As in ROI_MASK_HEAD
    _C.MODEL.ROI_KEYPOINT_HEAD.POOLER_RESOLUTION = 14
    _C.MODEL.ROI_KEYPOINT_HEAD.POOLER_SAMPLING_RATIO = 0
    _C.MODEL.ROI_KEYPOINT_HEAD.POOLER_TYPE = "ROIAlignV2"
    # Channels of the 3x3 convolutions, one number each
    _C.MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS = (512,) * 8
    # Keypoints of an object; COCO's persons have 17
    _C.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS = 17
    # Training images have at least this many labelled keypoints
    _C.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE = 1
    # Divide the loss by the visible keypoints of the batch, instead of by a fixed number:
    # NUM_KEYPOINTS times the foreground that could have been sampled
    _C.MODEL.ROI_KEYPOINT_HEAD.NORMALIZE_LOSS_BY_VISIBLE_KEYPOINTS = True
    _C.MODEL.ROI_KEYPOINT_HEAD.LOSS_WEIGHT = 1.0
