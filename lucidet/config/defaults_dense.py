"""Defaults of the one-stage detectors: RetinaNet, ATSS and FCOS."""

from __future__ import annotations

from lucidet.config.node import CfgNode as CN


def add_dense_detectors(_C: CN) -> None:
    """Add MODEL.RETINANET, MODEL.ATSS and MODEL.FCOS."""
    _add_retinanet(_C)
    _add_atss(_C)
    _add_fcos(_C)


def _add_retinanet(_C: CN) -> None:
    _C.MODEL.RETINANET = CN()
    # Classes without background
    _C.MODEL.RETINANET.NUM_CLASSES = 80
    _C.MODEL.RETINANET.IN_FEATURES = ["p3", "p4", "p5", "p6", "p7"]
    # 3x3 convolutions in each tower, before the one that predicts
    _C.MODEL.RETINANET.NUM_CONVS = 4
    # Norm in the towers: "" (none), GN, or BN/SyncBN with statistics for each level
    _C.MODEL.RETINANET.NORM = ""
    # IoU: below the first number background, from the second on object, between them ignored
    _C.MODEL.RETINANET.IOU_THRESHOLDS = [0.4, 0.5]
    _C.MODEL.RETINANET.IOU_LABELS = [0, -1, 1]
    # Score of every class and anchor at the start of training: sets the last bias
    _C.MODEL.RETINANET.PRIOR_PROB = 0.01
    # At test, for each level: scores above this, at most so many, then NMS by class
    _C.MODEL.RETINANET.SCORE_THRESH_TEST = 0.05
    _C.MODEL.RETINANET.TOPK_CANDIDATES_TEST = 1000
    _C.MODEL.RETINANET.NMS_THRESH_TEST = 0.5
    # Factors of the targets (dx, dy, dw, dh)
    _C.MODEL.RETINANET.BBOX_REG_WEIGHTS = (1.0, 1.0, 1.0, 1.0)
    # Focal loss, arXiv 1708.02002: exponent, and weight of positives against negatives
    _C.MODEL.RETINANET.FOCAL_LOSS_GAMMA = 2.0
    _C.MODEL.RETINANET.FOCAL_LOSS_ALPHA = 0.25
    # Where smooth L1 goes from square to straight; 0 is L1
    _C.MODEL.RETINANET.SMOOTH_L1_LOSS_BETA = 0.1
    # smooth_l1, giou, diou or ciou
    _C.MODEL.RETINANET.BBOX_REG_LOSS_TYPE = "smooth_l1"
    # Losses are divided by the number of positives: "ema", a moving average over iterations;
    # "batch", this batch's; "image", each image's own, then the mean of the images (torchvision)
    _C.MODEL.RETINANET.LOSS_NORMALIZER = "ema"


def _add_atss(_C: CN) -> None:
    """Add MODEL.ATSS: arXiv 1912.02424, names of its authors' config where they have one."""
    _C.MODEL.ATSS = CN()
    # Classes without background
    _C.MODEL.ATSS.NUM_CLASSES = 80
    _C.MODEL.ATSS.IN_FEATURES = ["p3", "p4", "p5", "p6", "p7"]
    # 3x3 convolutions in each tower, and their norm
    _C.MODEL.ATSS.NUM_CONVS = 4
    _C.MODEL.ATSS.NORM = "GN"
    # Score of every class and anchor at the start of training: sets the last bias
    _C.MODEL.ATSS.PRIOR_PROB = 0.01
    # One square root of area for each level, pixels
    _C.MODEL.ATSS.ANCHOR_SIZES = (64, 128, 256, 512, 1024)
    # Height / width
    _C.MODEL.ATSS.ASPECT_RATIOS = (1.0,)
    # Sizes of each anchor: ANCHOR_SIZES * OCTAVE ** (i / SCALES_PER_OCTAVE)
    _C.MODEL.ATSS.SCALES_PER_OCTAVE = 1
    _C.MODEL.ATSS.OCTAVE = 2.0
    # Pixels of the image for a cell of each level
    _C.MODEL.ATSS.ANCHOR_STRIDES = (8, 16, 32, 64, 128)
    # Deformable convolution in the last layer of each tower
    _C.MODEL.ATSS.USE_DCN_IN_TOWER = False
    # Which anchors are positive: ATSS, TOPK, IoU, or SSC (FCOS' ranges of size)
    _C.MODEL.ATSS.POSITIVE_TYPE = "ATSS"
    # ATSS: the candidates of an object, the cells of each level nearest to its centre; TOPK: its
    # positives
    _C.MODEL.ATSS.TOPK = 9
    # For POSITIVE_TYPE IoU: as MODEL.RETINANET
    _C.MODEL.ATSS.IOU_THRESHOLDS = [0.4, 0.5]
    _C.MODEL.ATSS.IOU_LABELS = [0, -1, 1]
    # BOX: shift and scale an anchor; POINT: distances from its centre to the four sides
    _C.MODEL.ATSS.REGRESSION_TYPE = "BOX"
    # Factors of the targets (dx, dy, dw, dh) for BOX
    _C.MODEL.ATSS.BBOX_REG_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
    # Focal loss: weight of positives against negatives, and exponent
    _C.MODEL.ATSS.FOCAL_LOSS_ALPHA = 0.25
    _C.MODEL.ATSS.FOCAL_LOSS_GAMMA = 2.0
    # Weight of the GIoU loss
    _C.MODEL.ATSS.REG_LOSS_WEIGHT = 2.0
    # At test, for each level: class scores above this, at most so many, then NMS by class
    _C.MODEL.ATSS.SCORE_THRESH_TEST = 0.05
    _C.MODEL.ATSS.TOPK_CANDIDATES_TEST = 1000
    _C.MODEL.ATSS.NMS_THRESH_TEST = 0.6


def _add_fcos(_C: CN) -> None:
    """Add MODEL.FCOS: arXiv 1904.01355 with its later improvements."""
    _C.MODEL.FCOS = CN()
    # Classes without background
    _C.MODEL.FCOS.NUM_CLASSES = 80
    _C.MODEL.FCOS.IN_FEATURES = ["p3", "p4", "p5", "p6", "p7"]
    # 3x3 convolutions in each tower, and their norm
    _C.MODEL.FCOS.NUM_CONVS = 4
    _C.MODEL.FCOS.NORM = "GN"
    # Deformable convolution in the last layer of each tower
    _C.MODEL.FCOS.USE_DCN_IN_TOWER = False
    # Score of every class and point at the start of training: sets the last bias
    _C.MODEL.FCOS.PRIOR_PROB = 0.01
    # Positive points lie within so many strides of the object's centre; 0: anywhere in the box
    _C.MODEL.FCOS.CENTER_SAMPLING_RADIUS = 1.5
    # The largest distance to a side, pixels, goes to p3 up to the first number, and so on;
    # above the last to p7
    _C.MODEL.FCOS.SIZES_OF_INTEREST = [64, 128, 256, 512]
    # Focal loss: weight of positives against negatives, and exponent
    _C.MODEL.FCOS.FOCAL_LOSS_ALPHA = 0.25
    _C.MODEL.FCOS.FOCAL_LOSS_GAMMA = 2.0
    # At test, for each level: scores (with centerness) above this, at most so many, then NMS by
    # class
    _C.MODEL.FCOS.SCORE_THRESH_TEST = 0.2
    _C.MODEL.FCOS.TOPK_CANDIDATES_TEST = 1000
    _C.MODEL.FCOS.NMS_THRESH_TEST = 0.6
    # Losses are divided by the number of positives: "ema", a moving average over iterations;
    # "batch", this batch's (torchvision)
    _C.MODEL.FCOS.LOSS_NORMALIZER = "ema"
    # Where a location lies in its cell, in strides: 0.5 the middle, 0.0 the corner (torchvision)
    _C.MODEL.FCOS.OFFSET = 0.5
    # A learnt factor of each level's distances, as in the paper; detectron2 and torchvision have
    # none
    _C.MODEL.FCOS.LEARN_SCALES = False
