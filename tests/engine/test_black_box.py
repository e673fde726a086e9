"""A step that is not finite is kept, explained and repeated."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from lucidet.cli.main import main
from lucidet.config import get_cfg
from lucidet.config.names import find_config
from lucidet.engine.black_box import BlackBox, Moment, repeat_step
from lucidet.engine.first_bad import first_bad
from lucidet.engine.replay import replay_step
from lucidet.engine.saved_batch import batch_of, taken_apart
from lucidet.engine.train_loop import AMPTrainer, SimpleTrainer
from lucidet.modeling import build_model
from lucidet.modeling.sampling import keyed_step
from lucidet.structures import BitMasks, Boxes, Instances, PolygonMasks
from lucidet.utils.events import EventStorage


def config(kind: str) -> Any:
    cfg = get_cfg()
    cfg.merge_from_file(find_config(f"{kind}_R_18_FPN"))
    cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS = "cpu", ""
    cfg.MODEL.RESNETS.STEM_OUT_CHANNELS = cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 8
    cfg.MODEL.FPN.OUT_CHANNELS, cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 32, 16
    return cfg


def record(number: int, box: list[float] | None = None) -> dict[str, Any]:
    objects = Instances((64, 96))
    objects.gt_boxes = Boxes(torch.tensor([[8.0, 8.0, 40.0, 50.0], box or [50.0, 10, 80, 40]]))
    objects.gt_classes = torch.tensor([0, 1])
    generator = torch.Generator().manual_seed(number)
    image = torch.randint(0, 256, (3, 64, 96), dtype=torch.uint8, generator=generator)
    name = f"{number}.jpg"
    return {
        "image": image,
        "instances": objects,
        "file_name": name,
        "image_id": number,
        "height": 64,
        "width": 96,
    }


def run(
    folder: Path, kind: str, batches: list[Any], rate: float = 0.0, dtype: Any = None
) -> tuple[str, Path]:
    """Train until the error; return its message and the folder of the step."""
    cfg = config(kind)
    torch.manual_seed(0)
    model = build_model(cfg).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    common: dict[str, Any] = {"output_dir": str(folder)}
    trainer = (
        SimpleTrainer(model, batches, optimizer, **common)
        if dtype is None
        else AMPTrainer(model, batches, optimizer, precision=dtype, **common)
    )
    assert trainer.black_box is not None
    trainer.black_box.config = cfg.dump()

    def steps() -> None:
        for trainer.iter in range(len(batches)):
            with keyed_step(3, trainer.iter):
                trainer.run_step()

    with EventStorage(), pytest.raises((ValueError, FloatingPointError)) as stopped:
        steps()
    (found,) = folder.glob("bad_step_iter*")
    return str(stopped.value), found


@pytest.mark.parametrize("kind", ["faster_rcnn", "retinanet"])
def test_an_exploding_rate(tmp_path: Path, kind: str, capsys: Any) -> None:
    batches = [[record(2 * i), record(2 * i + 1)] for i in range(4)]
    message, folder = run(tmp_path, kind, batches, rate=1e20)
    assert f"`lucidet replay {folder}`" in message
    assert "First not finite: the output of " in message
    report = (folder / "report.txt").read_text()
    assert "in all images of the batch: the weights rather than an image" in report
    assert "largest weight: " in report
    assert {path.name for path in folder.iterdir()} == {
        *("step.pth", "config.yaml", "report.txt", "trace.safetensors", "trace.json")
    }
    assert main(["replay", str(folder), "--out", str(tmp_path / "page")]) == 0
    printed = capsys.readouterr().out
    assert "the same to the bit" in printed
    assert "first not finite: the output of " in printed
    assert (tmp_path / "page" / "report.html").is_file()


def test_a_degenerate_box(tmp_path: Path) -> None:
    batches = [[record(0), record(1)], [record(2), record(3, box=[30.0, 20, 30, 40])]]
    message, folder = run(tmp_path, "faster_rcnn", batches)
    assert "gt_boxes[1] = [30, 20, 30, 40]" in message
    assert folder.name == "bad_step_iter1"
    found = replay_step(folder)
    assert found.same
    assert "3.jpg" in "\n".join([message, *found.repetition.report])


@pytest.mark.filterwarnings("ignore:.*CPU autocast")
def test_an_overflow_of_float16(tmp_path: Path) -> None:
    def large(number: int, factor: float) -> dict[str, Any]:
        found = record(number)
        return {**found, "image": found["image"].float() * factor}

    batches = [[record(0), record(1)], [record(2), large(3, 1e7)]]
    message, folder = run(tmp_path, "retinanet", batches, dtype=torch.float16)
    assert "in image 3.jpg (image_id 3)" in message
    assert "2.jpg" not in message.partition("First not finite")[2].partition(".jpg")[0]
    assert replay_step(folder).same


def test_a_gradient_alone(tmp_path: Path) -> None:
    class Root(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, batch: Any) -> Any:
            return {"loss": self.weight.sqrt().sum()}  # 0, with an infinite slope

    model = Root()
    trainer = SimpleTrainer(
        model, [[record(1)]], torch.optim.SGD(model.parameters(), lr=1), output_dir=str(tmp_path)
    )
    trainer.iter = 0
    with pytest.raises(FloatingPointError, match=r"largest gradient is inf.*1\.jpg"):
        trainer.run_step()
    assert model.weight.item() == 0
    with pytest.raises(FileNotFoundError, match=r"config.yaml is missing"):
        replay_step(tmp_path / "bad_step_iter0")


def test_a_repeated_step_leaves_everything_as_it_was() -> None:
    model = build_model(config("retinanet")).train()
    moment = Moment.now(model, 0)
    batch = [record(0), record(1)]
    first = repeat_step(model, [batch], moment)
    states = torch.get_rng_state(), {k: v.clone() for k, v in model.state_dict().items()}
    second = repeat_step(model, [batch], moment)
    assert torch.equal(states[0], torch.get_rng_state())
    assert all(torch.equal(v, states[1][k]) for k, v in model.state_dict().items())
    assert all(torch.equal(first.losses[k], second.losses[k]) for k in first.losses)
    assert first.report == ["no tensor of the forward pass is not finite"]


def test_files_that_are_no_kept_step(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        replay_step(tmp_path)
    (tmp_path / "config.yaml").write_text(config("retinanet").dump())
    torch.save({"model": {"a": torch.zeros(1)}}, tmp_path / "step.pth")
    with pytest.raises(ValueError, match="is no kept step of this config"):
        replay_step(tmp_path)


def test_without_a_model_the_batch_is_kept(tmp_path: Path) -> None:
    said = BlackBox(tmp_path).write(7, {"loss": math.nan}, [record(0)])
    assert "bad_step_iter7" in said
    (batch,) = torch.load(tmp_path / "bad_step_iter7" / "step.pth", weights_only=True)["batches"]
    assert batch_of(batch)[0]["instances"].gt_classes.tolist() == [0, 1]


def test_batches_as_plain_containers() -> None:
    objects = Instances((4, 6))
    objects.gt_boxes = Boxes(torch.zeros(1, 4))
    objects.gt_masks = PolygonMasks([[[0.0, 0, 4, 0, 4, 4]]])
    objects.other = BitMasks(torch.ones(1, 4, 6, dtype=torch.bool))
    back = batch_of(taken_apart(objects, "batch"))
    assert back.image_size == (4, 6)
    assert isinstance(back.gt_boxes, Boxes)
    assert back.gt_masks.polygons[0][0].tolist() == [0.0, 0, 4, 0, 4, 4]
    assert back.other.tensor.all()
    assert taken_apart({1, 2}, "x") == "{1, 2}"
    assert batch_of([{}, []]) == [{}, []]


def test_weights_and_pixels_count_first() -> None:
    model = torch.nn.Linear(2, 2)
    model.weight.data[0, 1] = math.inf
    batch = [{"image": torch.zeros(3, 2, 2)}, {"image": torch.full((3, 2, 2), math.nan)}]
    with first_bad(model, batch) as found:
        model(torch.ones(2, 2))
    assert [bad.where for bad in found[:2]] == ["weight of the model", "the pixels"]
    assert found[1].images == (1,)
