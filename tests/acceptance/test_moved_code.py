"""Programs as people wrote them for detectron2 run when the import is renamed, and only that.

The snippets are short forms of what tutorials and projects do; ``shrink(cfg)`` makes the detector
tiny, which is the only thing added to them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lucidet.data import DatasetCatalog, MetadataCatalog

SIZE = (48, 64)  # height, width


def shrink(cfg: Any) -> Any:
    """Make any detector of the zoo small enough for a test."""
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.WEIGHTS = ""
    cfg.MODEL.RESNETS.STEM_OUT_CHANNELS = cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 8
    cfg.MODEL.RESNETS.WIDTH_PER_GROUP = 4
    cfg.MODEL.RESNETS.NORM = "BN"  # without weights frozen statistics let values explode
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.FPN.OUT_CHANNELS = 8
    cfg.MODEL.RETINANET.NUM_CONVS = 1
    cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 16
    cfg.MODEL.RPN.PRE_NMS_TOPK_TRAIN = cfg.MODEL.RPN.PRE_NMS_TOPK_TEST = 50
    cfg.MODEL.RPN.POST_NMS_TOPK_TRAIN = cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 20
    cfg.INPUT.MIN_SIZE_TRAIN = (48,)
    cfg.INPUT.MIN_SIZE_TEST = 48
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.SOLVER.WARMUP_ITERS = 0
    cfg.SOLVER.STEPS = ()
    return cfg


@pytest.fixture
def run(tmp_path: Path, monkeypatch: Any) -> Iterator[Callable[..., dict[str, Any]]]:
    """Run a snippet in a folder with images 0.jpg .. 3.jpg; return its variables."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for i in range(4):
        Image.fromarray(random.integers(0, 255, (*SIZE, 3), dtype=np.uint8)).save(f"{i}.jpg")
    known = set(DatasetCatalog.list())

    def execute(code: str, **names: Any) -> dict[str, Any]:
        code = code.replace("detectron2", "lucidet")
        space = {"__name__": "moved", "shrink": shrink, "zip": zip, **names}
        exec(compile(code, "moved.py", "exec"), space)
        return space

    yield execute
    for name in set(DatasetCatalog.list()) - known:
        DatasetCatalog.remove(name)
        if name in MetadataCatalog.list():
            MetadataCatalog.remove(name)


BALLOONS = """
import os, random
import numpy as np
from PIL import Image
from detectron2.structures import BoxMode
from detectron2.data import DatasetCatalog, MetadataCatalog

def get_balloon_dicts(img_dir):
    dataset_dicts = []
    for idx in range(4):
        record = {}
        filename = os.path.join(img_dir, f"{idx}.jpg")
        width, height = Image.open(filename).size
        record["file_name"] = filename
        record["image_id"] = idx
        record["height"] = height
        record["width"] = width
        poly = [10.5, 10.5, 40.5, 10.5, 40.5, 40.5, 10.5, 40.5]
        obj = {
            "bbox": [np.min(poly[::2]), np.min(poly[1::2]), np.max(poly[::2]), np.max(poly[1::2])],
            "bbox_mode": BoxMode.XYXY_ABS,
            "segmentation": [poly],
            "category_id": 0,
        }
        record["annotations"] = [obj]
        dataset_dicts.append(record)
    return dataset_dicts

for d in ["train", "val"]:
    DatasetCatalog.register("balloon_" + d, lambda d=d: get_balloon_dicts("."))
    MetadataCatalog.get("balloon_" + d).set(thing_classes=["balloon"])
balloon_metadata = MetadataCatalog.get("balloon_train")
"""

CONFIG = """
from detectron2 import model_zoo
from detectron2.config import get_cfg
cfg = get_cfg()
cfg.merge_from_file(model_zoo.get_config_file("COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml"))
cfg.DATASETS.TRAIN = ("balloon_train",)
cfg.DATASETS.TEST = ()
cfg.DATALOADER.NUM_WORKERS = 2
cfg.SOLVER.IMS_PER_BATCH = 2
cfg.SOLVER.BASE_LR = 0.00025
cfg.SOLVER.MAX_ITER = 2
cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 128
cfg.MODEL.ROI_HEADS.NUM_CLASSES = 1
os.makedirs(cfg.OUTPUT_DIR, exist_ok=True)
shrink(cfg)
"""


@pytest.mark.slow
def test_balloon_tutorial(run: Any) -> None:
    found = run(
        "import detectron2\nfrom detectron2.utils.logger import setup_logger\nsetup_logger()\n"
        + BALLOONS
        + CONFIG
        + """
from detectron2.engine import DefaultPredictor, DefaultTrainer
from detectron2.utils.visualizer import ColorMode, Visualizer
trainer = DefaultTrainer(cfg)
trainer.resume_or_load(resume=False)
trainer.train()

cfg.MODEL.WEIGHTS = os.path.join(cfg.OUTPUT_DIR, "model_final.pth")
cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
predictor = DefaultPredictor(cfg)
for d in random.sample(get_balloon_dicts("."), 2):
    im = np.asarray(Image.open(d["file_name"]))[:, :, ::-1]
    outputs = predictor(im)
    v = Visualizer(im[:, :, ::-1], metadata=balloon_metadata, scale=0.5,
                   instance_mode=ColorMode.IMAGE_BW)
    out = v.draw_instance_predictions(outputs["instances"].to("cpu"))
    picture = out.get_image()[:, :, ::-1]
    truth = Visualizer(im[:, :, ::-1], metadata=balloon_metadata, scale=0.5).draw_dataset_dict(d)
    truth.save("truth.png")

from detectron2.evaluation import COCOEvaluator, inference_on_dataset
from detectron2.data import build_detection_test_loader
evaluator = COCOEvaluator("balloon_val", output_dir="./output")
val_loader = build_detection_test_loader(cfg, "balloon_val")
results = inference_on_dataset(predictor.model, val_loader, evaluator)
"""
    )
    assert "AP50" in found["results"]["bbox"]
    assert found["picture"].ndim == 3
    assert os.path.isfile("truth.png")


@pytest.mark.slow
def test_trainer_with_own_evaluator_mapper_and_loss_hook(run: Any) -> None:
    found = run(
        BALLOONS
        + CONFIG
        + """
import copy, datetime, logging, time
import torch
import detectron2.utils.comm as comm
from detectron2.data import DatasetMapper, build_detection_test_loader, build_detection_train_loader
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T
from detectron2.engine import DefaultTrainer
from detectron2.engine.hooks import HookBase
from detectron2.evaluation import COCOEvaluator, DatasetEvaluators, inference_context
from detectron2.utils.logger import log_every_n_seconds

class LossEvalHook(HookBase):
    def __init__(self, eval_period, model, data_loader):
        self._model = model
        self._period = eval_period
        self._data_loader = data_loader

    def _do_loss_eval(self):
        total = len(self._data_loader)
        losses = []
        for idx, inputs in enumerate(self._data_loader):
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            log_every_n_seconds(logging.INFO, "Loss on {}/{}".format(idx, total), n=5)
            losses.append(self._get_loss(inputs))
        mean_loss = np.mean(losses)
        self.trainer.storage.put_scalar("validation_loss", mean_loss)
        comm.synchronize()
        return losses

    def _get_loss(self, data):
        metrics_dict = self._model(data)
        metrics_dict = {
            k: v.detach().cpu().item() if isinstance(v, torch.Tensor) else float(v)
            for k, v in metrics_dict.items()
        }
        return sum(loss for loss in metrics_dict.values())

    def after_step(self):
        next_iter = self.trainer.iter + 1
        is_final = next_iter == self.trainer.max_iter
        if is_final or (self._period > 0 and next_iter % self._period == 0):
            self._do_loss_eval()
        self.trainer.storage.put_scalars(timetest=12)

def custom_mapper(dataset_dict):
    dataset_dict = copy.deepcopy(dataset_dict)
    image = utils.read_image(dataset_dict["file_name"], format="BGR")
    transform_list = [
        T.Resize((48, 64)),
        T.RandomBrightness(0.8, 1.8),
        T.RandomContrast(0.6, 1.3),
        T.RandomSaturation(0.8, 1.4),
        T.RandomRotation(angle=[90, 90]),
        T.RandomLighting(0.7),
        T.RandomFlip(prob=0.4, horizontal=False, vertical=True),
    ]
    image, transforms = T.apply_transform_gens(transform_list, image)
    dataset_dict["image"] = torch.as_tensor(image.transpose(2, 0, 1).astype("float32"))
    annos = [
        utils.transform_instance_annotations(obj, transforms, image.shape[:2])
        for obj in dataset_dict.pop("annotations")
        if obj.get("iscrowd", 0) == 0
    ]
    instances = utils.annotations_to_instances(annos, image.shape[:2])
    dataset_dict["instances"] = utils.filter_empty_instances(instances)
    return dataset_dict

class MyTrainer(DefaultTrainer):
    @classmethod
    def build_evaluator(cls, cfg, dataset_name, output_folder=None):
        if output_folder is None:
            output_folder = os.path.join(cfg.OUTPUT_DIR, "inference")
        return COCOEvaluator(dataset_name, cfg, True, output_folder)

    @classmethod
    def build_train_loader(cls, cfg):
        return build_detection_train_loader(cfg, mapper=custom_mapper)

    def build_hooks(self):
        hooks = super().build_hooks()
        hooks.insert(-1, LossEvalHook(
            cfg.TEST.EVAL_PERIOD,
            self.model,
            build_detection_test_loader(
                self.cfg, self.cfg.DATASETS.TEST[0], DatasetMapper(self.cfg, True)
            ),
        ))
        return hooks

cfg.DATASETS.TEST = ("balloon_val",)
cfg.TEST.EVAL_PERIOD = 1
trainer = MyTrainer(cfg)
trainer.resume_or_load(resume=False)
results = trainer.train()
history = trainer.storage.history("validation_loss").values()
"""
    )
    assert len(found["history"]) == 2
    assert "AP" in found["results"]["bbox"]


def test_own_roi_heads_and_box_head(run: Any) -> None:
    found = run(
        BALLOONS
        + CONFIG
        + """
import torch
from torch import nn
from detectron2.layers import ShapeSpec
from detectron2.modeling import (
    ROI_BOX_HEAD_REGISTRY, ROI_HEADS_REGISTRY, StandardROIHeads, build_model,
)
from detectron2.structures import Boxes, Instances

@ROI_BOX_HEAD_REGISTRY.register()
class MovedBoxHead(nn.Module):
    def __init__(self, cfg, input_shape: ShapeSpec):
        super().__init__()
        size = input_shape.channels * input_shape.height * input_shape.width
        self.fc = nn.Linear(size, cfg.MODEL.ROI_BOX_HEAD.FC_DIM)
        self._output = ShapeSpec(channels=cfg.MODEL.ROI_BOX_HEAD.FC_DIM)

    @property
    def output_shape(self):
        return self._output

    def forward(self, x):
        return self.fc(torch.flatten(x, start_dim=1)).relu()

@ROI_HEADS_REGISTRY.register()
class MovedROIHeads(StandardROIHeads):
    def __init__(self, cfg, input_shape):
        super().__init__(cfg, input_shape)
        self.quality = nn.Linear(self.box_head.output_shape.channels, 1)

    def _forward_box(self, features, proposals):
        features = [features[f] for f in self.box_in_features]
        box_features = self.box_pooler(features, [x.proposal_boxes for x in proposals])
        box_features = self.box_head(box_features)
        predictions = self.box_predictor(box_features)
        if self.training:
            losses = self.box_predictor.losses(predictions, proposals)
            losses["loss_quality"] = self.quality(box_features).square().mean()
            return losses
        pred_instances, _ = self.box_predictor.inference(predictions, proposals)
        return pred_instances

cfg.MODEL.ROI_HEADS.NAME = "MovedROIHeads"
cfg.MODEL.ROI_BOX_HEAD.NAME = "MovedBoxHead"
model = build_model(cfg)
instances = Instances((48, 64))
instances.gt_boxes = Boxes(torch.tensor([[5.0, 5.0, 30.0, 30.0]]))
instances.gt_classes = torch.tensor([0])
image = torch.rand(3, 48, 64) * 255
inputs = [{"image": image, "instances": instances, "height": 96, "width": 128}]
losses = model(inputs)
sum(losses.values()).backward()
model.eval()
with torch.no_grad():
    outputs = model(inputs)
    # parts of a model, one by one
    images = model.preprocess_image(inputs)
    features = model.backbone(images.tensor)
    proposals, _ = model.proposal_generator(images, features)
    detected, _ = model.roi_heads(images, features, proposals)
    pooled = model.roi_heads.box_pooler(
        [features[f] for f in model.roi_heads.box_in_features], [x.pred_boxes for x in detected]
    )
    raw = model.inference(inputs, do_postprocess=False)
"""
    )
    assert "loss_quality" in found["losses"]
    assert found["outputs"][0]["instances"].image_size == (96, 128)
    assert len(found["pooled"]) == len(found["detected"][0]) == len(found["raw"][0])


@pytest.mark.slow
def test_plain_train_loop(run: Any) -> None:
    found = run(
        BALLOONS
        + CONFIG
        + """
import logging
from collections import OrderedDict
import torch
from torch.nn.parallel import DistributedDataParallel
import detectron2.utils.comm as comm
from detectron2.checkpoint import DetectionCheckpointer, PeriodicCheckpointer
from detectron2.data import (
    MetadataCatalog, build_detection_test_loader, build_detection_train_loader,
)
from detectron2.engine import default_argument_parser, default_setup, default_writers, launch
from detectron2.evaluation import COCOEvaluator, inference_on_dataset, print_csv_format
from detectron2.modeling import build_model
from detectron2.solver import build_lr_scheduler, build_optimizer
from detectron2.utils.events import EventStorage

logger = logging.getLogger("detectron2")

def do_test(cfg, model):
    results = OrderedDict()
    for dataset_name in cfg.DATASETS.TEST:
        data_loader = build_detection_test_loader(cfg, dataset_name)
        folder = os.path.join(cfg.OUTPUT_DIR, "inference")
        evaluator = COCOEvaluator(dataset_name, output_dir=folder)
        results_i = inference_on_dataset(model, data_loader, evaluator)
        results[dataset_name] = results_i
        if comm.is_main_process():
            logger.info("Evaluation results for {} in csv format:".format(dataset_name))
            print_csv_format(results_i)
    if len(results) == 1:
        results = list(results.values())[0]
    return results

def do_train(cfg, model, resume=False):
    model.train()
    optimizer = build_optimizer(cfg, model)
    scheduler = build_lr_scheduler(cfg, optimizer)
    checkpointer = DetectionCheckpointer(
        model, cfg.OUTPUT_DIR, optimizer=optimizer, scheduler=scheduler
    )
    start_iter = (
        checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=resume).get("iteration", -1) + 1
    )
    max_iter = cfg.SOLVER.MAX_ITER
    periodic_checkpointer = PeriodicCheckpointer(
        checkpointer, cfg.SOLVER.CHECKPOINT_PERIOD, max_iter=max_iter
    )
    writers = default_writers(cfg.OUTPUT_DIR, max_iter) if comm.is_main_process() else []
    data_loader = build_detection_train_loader(cfg)
    logger.info("Starting training from iteration {}".format(start_iter))
    with EventStorage(start_iter) as storage:
        for data, iteration in zip(data_loader, range(start_iter, max_iter)):
            storage.iter = iteration
            loss_dict = model(data)
            losses = sum(loss_dict.values())
            assert torch.isfinite(losses).all(), loss_dict
            loss_dict_reduced = {k: v.item() for k, v in comm.reduce_dict(loss_dict).items()}
            losses_reduced = sum(loss for loss in loss_dict_reduced.values())
            if comm.is_main_process():
                storage.put_scalars(total_loss=losses_reduced, **loss_dict_reduced)
            optimizer.zero_grad()
            losses.backward()
            optimizer.step()
            storage.put_scalar("lr", optimizer.param_groups[0]["lr"], smoothing_hint=False)
            scheduler.step()
            if cfg.TEST.EVAL_PERIOD > 0 and (iteration + 1) % cfg.TEST.EVAL_PERIOD == 0:
                do_test(cfg, model)
                comm.synchronize()
            if iteration - start_iter > 5 and (
                (iteration + 1) % 20 == 0 or iteration == max_iter - 1
            ):
                for writer in writers:
                    writer.write()
            periodic_checkpointer.step(iteration)
    return start_iter

def setup(args):
    cfg.merge_from_list(args.opts)
    cfg.freeze()
    default_setup(cfg, args)
    return cfg

def main(args):
    cfg = setup(args)
    model = build_model(cfg)
    logger.info("Model:\\n{}".format(model))
    if args.eval_only:
        DetectionCheckpointer(model, save_dir=cfg.OUTPUT_DIR).resume_or_load(
            cfg.MODEL.WEIGHTS, resume=args.resume
        )
        return do_test(cfg, model)
    if comm.get_world_size() > 1:
        model = DistributedDataParallel(
            model, device_ids=[comm.get_local_rank()], broadcast_buffers=False
        )
    started.append(do_train(cfg, model, resume=args.resume))
    return do_test(cfg, model)

started = []
for words in ([], ["--resume"]):
    opts = ["SOLVER.MAX_ITER", "4" if words else "2", "DATASETS.TEST", "('balloon_val',)"]
    args = default_argument_parser().parse_args([*words, "--num-gpus", "0", *opts])
    cfg.defrost()
    results = launch(main, args.num_gpus, num_machines=args.num_machines,
                     machine_rank=args.machine_rank, dist_url=args.dist_url, args=(args,))
"""
    )
    assert found["started"] == [0, 2]
    assert "AP" in found["results"]["bbox"]


def test_own_backbone_and_meta_architecture(run: Any) -> None:
    found = run(
        BALLOONS
        + CONFIG
        + """
import torch
from torch import nn
from detectron2.config import CfgNode as CN, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import (
    BACKBONE_REGISTRY, META_ARCH_REGISTRY, Backbone, build_backbone, build_model,
)
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, ImageList, Instances
from detectron2.utils.events import get_event_storage, EventStorage

def add_moved_config(cfg):
    cfg.MODEL.MOVED = CN()
    cfg.MODEL.MOVED.WIDTH = 4

@BACKBONE_REGISTRY.register()
class MovedBackbone(Backbone):
    def __init__(self, cfg, input_shape):
        super().__init__()
        self.conv1 = nn.Conv2d(3, cfg.MODEL.MOVED.WIDTH, kernel_size=7, stride=16, padding=3)

    def forward(self, image):
        return {"conv1": self.conv1(image)}

    def output_shape(self):
        return {"conv1": ShapeSpec(channels=self.conv1.out_channels, stride=16)}

@META_ARCH_REGISTRY.register()
class MovedArch(nn.Module):
    @configurable
    def __init__(self, *, backbone, pixel_mean, pixel_std, num_classes=1):
        super().__init__()
        self.backbone = backbone
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), False)

    @classmethod
    def from_config(cls, cfg):
        return {
            "backbone": build_backbone(cfg),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
        }

    @property
    def device(self):
        return self.pixel_mean.device

    def forward(self, batched_inputs):
        images = [x["image"].to(self.device) for x in batched_inputs]
        images = [(x - self.pixel_mean) / self.pixel_std for x in images]
        images = ImageList.from_tensors(images, self.backbone.size_divisibility)
        features = self.backbone(images.tensor)["conv1"]
        if self.training:
            get_event_storage().put_scalar("moved/mean", features.mean().item())
            return {"loss_moved": features.square().mean()}
        results = []
        for size, given in zip(images.image_sizes, batched_inputs):
            r = Instances(size)
            r.pred_boxes = Boxes(torch.tensor([[0.0, 0.0, 10.0, 10.0]]))
            r.scores = torch.tensor([0.9])
            r.pred_classes = torch.tensor([0])
            results.append({"instances": detector_postprocess(r, given["height"], given["width"])})
        return results

add_moved_config(cfg)
cfg.MODEL.MOVED.WIDTH = 6
cfg.merge_from_list(["MODEL.MOVED.WIDTH", "5"])
cfg.MODEL.BACKBONE.NAME = "MovedBackbone"
cfg.MODEL.META_ARCHITECTURE = "MovedArch"
model = build_model(cfg)
inputs = [{"image": torch.rand(3, 48, 64), "height": 96, "width": 128}]
with EventStorage() as storage:
    losses = model(inputs)
outputs = model.eval()(inputs)

from detectron2.engine import DefaultTrainer
trainer = DefaultTrainer(cfg)
trainer.resume_or_load(resume=False)
trainer.train()
"""
    )
    assert found["model"].backbone.conv1.out_channels == 5
    assert found["outputs"][0]["instances"].pred_boxes.tensor.tolist() == [[0, 0, 20, 20]]
    assert "moved/mean" in found["trainer"].storage.histories()


def test_detectors_of_explicit_parts(run: Any) -> None:
    found = run(
        """
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import FPN, GeneralizedRCNN, ResNet
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.modeling.backbone.fpn import LastLevelMaxPool, LastLevelP6P7
from detectron2.modeling.backbone.resnet import BasicStem
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.meta_arch import RetinaNet
from detectron2.modeling.meta_arch.retinanet import RetinaNetHead
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.proposal_generator import RPN, StandardRPNHead
from detectron2.modeling.roi_heads import (
    FastRCNNConvFCHead, FastRCNNOutputLayers, StandardROIHeads,
)
from detectron2.structures import Boxes, Instances

def bottom_up(features):
    return ResNet(
        stem=BasicStem(in_channels=3, out_channels=64, norm="FrozenBN"),
        stages=ResNet.make_default_stages(depth=18, norm="FrozenBN"),
        out_features=features,
    )

rcnn = GeneralizedRCNN(
    backbone=FPN(
        bottom_up=bottom_up(["res2", "res3", "res4", "res5"]),
        in_features=["res2", "res3", "res4", "res5"],
        out_channels=16,
        top_block=LastLevelMaxPool(),
    ),
    proposal_generator=RPN(
        in_features=["p2", "p3", "p4", "p5", "p6"],
        head=StandardRPNHead(in_channels=16, num_anchors=3),
        anchor_generator=DefaultAnchorGenerator(
            sizes=[[32], [64], [128], [256], [512]],
            aspect_ratios=[0.5, 1.0, 2.0],
            strides=[4, 8, 16, 32, 64],
            offset=0.0,
        ),
        anchor_matcher=Matcher(
            thresholds=[0.3, 0.7], labels=[0, -1, 1], allow_low_quality_matches=True
        ),
        box2box_transform=Box2BoxTransform(weights=[1.0, 1.0, 1.0, 1.0]),
        batch_size_per_image=256,
        positive_fraction=0.5,
        pre_nms_topk=(200, 100),
        post_nms_topk=(100, 100),
        nms_thresh=0.7,
    ),
    roi_heads=StandardROIHeads(
        num_classes=80,
        batch_size_per_image=64,
        positive_fraction=0.25,
        proposal_matcher=Matcher(
            thresholds=[0.5], labels=[0, 1], allow_low_quality_matches=False
        ),
        box_in_features=["p2", "p3", "p4", "p5"],
        box_pooler=ROIPooler(
            output_size=7,
            scales=(1.0 / 4, 1.0 / 8, 1.0 / 16, 1.0 / 32),
            sampling_ratio=0,
            pooler_type="ROIAlignV2",
        ),
        box_head=FastRCNNConvFCHead(
            input_shape=ShapeSpec(channels=16, height=7, width=7),
            conv_dims=[],
            fc_dims=[32, 32],
        ),
        box_predictor=FastRCNNOutputLayers(
            input_shape=ShapeSpec(channels=32),
            test_score_thresh=0.05,
            box2box_transform=Box2BoxTransform(weights=(10, 10, 5, 5)),
            num_classes=80,
        ),
    ),
    pixel_mean=[103.530, 116.280, 123.675],
    pixel_std=[1.0, 1.0, 1.0],
    input_format="BGR",
)
retinanet = RetinaNet(
    backbone=FPN(
        bottom_up=bottom_up(["res3", "res4", "res5"]),
        in_features=["res3", "res4", "res5"],
        out_channels=16,
        top_block=LastLevelP6P7(in_channels=512, out_channels=16, in_feature="res5"),
    ),
    head=RetinaNetHead(
        input_shape=[ShapeSpec(channels=16)] * 5,
        num_classes=80,
        conv_dims=[16, 16],
        prior_prob=0.01,
        num_anchors=9,
    ),
    anchor_generator=DefaultAnchorGenerator(
        sizes=[[x, x * 2 ** (1.0 / 3), x * 2 ** (2.0 / 3)] for x in [32, 64, 128, 256, 512]],
        aspect_ratios=[0.5, 1.0, 2.0],
        strides=[8, 16, 32, 64, 128],
        offset=0.0,
    ),
    box2box_transform=Box2BoxTransform(weights=[1.0, 1.0, 1.0, 1.0]),
    anchor_matcher=Matcher(
        thresholds=[0.4, 0.5], labels=[0, -1, 1], allow_low_quality_matches=True
    ),
    num_classes=80,
    head_in_features=["p3", "p4", "p5", "p6", "p7"],
    focal_loss_alpha=0.25,
    focal_loss_gamma=2.0,
    pixel_mean=[103.530, 116.280, 123.675],
    pixel_std=[1.0, 1.0, 1.0],
    input_format="BGR",
)
instances = Instances((64, 64))
instances.gt_boxes = Boxes(torch.tensor([[5.0, 5.0, 40.0, 40.0]]))
instances.gt_classes = torch.tensor([3])
inputs = [{"image": torch.rand(3, 64, 64) * 255, "instances": instances}]
all_losses = []
for model in (rcnn, retinanet):
    all_losses.append(model(inputs))
    sum(all_losses[-1].values()).backward()
    with torch.no_grad():
        model.eval()(inputs)
"""
    )
    names = [set(losses) for losses in found["all_losses"]]
    assert names[0] == {"loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg"}
    assert names[1] == {"loss_cls", "loss_box_reg"}


def test_own_augmentations(run: Any) -> None:
    found = run(
        """
import numpy as np
from detectron2.data import transforms as T
from detectron2.data.transforms import Augmentation, AugmentationList, Transform

class MyColorAugmentation(T.Augmentation):
    def get_transform(self, image):
        r = np.random.rand(2)
        return T.ColorTransform(lambda x: x * r[0] + r[1] * 10)

class MyCustomResize(T.Augmentation):
    def get_transform(self, image):
        old_h, old_w = image.shape[:2]
        new_h, new_w = int(old_h * 0.5), int(old_w * 1.5)
        return T.ResizeTransform(old_h, old_w, new_h, new_w)

class InvertColorTransform(Transform):
    def __init__(self, max_value=255):
        super().__init__()
        self._set_attributes(locals())
    def apply_image(self, img):
        return self.max_value - img
    def apply_coords(self, coords):
        return coords
    def inverse(self):
        return self

class NeedsBoxes(Augmentation):
    def __init__(self, prob=1.0):
        super().__init__()
        self._init(locals())
    def get_transform(self, image, boxes):
        x0, y0, x1, y1 = (int(v) for v in boxes[0])
        return T.CropTransform(x0, y0, x1 - x0, y1 - y0)

augs = T.AugmentationList([
    T.RandomBrightness(0.9, 1.1),
    T.RandomFlip(prob=0.5),
    T.RandomApply(T.RandomContrast(0.5, 1.5), prob=0.5),
    T.RandomCrop("absolute", (40, 40)),
    T.RandomExtent(scale_range=(0.9, 1.1), shift_range=(0.1, 0.1)),
    T.FixedSizeCrop(crop_size=(32, 32)),
    T.ResizeScale(min_scale=0.5, max_scale=1.0, target_height=32, target_width=32),
    MyColorAugmentation(),
    MyCustomResize(),
    InvertColorTransform(),
    T.NoOpTransform(),
])
image = np.random.randint(0, 255, (48, 64, 3), dtype=np.uint8)
boxes = np.array([[10.0, 10.0, 30.0, 30.0]])
input = T.AugInput(image, boxes=boxes)
transform = augs(input)
image_transformed = input.image
again = transform.apply_image(image)
box_again = transform.apply_box(boxes)
polygons = transform.apply_polygons([np.array([[10.0, 10.0], [30.0, 10.0], [30.0, 30.0]])])
crop = T.AugInput(image, boxes=boxes)
NeedsBoxes()(crop)
flip = T.HFlipTransform(width=64)
back = (flip + flip.inverse()).apply_coords(np.array([[3.0, 4.0]]))
resized = T.ResizeShortestEdge([24], 100, sample_style="choice").get_transform(image)
text = repr(NeedsBoxes(0.5))
"""
    )
    assert np.array_equal(found["again"], found["image_transformed"])
    assert found["crop"].image.shape == (20, 20, 3)
    assert found["crop"].boxes.tolist() == [[0, 0, 20, 20]]
    assert found["back"].tolist() == [[3, 4]]
    assert (found["resized"].new_h, found["resized"].new_w) == (24, 32)
    assert found["text"] == "NeedsBoxes(prob=0.5)"


def test_structures(run: Any) -> None:
    found = run(
        """
import torch
from detectron2.structures import Boxes, BoxMode, ImageList, Instances, pairwise_iou
from detectron2.layers import batched_nms, cat, nonzero_tuple

boxes = Boxes([[0, 0, 10, 10], [20, 20, 40, 40]])
boxes.clip((30, 30))
boxes.scale(2, 2)
area, centers, inside = boxes.area(), boxes.get_centers(), boxes.inside_box((60, 60))
instances = Instances((60, 60), pred_boxes=boxes, scores=torch.tensor([0.9, 0.2]))
instances.set("pred_classes", torch.tensor([1, 2]))
high = instances[instances.scores > 0.5]
both = Instances.cat([high, instances])
as_dict = both.get_fields()
values = both.pred_boxes.tensor.numpy().tolist()
xywh = BoxMode.convert(boxes.tensor, BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)
one = BoxMode.convert([1.0, 2.0, 3.0, 4.0], from_mode=BoxMode.XYWH_ABS, to_mode=BoxMode.XYXY_ABS)
iou = pairwise_iou(boxes, Boxes(boxes.tensor.clone()))
images = ImageList.from_tensors([torch.zeros(3, 30, 40), torch.zeros(3, 50, 20)], 32)
keep = batched_nms(boxes.tensor, instances.scores, instances.pred_classes, 0.5)
moved = instances.to("cpu")
for box in boxes:
    assert box.shape == (4,)
idx = nonzero_tuple(instances.scores > 0.5)[0]
joined = cat([instances.scores, instances.scores])
"""
    )
    assert len(found["both"]) == 3
    assert found["both"].has("pred_classes")
    assert found["one"] == [1.0, 2.0, 4.0, 6.0]
    assert tuple(found["images"].tensor.shape) == (2, 3, 64, 64)
    assert found["images"][0].shape == (3, 30, 40)
    assert found["iou"].diagonal().tolist() == [1, 1]


def test_checkpointing(run: Any) -> None:
    found = run(
        """
import torch
from torch import nn
from detectron2.checkpoint import Checkpointer, DetectionCheckpointer, PeriodicCheckpointer

model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
checkpointer = DetectionCheckpointer(model, save_dir="output", optimizer=optimizer)
import os
os.makedirs("output", exist_ok=True)
checkpointer.save("model_999", iteration=999)
periodic = PeriodicCheckpointer(checkpointer, period=2, max_iter=4, max_to_keep=1)
for i in range(4):
    periodic.step(i)
before = model[0].weight.clone()
nn.init.zeros_(model[0].weight)
rest = DetectionCheckpointer(model).load("output/model_999.pth")
with torch.no_grad():
    model[0].weight.zero_()
again = DetectionCheckpointer(model, "output", optimizer=optimizer)
resumed = again.resume_or_load("", resume=True)
files = sorted(os.listdir("output"))
plain = torch.load("output/model_999.pth", weights_only=True)
"""
    )
    assert found["rest"]["iteration"] == 999
    assert found["resumed"]["iteration"] == 3
    assert found["before"].equal(found["model"][0].weight)
    assert set(found["plain"]) >= {"model", "optimizer", "iteration"}
    assert "model_final.pth" in found["files"]
    assert found["again"].has_checkpoint()
    assert found["again"].get_checkpoint_file() == os.path.join("output", "model_final.pth")


def test_evaluators_alone(run: Any) -> None:
    found = run(
        BALLOONS
        + """
import torch
from detectron2.evaluation import (
    COCOEvaluator, DatasetEvaluator, DatasetEvaluators, inference_on_dataset, print_csv_format,
)
from detectron2.structures import Boxes, Instances

class Counter(DatasetEvaluator):
    def reset(self):
        self.count = 0
    def process(self, inputs, outputs):
        for output in outputs:
            self.count += len(output["instances"])
    def evaluate(self):
        return {"count": self.count}

def model(inputs):
    outputs = []
    for x in inputs:
        r = Instances((x["height"], x["width"]))
        r.pred_boxes = Boxes(torch.tensor([[10.5, 10.5, 40.5, 40.5]]))
        r.scores = torch.tensor([0.9])
        r.pred_classes = torch.tensor([0])
        outputs.append({"instances": r})
    return outputs

evaluator = COCOEvaluator("balloon_val", ("bbox",), False, output_dir="./output/")
evaluator.reset()
for record in DatasetCatalog.get("balloon_val"):
    evaluator.process([record], model([record]))
alone = evaluator.evaluate()
print_csv_format(alone)
loader = [[record] for record in DatasetCatalog.get("balloon_val")]
together = inference_on_dataset(
    model, loader, DatasetEvaluators([COCOEvaluator("balloon_val", output_dir="o"), Counter()])
)
"""
    )
    assert found["alone"]["bbox"]["AP"] == pytest.approx(100)
    assert found["together"]["count"] == 4


def test_zoo_solver_and_registry(run: Any) -> None:
    found = run(
        """
import torch
from torch import nn
from detectron2 import model_zoo
from detectron2.config import get_cfg
from detectron2.data.datasets import register_coco_instances, load_coco_json
from detectron2.engine import SimpleTrainer, hooks
from detectron2.solver import build_lr_scheduler, build_optimizer
from detectron2.solver.build import get_default_optimizer_params, maybe_add_gradient_clipping
from detectron2.utils.env import seed_all_rng
from detectron2.utils.registry import Registry
from detectron2.utils.collect_env import collect_env_info
from detectron2.utils.file_io import PathManager

seed_all_rng(3)
cfg = get_cfg()
cfg.merge_from_file(model_zoo.get_config_file("COCO-Detection/retinanet_R_50_FPN_1x.yaml"))
cfg.SOLVER.CLIP_GRADIENTS.ENABLED = True
cfg.SOLVER.CLIP_GRADIENTS.CLIP_TYPE = "norm"
url = model_zoo.get_checkpoint_url("COCO-Detection/retinanet_R_50_FPN_1x.yaml")
net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
params = get_default_optimizer_params(net, base_lr=0.1, weight_decay_norm=0.0, bias_lr_factor=2.0)
optimizer = maybe_add_gradient_clipping(cfg, torch.optim.SGD)(params, lr=0.1, momentum=0.9)
scheduler = build_lr_scheduler(cfg, optimizer)

class Wrapped(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = net
    def forward(self, data):
        return {"loss": self.net(data).square().mean()}

loader = [torch.rand(2, 3, 4, 4)] * 100
trainer = SimpleTrainer(Wrapped(), loader, optimizer)
trainer.register_hooks([hooks.IterationTimer(), hooks.LRScheduler(scheduler=scheduler)])
trainer.train(0, 3)

THINGS = Registry("THINGS")
@THINGS.register()
class Thing:
    pass
made = THINGS.get("Thing")()
with PathManager.open("note.txt", "w") as f:
    f.write(collect_env_info())
"""
    )
    assert re.search(r"dl\.fbaipublicfiles|detectron2", found["url"])
    assert found["trainer"].iter == 3
    assert len(found["trainer"].storage.history("total_loss").values()) == 3
