"""The detectors and their parts."""

from lucidet.layers import ShapeSpec
from lucidet.modeling.anchor_generator import ANCHOR_GENERATOR_REGISTRY, build_anchor_generator
from lucidet.modeling.postprocessing import detector_postprocess
