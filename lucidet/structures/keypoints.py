"""Keypoints, which lucidet does not have: names for programs that import them beside boxes."""

from __future__ import annotations

from lucidet._absent import absent

__all__ = ["Keypoints", "heatmaps_to_keypoints"]

Keypoints = absent("Keypoints")
heatmaps_to_keypoints = absent("heatmaps_to_keypoints")
