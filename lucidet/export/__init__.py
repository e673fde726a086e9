"""detectron2's names for export: they import, and using one says that lucidet does not export."""

from __future__ import annotations

from lucidet._absent import absent

__all__ = [
    "Caffe2Model",
    "Caffe2Tracer",
    "ONNXTracer",
    "STABLE_ONNX_OPSET_VERSION",
    "TracingAdapter",
    "add_export_config",
    "dump_torchscript_IR",
    "scripting_with_instances",
]

Caffe2Model = absent("Caffe2Model")
Caffe2Tracer = absent("Caffe2Tracer")
ONNXTracer = absent("ONNXTracer")
STABLE_ONNX_OPSET_VERSION = absent("STABLE_ONNX_OPSET_VERSION")
TracingAdapter = absent("TracingAdapter")
add_export_config = absent("add_export_config")
dump_torchscript_IR = absent("dump_torchscript_IR")
scripting_with_instances = absent("scripting_with_instances")
