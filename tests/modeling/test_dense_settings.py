"""Settings of the dense detectors that can't be meant are refused by their key."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lucidet.modeling import build_model
from lucidet.modeling.meta_arch.dense_detector import permute_to_N_HWA_K
from tests.modeling.tiny import ATSS, FCOS, RETINANET, tiny_config


@pytest.mark.parametrize(
    ("part", "key", "value", "match"),
    [
        (ATSS, "MODEL.ATSS.POSITIVE_TYPE", "atss", r"POSITIVE_TYPE 'atss' is none of ATSS, TOPK"),
        (ATSS, "MODEL.ATSS.REGRESSION_TYPE", "BOXES", r"REGRESSION_TYPE 'BOXES' is none of BOX"),
        (ATSS, "MODEL.ATSS.TOPK", 0, r"topk must be at least 1"),
        (ATSS, "MODEL.ATSS.ANCHOR_STRIDES", (4, 8, 16, 32, 64), r"ANCHOR_STRIDES .*which are \[8"),
        (ATSS, "MODEL.ATSS.NORM", "GroupNorm", r"unknown normalisation 'GroupNorm'"),
        (
            FCOS,
            "MODEL.FCOS.SIZES_OF_INTEREST",
            [64],
            r"separates 2 levels, but .*IN_FEATURES has 5",
        ),
        (FCOS, "MODEL.FCOS.LOSS_NORMALIZER", "mean", r"LOSS_NORMALIZER must be 'ema' or 'batch'"),
        (RETINANET, "MODEL.RETINANET.LOSS_NORMALIZER", "sum", r"'ema', 'batch' or 'image', got"),
        (RETINANET, "MODEL.RETINANET.IOU_THRESHOLDS", [0.5, 0.4], r"must ascend"),
        (
            RETINANET,
            "MODEL.ANCHOR_GENERATOR.SIZES",
            [[32], [64], [128, 160], [256], [512]],
            r"same number of anchors on each",
        ),
    ],
)
def test_refused(part: list, key: str, value: Any, match: str) -> None:
    cfg = tiny_config(part, [(key, value)])
    with pytest.raises(ValueError, match=match):
        build_model(cfg)


def test_rows_of_a_map() -> None:
    """Two anchors a cell, three classes: cell by cell, in each cell anchor by anchor."""
    logits = torch.arange(2 * 3 * 2 * 2.0).reshape(1, 6, 2, 2)
    rows = permute_to_N_HWA_K(logits, 3)
    assert rows.shape == (1, 8, 3)
    assert rows[0, 0].tolist() == [0.0, 4.0, 8.0]  # first cell, first anchor
    assert rows[0, 1].tolist() == [12.0, 16.0, 20.0]  # first cell, second anchor
    with pytest.raises(ValueError, match=r"expected a map \(N, A \* 4, H, W\)"):
        permute_to_N_HWA_K(logits, 4)
