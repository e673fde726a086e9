"""Numbers computed with detectron2 0.6, and lucidet's models with the weights used there.

The files, their layout and the agreement asked for are told in the fixtures' README.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import torch

from lucidet.config import get_cfg
from lucidet.modeling import build_model
from lucidet.structures import Boxes, Instances

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "COCO-Detection"


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


@torch.no_grad()
def assert_features(reference: Reference) -> None:
    """Every level of the backbone agrees."""
    model = reference.model.eval()
    features = model.backbone(model.preprocess_image(reference.inputs()).tensor)
    for name, level in features.items():
        assert list(level.shape) == reference.tensor(f"out/features/{name}/shape").tolist()
        flat = level.double().flatten()
        where = torch.linspace(0, flat.numel() - 1, 64).long()
        expected = reference.tensor(f"out/features/{name}/sample")
        scale = float(expected.abs().max())
        torch.testing.assert_close(flat[where], expected, rtol=1e-4, atol=1e-5 * scale)
        moments = torch.stack([flat.mean(), flat.std()])
        torch.testing.assert_close(
            moments, reference.tensor(f"out/features/{name}/mean_std"), rtol=1e-4, atol=1e-5
        )
