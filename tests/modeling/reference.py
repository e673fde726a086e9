"""Numbers computed with detectron2 0.6, and lucidet's models with the weights used there.

The files, their layout and the agreement asked for are told in the fixtures' README.

With the recipe's weights the RPN's deltas reach 80, so a box is up to 30000 pixels long before it
is clipped, and the order in which a convolution adds moves an edge by 0.1 pixel: the reference is
as far as that from a computation in float64. Agreement to 0.01 pixel therefore asks for the
reference's own order: oneDNN's for AVX2 (`tests/conftest.py`), with two threads. There even the
bits of features and proposals are the same (`Reference.same_arithmetic`). Another build or
processor can add in another order, and is held to wider bounds.
"""

from __future__ import annotations

import importlib.util
import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lucidet.config import get_cfg
from lucidet.modeling import build_model
from lucidet.structures import Boxes, Instances, Keypoints, PolygonMasks

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


class Reference:
    """One file of the reference, and lucidet's model with the weights that it was made with."""

    def __init__(self, folder: Path, name: str) -> None:
        self.data = np.load(folder / f"detectron2_{name}.npz")
        self.meta = json.loads(str(self.data["meta"]))
        cfg = get_cfg()
        name = self.meta["config"]
        cfg.merge_from_file(str(CONFIGS / (name if "/" in name else f"COCO-Detection/{name}")))
        cfg.merge_from_list([*self.meta["opts"], "MODEL.WEIGHTS", "", "MODEL.DEVICE", "cpu"])
        self.model = build_model(cfg)
        spec = importlib.util.spec_from_file_location("recipe", folder / "recipe.py")
        recipe = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(recipe)
        shapes = {k: tuple(v.shape) for k, v in self.model.state_dict().items()}
        arrays = recipe.state_dict(shapes)
        for weight, factor in self.meta.get("scale", {}).items():
            arrays[weight] = arrays[weight] * np.float32(factor)
        missing, unexpected = self.model.load_state_dict(
            {k: torch.from_numpy(v) for k, v in arrays.items()}, strict=False
        )
        assert not unexpected
        assert not [name for name in missing if not any(word in name for word in recipe.SKIP)]

    @cached_property
    def same_arithmetic(self) -> bool:
        """Whether this machine computes the very bits of the reference's features."""
        return all(
            torch.equal(found, expected) for found, expected, _ in self.feature_samples().values()
        )

    @torch.no_grad()
    def feature_samples(self) -> dict[str, tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Return for each level our 64 samples, the reference's, and our whole level."""
        model = self.model.eval()
        features = model.backbone(model.preprocess_image(self.inputs()).tensor)
        samples = {}
        for name, level in features.items():
            flat = level.double().flatten()
            where = torch.linspace(0, flat.numel() - 1, 64).long()
            samples[name] = flat[where], self.tensor(f"out/features/{name}/sample"), level
        return samples

    def tensor(self, key: str) -> torch.Tensor:
        return torch.from_numpy(self.data[key])

    def json(self, key: str) -> Any:
        return json.loads(str(self.data[key]))

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
            if f"in/gt_polygons/{i}" in self.data:
                instances.gt_masks = PolygonMasks(self.json(f"in/gt_polygons/{i}"))
            if f"in/gt_keypoints/{i}" in self.data:
                instances.gt_keypoints = Keypoints(self.tensor(f"in/gt_keypoints/{i}"))
            records.append(
                {
                    "image": image,
                    "instances": instances,
                    "height": 2 * height,
                    "width": 2 * width,
                }
            )
        return records


def assert_features(reference: Reference) -> None:
    """Every level of the backbone agrees."""
    for name, (found, expected, level) in reference.feature_samples().items():
        assert list(level.shape) == reference.tensor(f"out/features/{name}/shape").tolist()
        scale = float(expected.abs().max())
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * scale)
        moments = torch.stack([level.double().mean(), level.double().std()])
        torch.testing.assert_close(
            moments, reference.tensor(f"out/features/{name}/mean_std"), rtol=1e-4, atol=1e-5
        )


def assert_losses_gradients_and_counts(reference: Reference, gradients: float = 1e-4) -> None:
    """The losses agree, the norms of their gradients (to a relative `gradients`), the counts."""
    model = reference.model.train()
    model.zero_grad()
    losses = model(reference.inputs())
    expected = json.loads(str(reference.data["out/losses"]))
    assert {k: v.item() for k, v in losses.items()} == pytest.approx(expected, rel=1e-4)

    sum(losses.values()).backward()
    parameters = dict(model.named_parameters())
    norms = json.loads(str(reference.data["out/grad_norms"]))
    # in double: a float32 sum over 1e7 squares is itself off by 1e-3
    found = {name: parameters[name].grad.double().norm().item() for name in norms}
    assert found == pytest.approx(norms, rel=gradients)

    metrics: dict[str, torch.Tensor] = {}
    for module in model.modules():
        metrics.update(getattr(module, "metrics", None) or {})
    counts = reference.meta["events"]
    assert {name: float(metrics[name]) for name in counts} == pytest.approx(counts, rel=1e-6)
