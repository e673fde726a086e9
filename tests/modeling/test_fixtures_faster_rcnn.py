"""Faster R-CNN agrees with detectron2 0.6, from its config files, with its parameter names.

The numbers, their layout and the agreement asked for are told in the fixtures' README.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from lucidet.config import get_cfg
from lucidet.modeling import build_model
from lucidet.structures import Boxes, Instances

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "COCO-Detection"

pytestmark = pytest.mark.slow


class Reference:
    """One file of the reference, and lucidet's model with the weights that it was made with."""

    def __init__(self, folder: Path, name: str) -> None:
        self.data = np.load(folder / f"detectron2_{name}.npz")
        self.meta = json.loads(str(self.data["meta"]))
        cfg = get_cfg()
        cfg.merge_from_file(str(CONFIGS / self.meta["config"]))
        cfg.merge_from_list([*self.meta["opts"], "MODEL.WEIGHTS", "", "MODEL.DEVICE", "cpu"])
        self.model = build_model(cfg)
        spec = importlib.util.spec_from_file_location("recipe", folder / "recipe.py")
        recipe = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(recipe)
        shapes = {k: tuple(v.shape) for k, v in self.model.state_dict().items()}
        arrays = recipe.state_dict(shapes)
        missing, unexpected = self.model.load_state_dict(
            {k: torch.from_numpy(v) for k, v in arrays.items()}, strict=False
        )
        assert not unexpected
        assert not [name for name in missing if not any(word in name for word in recipe.SKIP)]

    def tensor(self, key: str) -> torch.Tensor:
        return torch.from_numpy(self.data[key])

    def inputs(self) -> list[dict]:
        """Return the images, their objects, and twice their size as the size asked for."""
        records = []
        while f"in/image/{len(records)}" in self.data:
            i = len(records)
            image = self.tensor(f"in/image/{i}")
            height, width = image.shape[1:]
            instances = Instances(
                (height, width),
                gt_boxes=Boxes(self.tensor(f"in/gt_boxes/{i}")),
                gt_classes=self.tensor(f"in/gt_classes/{i}"),
            )
            records.append(
                {
                    "image": image,
                    "instances": instances,
                    "height": 2 * height,
                    "width": 2 * width,
                }
            )
        return records


@pytest.fixture(scope="module", params=["faster_rcnn_R_50_FPN", "faster_rcnn_R_50_C4"])
def reference(request, fixtures_dir) -> Reference:
    return Reference(fixtures_dir, request.param)


@torch.no_grad()
def test_features_proposals_and_detections(reference):
    model = reference.model.eval()
    inputs = reference.inputs()
    images = model.preprocess_image(inputs)
    features = model.backbone(images.tensor)
    for name, level in features.items():
        assert list(level.shape) == reference.tensor(f"out/features/{name}/shape").tolist()
        flat = level.double().flatten()
        where = torch.linspace(0, flat.numel() - 1, 64).long()
        expected = reference.tensor(f"out/features/{name}/sample")
        scale = float(expected.abs().max())
        torch.testing.assert_close(flat[where], expected, rtol=1e-4, atol=1e-4 * scale)
        moments = torch.stack([flat.mean(), flat.std()])
        torch.testing.assert_close(
            moments, reference.tensor(f"out/features/{name}/mean_std"), rtol=1e-4, atol=1e-5
        )

    proposals, _ = model.proposal_generator(images, features, None)
    for i, found in enumerate(proposals):
        expected = reference.tensor(f"out/proposals/{i}/boxes")
        assert len(found) == len(expected)
        torch.testing.assert_close(found.proposal_boxes.tensor, expected, rtol=0, atol=1e-2)
        torch.testing.assert_close(
            found.objectness_logits,
            reference.tensor(f"out/proposals/{i}/logits"),
            rtol=1e-4,
            atol=1e-4,
        )

    for i, output in enumerate(model(inputs)):
        found = output["instances"]
        expected = reference.tensor(f"out/detections/{i}/boxes")
        assert len(found) == len(expected)
        torch.testing.assert_close(found.pred_boxes.tensor, expected, rtol=0, atol=1e-2)
        scores = reference.tensor(f"out/detections/{i}/scores")
        torch.testing.assert_close(found.scores, scores, rtol=1e-4, atol=0)
        assert torch.equal(found.pred_classes, reference.tensor(f"out/detections/{i}/classes"))


def test_losses_gradients_and_counts(reference):
    model = reference.model.train()
    model.zero_grad()
    losses = model(reference.inputs())
    expected = json.loads(str(reference.data["out/losses"]))
    assert {name: float(v) for name, v in losses.items()} == pytest.approx(expected, rel=1e-4)

    sum(losses.values()).backward()
    parameters = dict(model.named_parameters())
    norms = json.loads(str(reference.data["out/grad_norms"]))
    found = {name: float(parameters[name].grad.norm()) for name in norms}
    assert found == pytest.approx(norms, rel=1e-4)

    metrics = {}
    for module in model.modules():
        metrics.update(getattr(module, "metrics", None) or {})
    counts = reference.meta["events"]
    assert {name: float(metrics[name]) for name in counts} == pytest.approx(counts, rel=1e-6)
