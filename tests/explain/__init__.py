"""Fates of ground-truth boxes and origins of detections."""
