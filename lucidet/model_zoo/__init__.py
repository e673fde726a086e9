"""Configs that come with lucidet, and detectron2's trained weights for them, by name."""

from lucidet.model_zoo.model_zoo import get, get_checkpoint_url, get_config, get_config_file

__all__ = ["get", "get_checkpoint_url", "get_config", "get_config_file"]
