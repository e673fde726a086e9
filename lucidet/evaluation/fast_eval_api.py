"""Where detectron2 has its faster COCOeval; here pycocotools' stands under its name.

COCOEvaluator itself computes with hotcoco, from arrays. Without pycocotools this module can't be
imported, which is what programs that try it first expect.
"""

from __future__ import annotations

from pycocotools.cocoeval import COCOeval as COCOeval_opt

__all__ = ["COCOeval_opt"]
