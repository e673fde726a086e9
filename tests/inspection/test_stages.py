"""Every probe agrees with the table of stages; watching changes nothing."""

from __future__ import annotations

import copy

import pytest
import torch

from lucidet.inspection.stage_shapes import check_trace
from lucidet.inspection.stages import CHAPTERS, STAGES, SYMBOLS, chapter_of
from lucidet.inspection.trace import Trace, watch
from lucidet.utils.probe import probe
from tests.modeling.test_architectures import CONFIGS
from tests.modeling.tiny import record, tiny_model
from tests.test_architecture import _probe_names


def batch():
    return [
        record((96, 128), [[10, 10, 60, 70], [5, 5, 20, 20]]),
        record((90, 120), [], seed=1),
    ]


@pytest.fixture(scope="module", params=list(CONFIGS))
def model(request):
    return tiny_model(CONFIGS[request.param]())


@pytest.mark.parametrize("training", [True, False])
def test_every_probe_is_as_the_table_says(model, training):
    model.train(training)
    with watch() as trace:
        model(batch())
    assert len(trace) >= 7
    assert check_trace(trace) == []


def test_watching_changes_no_bit(model):
    """Losses, gradients and the random state are the same with and without a watcher."""
    model.train()
    results = []
    for watched in (False, True):
        own = copy.deepcopy(model)
        torch.manual_seed(3)
        if watched:
            with watch():
                losses = own(batch())
                sum(losses.values()).backward()
        else:
            losses = own(batch())
            sum(losses.values()).backward()
        gradients = [p.grad for p in own.parameters() if p.grad is not None]
        results.append(([*losses.values(), *gradients], torch.rand(1)))
    (plain, after_plain), (watched_values, after_watched) = results
    assert all(torch.equal(a, b) for a, b in zip(plain, watched_values, strict=True))
    assert torch.equal(after_plain, after_watched)


def test_the_table_has_every_probe_and_no_other():
    own = {"config.values", "model.tree", "loss.gradients", "loss.optimizer"}
    assert set(STAGES) == _probe_names() | own


def test_chapters_are_the_eleven_steps_in_order():
    assert list(CHAPTERS) == [
        *("config", "model", "input", "backbone", "anchors", "assign", "head", "proposals"),
        *("roi", "loss", "detections"),
    ]
    assert {stage.chapter for stage in STAGES.values()} == set(CHAPTERS)
    assert chapter_of("rpn.assign") == "assign"
    with pytest.raises(KeyError, match=r"no stage 'rpn.assing'"):
        chapter_of("rpn.assing")
    assert all(scope in ("batch", "image", "event") for scope, _ in SYMBOLS.values())


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"image": 0, "labels": torch.zeros(3, dtype=torch.int8)}, "R is 3 here, but 4 before"),
        ({"image": 0, "labels": torch.zeros(4)}, "holds float, expected int"),
        ({"image": 0, "labels": torch.zeros(4, 1, dtype=torch.int8)}, r"expected \(R\), got"),
        ({"image": 0}, "labels: missing"),
        ({"image": 0, "labels": None}, "is None"),
        ({"image": 0, "labels": torch.zeros(4).char(), "more": 1}, "no such field"),
    ],
)
def test_a_disagreement_is_named(values, complaint):
    trace = Trace()
    with watch(trace):
        probe("rpn.sample", image=0, labels=torch.zeros(4, dtype=torch.int8))
        probe("rpn.sample", **values)
    with pytest.raises(AssertionError, match=complaint):
        assert not check_trace(trace), "\n".join(check_trace(trace))


def test_an_unknown_probe_is_named():
    with watch() as trace:
        probe("rpn.nothing")
    assert check_trace(trace) == ["rpn.nothing: the table of stages has no such probe"]


@pytest.mark.slow
def test_graphs_are_captured_with_probes_in_place():
    model = tiny_model(CONFIGS["RetinaNet"]()).eval()

    class Tensors(torch.nn.Module):
        """What of the model is tensors in, tensors out; with the probes of backbone and head."""

        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, images):
            features = self.model.backbone(images)
            probe("backbone.features", features=features)
            return self.model._rows(self.model.head(list(features.values())))

    part, images = Tensors().eval(), torch.rand(1, 3, 64, 64)
    with torch.no_grad(), watch() as trace:
        expected = part(images)
        exported = torch.export.export(part, (images,)).module()(images)
        compiled = torch.compile(part, fullgraph=True, backend="eager")(images)
    assert [event.name for event in trace] == ["backbone.features", "dense.head"]
    for result in (exported, compiled):
        for kind, other in zip(expected, result, strict=True):
            for a, b in zip(kind, other, strict=True):
                torch.testing.assert_close(a, b)
