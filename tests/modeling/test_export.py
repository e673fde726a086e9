"""Export is refused by a sentence; tracing works."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lucidet.export
from tests.modeling.tiny import FPN, RETINANET, tiny_config, tiny_model


class _Boxes(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor:
        return self.model([{"image": image}])[0]["instances"].pred_boxes.tensor


# both exporters are older ones of torch
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("parts", [FPN, RETINANET], ids=["faster_rcnn", "retinanet"])
def test_script_and_onnx_are_refused(parts: Any) -> None:
    model = tiny_model(tiny_config(parts), 0).eval()
    with pytest.raises(NotImplementedError, match=r"lucidet does not export .* torch\.jit\.trace"):
        torch.jit.script(model)
    image = torch.zeros(3, 64, 64)
    with pytest.raises(NotImplementedError, match="nor to ONNX"), torch.no_grad():
        torch.onnx.export(_Boxes(model), (image,), io.BytesIO(), dynamo=False)


def test_names_of_detectron2_import_and_refuse() -> None:
    with pytest.raises(NotImplementedError, match="TracingAdapter is for export"):
        lucidet.export.TracingAdapter(nn.Identity(), [])
