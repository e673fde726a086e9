"""Colors of boxes on every page, color-blind safe (Okabe and Ito)."""

from __future__ import annotations

__all__ = ["LAYER_COLORS", "VERDICT_COLORS"]

#: what became of a ground-truth box or of a detection
VERDICT_COLORS = {
    "found": "#009E73",
    "missed": "#0072B2",
    "wrong": "#D55E00",
    "ignored": "#8a949e",
    "followed": "#c04ee0",
}

#: numbered colors of layers; 7 is ground truth
LAYER_COLORS = (
    "#3da5ff",
    "#ff9f1c",
    "#2ee56b",
    "#ff4d6d",
    "#b98cff",
    "#9aa7b4",
    "#00d9d9",
    "#ffe14d",
)
