"""Programs with masks and keypoints, moved from detectron2: tutorial, own mapper, own head."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from tests.acceptance.moved_code import BALLOONS, CONFIG

# pycocotools' own warning
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

MASK_CONFIG = CONFIG.replace(
    "COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml",
    "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml",
).replace(
    "shrink(cfg)",
    "shrink(cfg)\ncfg.MODEL.ROI_MASK_HEAD.CONV_DIM = 8\ncfg.MODEL.ROI_MASK_HEAD.NUM_CONV = 1",
)


def test_balloon_tutorial_with_masks(run: Any) -> None:
    found = run(
        BALLOONS
        + MASK_CONFIG
        + """
from detectron2.engine import DefaultPredictor, DefaultTrainer
from detectron2.utils.visualizer import ColorMode, Visualizer
trainer = DefaultTrainer(cfg)
trainer.resume_or_load(resume=False)
trainer.train()

cfg.MODEL.WEIGHTS = os.path.join(cfg.OUTPUT_DIR, "model_final.pth")
cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
cfg.TEST.DETECTIONS_PER_IMAGE = 5
predictor = DefaultPredictor(cfg)
for d in random.sample(get_balloon_dicts("."), 2):
    im = np.asarray(Image.open(d["file_name"]))[:, :, ::-1]
    outputs = predictor(im)
    v = Visualizer(im[:, :, ::-1], metadata=balloon_metadata, scale=0.5,
                   instance_mode=ColorMode.IMAGE_BW)
    out = v.draw_instance_predictions(outputs["instances"].to("cpu"))
    picture = out.get_image()[:, :, ::-1]
masks = outputs["instances"].pred_masks.to("cpu").numpy()
areas = [int(mask.sum()) for mask in masks]

from detectron2.evaluation import COCOEvaluator, inference_on_dataset
from detectron2.data import build_detection_test_loader
evaluator = COCOEvaluator("balloon_val", output_dir="./output")
val_loader = build_detection_test_loader(cfg, "balloon_val")
results = inference_on_dataset(predictor.model, val_loader, evaluator)
truth = evaluator._coco_api
"""
    )
    masks = found["masks"]
    assert masks.dtype == bool
    assert masks.shape == (len(found["areas"]), 48, 64)
    assert found["picture"].shape == (24, 32, 3)
    assert list(found["results"]) == ["bbox", "segm"]
    assert {"AP", "AP50", "APs", "AP-balloon"} <= found["results"]["segm"].keys()
    # the results file is COCO's: pycocotools reads it
    with open("output/coco_instances_results.json") as file:
        records = json.load(file)
    assert {"segmentation", "bbox", "score", "category_id"} <= records[0].keys()
    pytest.importorskip("pycocotools")
    loaded = found["truth"].loadRes(records)
    assert loaded.annToMask(loaded.anns[1]).shape == (48, 64)
    assert len(loaded.anns) == len(records)


def test_own_mapper_and_own_mask_head(run: Any) -> None:
    found = run(
        BALLOONS
        + MASK_CONFIG
        + """
import copy, torch
from torch import nn
from detectron2.data import build_detection_train_loader
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T
from detectron2.layers import Conv2d, ShapeSpec
from detectron2.modeling import build_model
from detectron2.modeling.roi_heads import ROI_MASK_HEAD_REGISTRY, BaseMaskRCNNHead
from detectron2.config import configurable
from detectron2.structures import BitMasks, PolygonMasks

def mapper(dataset_dict):
    dataset_dict = copy.deepcopy(dataset_dict)
    image = utils.read_image(dataset_dict["file_name"], format="BGR")
    transform_list = [T.Resize((40, 56)), T.RandomFlip(prob=0.5, horizontal=False, vertical=True),
                      T.RandomRotation([-10, 10]), T.RandomBrightness(0.8, 1.8)]
    image, transforms = T.apply_transform_gens(transform_list, image)
    dataset_dict["image"] = torch.as_tensor(image.transpose(2, 0, 1).astype("float32"))
    annos = [
        utils.transform_instance_annotations(obj, transforms, image.shape[:2])
        for obj in dataset_dict.pop("annotations")
        if obj.get("iscrowd", 0) == 0
    ]
    instances = utils.annotations_to_instances(annos, image.shape[:2], mask_format=form)
    dataset_dict["instances"] = utils.filter_empty_instances(instances)
    return dataset_dict

@ROI_MASK_HEAD_REGISTRY.register()
class MovedHead(BaseMaskRCNNHead):
    @configurable
    def __init__(self, input_shape, *, num_classes, **kwargs):
        super().__init__(**kwargs)
        self.up = nn.ConvTranspose2d(input_shape.channels, 4, 2, stride=2)
        self.predictor = Conv2d(4, num_classes, 1)

    @classmethod
    def from_config(cls, cfg, input_shape):
        found = super().from_config(cfg, input_shape)
        return {**found, "input_shape": input_shape, "num_classes": cfg.MODEL.ROI_HEADS.NUM_CLASSES}

    def layers(self, x):
        return self.predictor(self.up(x).relu())

cfg.MODEL.ROI_MASK_HEAD.NAME = "MovedHead"
model = build_model(cfg)
kinds, losses = [], []
for form in ("polygon", "bitmask"):
    batch = next(iter(build_detection_train_loader(cfg, mapper=mapper)))
    kinds.append(type(batch[0]["instances"].gt_masks))
    losses.append(model(batch))
model.eval()
with torch.no_grad():
    output = model([{"image": batch[0]["image"], "height": 48, "width": 64}])[0]["instances"]
"""
    )
    assert found["kinds"] == [found["PolygonMasks"], found["BitMasks"]]
    assert all(np.isfinite(float(losses["loss_mask"].detach())) for losses in found["losses"])
    assert type(found["model"].roi_heads.mask_head) is found["MovedHead"]
    assert found["output"].pred_masks.shape[1:] == (48, 64)


def test_keypoints_of_ones_own(run: Any) -> None:
    found = run(
        BALLOONS
        + CONFIG.replace(
            "COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml",
            "COCO-Keypoints/keypoint_rcnn_R_50_FPN_3x.yaml",
        )
        + """
from detectron2.data import build_detection_test_loader
from detectron2.engine import DefaultPredictor, DefaultTrainer
from detectron2.evaluation import COCOEvaluator, inference_on_dataset
from detectron2.utils.visualizer import Visualizer

def with_keypoints(img_dir):
    dicts = get_balloon_dicts(img_dir)
    for d in dicts:
        d["annotations"][0]["keypoints"] = [12, 12, 2, 38, 12, 2, 25, 38, 1]
    return dicts

for d in ["train", "val"]:
    DatasetCatalog.register("strings_" + d, lambda: with_keypoints("."))
    MetadataCatalog.get("strings_" + d).set(
        thing_classes=["balloon"], keypoint_names=["left", "right", "knot"],
        keypoint_flip_map=[("left", "right")],
        keypoint_connection_rules=[("left", "knot", (255, 0, 0)), ("right", "knot", (0, 255, 0))],
    )
cfg.DATASETS.TRAIN = ("strings_train",)
cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS = 3
cfg.MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS = (8,)
cfg.TEST.KEYPOINT_OKS_SIGMAS = [0.1, 0.1, 0.1]
cfg.TEST.DETECTIONS_PER_IMAGE = 5
trainer = DefaultTrainer(cfg)
trainer.resume_or_load(resume=False)
trainer.train()
cfg.MODEL.WEIGHTS = os.path.join(cfg.OUTPUT_DIR, "model_final.pth")
cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
predictor = DefaultPredictor(cfg)
im = np.asarray(Image.open("0.jpg"))[:, :, ::-1]
instances = predictor(im)["instances"]
v = Visualizer(im[:, :, ::-1], MetadataCatalog.get("strings_train"))
picture = v.draw_instance_predictions(instances.to("cpu")).get_image()
evaluator = COCOEvaluator(
    "strings_val", output_dir="./output", kpt_oks_sigmas=cfg.TEST.KEYPOINT_OKS_SIGMAS
)
results = inference_on_dataset(
    predictor.model, build_detection_test_loader(cfg, "strings_val"), evaluator
)
"""
    )
    points = found["instances"].pred_keypoints
    assert points.shape[1:] == (3, 3)
    assert list(found["results"]) == ["bbox", "keypoints"]
    assert "AP50" in found["results"]["keypoints"]
    assert found["picture"].shape == (48, 64, 3)
