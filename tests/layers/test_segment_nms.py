"""Segment NMS equals `batched_nms`: its layout, and its kernels in an interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module

import pytest
import torch
from torch import Tensor

from lucidet.layers import batched_nms, nms_padded
from lucidet.layers import nms as _nms_operator
from lucidet.layers.fast import segment_nms as segment_nms_module
from lucidet.layers.fast.segment_nms import plain_segment_nms, segment_nms
from tests.layers.test_nms_padded import _boxes


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let NMS take the way that it takes on a GPU; the plain form stands in for the kernels."""
    monkeypatch.setattr(
        import_module("lucidet.layers.nms"), "_prefers_segments", lambda boxes: True
    )


@pytest.mark.parametrize(
    ("num_images", "num_boxes", "num_groups"),
    [(1, 0, 1), (2, 1, 1), (3, 50, 1), (2, 300, 5), (2, 400, 81), (1, 1500, 3), (8, 130, 2)],
)
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_layout(
    num_images: int,
    num_boxes: int,
    num_groups: int,
    ties: bool,
    dtype: torch.dtype,
    request: pytest.FixtureRequest,
) -> None:
    boxes, scores, groups, valid = _boxes(num_images, num_boxes, num_groups, ties)
    boxes, scores = boxes.to(dtype), scores.to(dtype)
    expected = nms_padded(boxes, scores, groups, valid, 0.5, 40)
    alone = [batched_nms(*own, 0.5) for own in zip(boxes, scores, groups, strict=True)]
    request.getfixturevalue("on_gpu")
    for found, wanted in zip(
        nms_padded(boxes, scores, groups, valid, 0.5, 40), expected, strict=True
    ):
        assert found.tolist() == wanted.tolist()
    for image, wanted in enumerate(alone):
        kept = batched_nms(boxes[image], scores[image], groups[image], 0.5)
        assert kept.tolist() == wanted.tolist()
        assert kept.dtype == torch.int64


def test_infinite_and_missing_scores(on_gpu: None) -> None:
    boxes = torch.tensor([[0.0, 0, 9, 9], [20, 0, 29, 9], [40, 0, 49, 9]]).expand(2, 3, 4)
    scores = torch.tensor([[-torch.inf, 0.5, torch.nan], [0.1, 0.2, 0.3]])
    valid = torch.tensor([[True, True, True], [False, False, False]])
    keep, count = nms_padded(boxes, scores, torch.zeros(3).long(), valid, 0.5, 3)
    assert count.tolist() == [3, 0]
    assert keep.tolist() == [[2, 1, 0], [0, 0, 0]]
    assert batched_nms(boxes[0], scores[1], torch.zeros(3), 0.5).tolist() == [2, 1, 0]


def test_a_batch_of_one_group_equals_nms(on_gpu: None) -> None:
    boxes, scores, _, _ = _boxes(1, 200, 1, False)
    kept = batched_nms(boxes[0], scores[0], torch.zeros(200).long(), 0.3)
    assert kept.tolist() == _nms_operator(boxes[0], scores[0], 0.3).tolist()


def test_the_operator_can_be_captured() -> None:
    boxes, ends = torch.zeros(3, 4), torch.tensor([2, 2, 0], dtype=torch.int32)
    torch.library.opcheck(segment_nms, (boxes, ends, 2, 0.5))


def segments(lengths: list[int], gaps: list[int], seed: int) -> tuple[Tensor, Tensor]:
    """Return boxes and ends of segments with places between them that hold no box."""
    generator = torch.Generator().manual_seed(seed)
    ends: list[int] = []
    for length, gap in zip(lengths, gaps, strict=True):
        ends += [len(ends) + length] * length
        ends += [0] * gap
    low = (40 * torch.rand(len(ends), 2, generator=generator)).round()
    high = low + (30 * torch.rand(low.shape, generator=generator)).round()  # some without area
    return torch.cat([low, high], dim=1), torch.tensor(ends, dtype=torch.int32)


@pytest.mark.skipif(not segment_nms_module.AVAILABLE, reason="Triton is not installed")
def test_the_kernels_compile_for_a_gpu() -> None:
    """Without one: Triton brings its own assembler."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from lucidet.layers.fast.segment_nms_kernels import _keep_greedily, _overlap_bits

    gpu = GPUTarget("cuda", 80, 32)
    types = {"boxes": "*fp32", "ends": "*i32", "bits": "*i64", "n": "i32", "threshold": "fp32"}
    source = ASTSource(_overlap_bits, {**types, "WORDS": "constexpr"}, {(5,): 17})
    compiled = triton.compile(source, target=gpu, options={"enable_fp_fusion": False})
    # the decision at the threshold is that of IEEE arithmetic
    assert "div.rn.f32" in compiled.asm["ptx"]
    assert "fma" not in compiled.asm["ptx"]
    types = {"bits": "*i64", "ends": "*i32", "keep": "*i8", "n": "i32"}
    sizes = {"WORDS": "constexpr", "WIDTH": "constexpr"}
    source = ASTSource(_keep_greedily, {**types, **sizes}, {(4,): 17, (5,): 32})
    assert triton.compile(source, target=gpu).asm["cubin"]


#: lengths of segments, places without a box after each
LAYOUTS = [
    ([1], [0]),
    ([0], [3]),
    ([64], [0]),
    ([63, 2, 66], [0, 0, 0]),
    ([1, 1, 1, 1], [0, 1, 0, 64]),
    ([20, 5, 130], [30, 0, 7]),
    ([3] * 30, [0] * 30),
]


def check_the_kernels() -> None:
    """Compare the kernels themselves with the plain form, on the CPU; for a process of its own."""
    from lucidet.layers.fast.segment_nms_kernels import launch

    for seed, (lengths, gaps) in enumerate(LAYOUTS):
        boxes, ends = segments(lengths, gaps, seed)
        longest = len(ends) if seed % 2 else max(lengths)
        threshold = (0.0, 0.5, 0.75)[seed % 3]  # exact in float32, and met exactly by some pairs
        wanted = plain_segment_nms(boxes, ends, longest, threshold)
        found = launch(boxes, ends, longest, threshold)
        assert found.tolist() == wanted.tolist(), (lengths, gaps, longest, threshold)


@pytest.mark.slow
@pytest.mark.skipif(not segment_nms_module.AVAILABLE, reason="Triton is not installed")
def test_the_kernels_in_the_interpreter() -> None:
    code = "from tests.layers.test_segment_nms import check_the_kernels; check_the_kernels()"
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
