"""Masks, which lucidet does not have: names for programs that import them beside boxes."""

from __future__ import annotations

from lucidet._absent import absent

__all__ = ["BitMasks", "PolygonMasks", "ROIMasks", "polygons_to_bitmask"]

BitMasks = absent("BitMasks")
PolygonMasks = absent("PolygonMasks")
ROIMasks = absent("ROIMasks")
polygons_to_bitmask = absent("polygons_to_bitmask")
