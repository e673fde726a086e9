"""Every config key with its default: `_C`.

Names and defaults are detectron2's, plus lucidet's own keys. A key says here: what it means, its
unit, and what a special value (0, -1, "") does. Sizes are pixels of the resized image unless it
says otherwise. A name that ends in _TRAIN or _TEST holds for that mode only.
"""

from __future__ import annotations

from lucidet.config.defaults_dense import add_dense_detectors
from lucidet.config.defaults_model import (
    add_anchors_and_rpn,
    add_backbone,
    add_masks_and_keypoints,
    add_roi_heads,
)
from lucidet.config.defaults_solver import add_solver
from lucidet.config.defaults_unbuilt import add_unbuilt
from lucidet.config.node import CfgNode as CN

_C = CN()

# Generation of the key names; 2 is the only one that is read.
_C.VERSION = 2

_C.MODEL = CN()
# cuda, cuda:1, cpu or mps; where the machine has no such device, it is said and the CPU is used
_C.MODEL.DEVICE = "cuda"
# Name in META_ARCH_REGISTRY: GeneralizedRCNN, ProposalNetwork, RetinaNet, ATSS or FCOS
_C.MODEL.META_ARCHITECTURE = "GeneralizedRCNN"
# Checkpoint to start from: path, https://, detectron2://, catalog:// or torchvision:// address;
# "" starts from random weights
_C.MODEL.WEIGHTS = ""
# Subtracted from each channel, in the order of INPUT.FORMAT; its length is the number of channels.
# Default: mean of ImageNet in BGR, values 0..255.
_C.MODEL.PIXEL_MEAN = [103.530, 116.280, 123.675]
# Divides each channel after that. 1 for the MSRA and Detectron backbones, whose first convolution
# has it built in; [57.375, 57.120, 58.395] (ImageNet, BGR) for others.
_C.MODEL.PIXEL_STD = [1.0, 1.0, 1.0]
# True: boxes of width x2 - x1 + 1, for weights trained with maskrcnn-benchmark or the ATSS
# authors' code
_C.MODEL.LEGACY_PLUS_ONE = False
# What the model's classes are in the data set: one entry a class of the model, the data set's
# class (from 0) or -1 where it has none and such detections are dropped. []: they are the same.
_C.MODEL.CLASS_MAP = []

add_backbone(_C)
add_anchors_and_rpn(_C)
add_roi_heads(_C)
add_masks_and_keypoints(_C)
add_dense_detectors(_C)
add_unbuilt(_C)

# ---- images ------------------------------------------------------------------------------------
_C.INPUT = CN()
# Lengths of the image's shorter side, pixels; one is drawn per image
_C.INPUT.MIN_SIZE_TRAIN = (800,)
# "choice": one of MIN_SIZE_TRAIN; "range": any length between its two numbers
_C.INPUT.MIN_SIZE_TRAIN_SAMPLING = "choice"
# Bound of the longer side, pixels; the image is made smaller where needed
_C.INPUT.MAX_SIZE_TRAIN = 1333
# The same when testing; 0 leaves images as they are
_C.INPUT.MIN_SIZE_TEST = 800
_C.INPUT.MAX_SIZE_TEST = 1333
# Flip half of the training images: horizontal, vertical or none
_C.INPUT.RANDOM_FLIP = "horizontal"
# Train on random crops
_C.INPUT.CROP = CN()
_C.INPUT.CROP.ENABLED = False
# relative (share of the sides), relative_range (share drawn between SIZE and 1), absolute
# (pixels), absolute_range (pixels drawn between the two numbers of SIZE)
_C.INPUT.CROP.TYPE = "relative_range"
# (height, width): shares in (0, 1] or pixels
_C.INPUT.CROP.SIZE = [0.9, 0.9]
# Channels and their order as the model gets them: BGR, RGB, L or another mode of PIL
_C.INPUT.FORMAT = "BGR"
# Kind of mask annotations; masks are not built
_C.INPUT.MASK_FORMAT = "polygon"

# ---- data sets ---------------------------------------------------------------------------------
_C.DATASETS = CN()
# Registered names; several are joined
_C.DATASETS.TRAIN = ()
_C.DATASETS.TEST = ()
# Precomputed proposals are not built: these stay empty
_C.DATASETS.PROPOSAL_FILES_TRAIN = ()
_C.DATASETS.PROPOSAL_FILES_TEST = ()
_C.DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TRAIN = 2000
_C.DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TEST = 1000

_C.DATALOADER = CN()
# Worker processes for each training process; 0 loads in the process itself
_C.DATALOADER.NUM_WORKERS = 4
# Put wide images with wide ones and tall with tall: less padding
_C.DATALOADER.ASPECT_RATIO_GROUPING = True
# TrainingSampler, RepeatFactorTrainingSampler or RandomSubsetTrainingSampler
_C.DATALOADER.SAMPLER_TRAIN = "TrainingSampler"
# RepeatFactorTrainingSampler repeats images of categories in fewer than this share of the images
_C.DATALOADER.REPEAT_THRESHOLD = 0.0
# ... by the square root of (threshold / share), else by the quotient itself
_C.DATALOADER.REPEAT_SQRT = True
# RandomSubsetTrainingSampler trains on this share of the images, 0..1
_C.DATALOADER.RANDOM_SUBSET_RATIO = 1.0
# Leave images without objects out of training
_C.DATALOADER.FILTER_EMPTY_ANNOTATIONS = True
# A training image that can't be read or mapped: "stop", or "skip" it and report it
_C.DATALOADER.ON_ERROR = "stop"
# "skip" stops at more different records than this, in each training process
_C.DATALOADER.MAX_SKIPPED = 100

add_solver(_C)

# ---- testing -----------------------------------------------------------------------------------
_C.TEST = CN()
# [[task, metric, value, tolerance], ...], checked after evaluation: [["bbox", "AP", 38.5, 0.2]]
_C.TEST.EXPECTED_RESULTS = []
# Evaluate every so many iterations while training; 0: only at the end
_C.TEST.EVAL_PERIOD = 0
# Keypoints are not built
_C.TEST.KEYPOINT_OKS_SIGMAS = []
# Detections kept of each image, the highest scores first
_C.TEST.DETECTIONS_PER_IMAGE = 100
# Clip the boxes of RetinaNet and FCOS to the image before NMS (torchvision), not after it
_C.TEST.CLIP_BEFORE_NMS = False
# Keep detections of one-stage detectors that clipping left without area (torchvision does)
_C.TEST.KEEP_EMPTY_BOXES = False
# Images in a batch when testing and predicting
_C.TEST.BATCH_SIZE = 1
# Use the optimised inference path (folded norms, memory format); same detections
_C.TEST.OPTIMIZE = True
# Evaluate and predict although weights lack tensors of the model, or have others
_C.TEST.ALLOW_PARTIAL_WEIGHTS = False
# Compute the losses on DATASETS.TEST too, every EVAL_PERIOD
_C.TEST.VAL_LOSS = False
# Test-time augmentation: each image at every size, with its mirror image
_C.TEST.AUG = CN()
_C.TEST.AUG.ENABLED = False
# Lengths of the shorter side, pixels
_C.TEST.AUG.MIN_SIZES = (400, 500, 600, 700, 800, 900, 1000, 1100, 1200)
_C.TEST.AUG.MAX_SIZE = 4000
_C.TEST.AUG.FLIP = True
# How the detections are joined: "nms" keeps the best box, "vote" averages those it suppresses
_C.TEST.AUG.FUSION = "nms"
# Recompute BatchNorm statistics before each evaluation, from NUM_ITER batches
_C.TEST.PRECISE_BN = CN()
_C.TEST.PRECISE_BN.ENABLED = False
_C.TEST.PRECISE_BN.NUM_ITER = 200

# ---- the run -----------------------------------------------------------------------------------
# Checkpoints, logs, results and the config that ran are written here
_C.OUTPUT_DIR = "./output"
# Seed of the random numbers; negative: another one in each run
_C.SEED = -1
# Let cuDNN try its algorithms: pays where all images have one size
_C.CUDNN_BENCHMARK = False
# highest, high or medium precision of float32 products on GPUs; "" leaves PyTorch's setting
_C.FLOAT32_PRECISION = ""
# Draw training images with their boxes every so many iterations; 0: never
_C.VIS_PERIOD = 0
# A place for experiments: readable everywhere as `lucidet.config.global_cfg.HACK`
_C.GLOBAL = CN()
_C.GLOBAL.HACK = 1.0
