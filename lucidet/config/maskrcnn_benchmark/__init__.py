"""Configs in the names of maskrcnn-benchmark, FCOS and ATSS, translated into lucidet's."""

from lucidet.config.maskrcnn_benchmark.translate import (
    is_maskrcnn_benchmark,
    translate,
    translate_and_log,
)

__all__ = ["is_maskrcnn_benchmark", "translate", "translate_and_log"]
