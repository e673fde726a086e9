"""Trainer, predictor and program with the real parts, on tiny images."""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lucidet.engine import (
    AMPTrainer,
    DefaultPredictor,
    DefaultTrainer,
    SimpleTrainer,
    default_argument_parser,
    default_setup,
    hooks,
)
from lucidet.engine.parallel import has_unused_features
from lucidet.engine.run import main
from lucidet.engine.setup import require_writable
from lucidet.evaluation import DatasetEvaluator
from lucidet.utils.env import seed_all_rng


class Losses(hooks.HookBase):
    """Remembers the losses of each iteration."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def after_step(self) -> None:
        self.values.append(self.trainer.storage.latest()["total_loss"][0])


def train(cfg: Any, resume: bool = False, kind: type[DefaultTrainer] = DefaultTrainer) -> Any:
    seed_all_rng(cfg.SEED)
    trainer = kind(cfg)
    watch = Losses()
    trainer.register_hooks([watch])
    trainer.resume_or_load(resume=resume)
    results = trainer.train()
    return trainer, watch.values, results


# ----------------------------------------------------------------------------------------- setup


def test_output_dir_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(NotADirectoryError, match=r"OUTPUT_DIR '.*file.*not a folder; set"):
            require_writable(folder)


def test_output_dir_without_rights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(PermissionError, match=r"cannot be written to \(Read-only file system\)"):
        require_writable(tmp_path)


def test_setup_saves_the_config_and_seeds(tiny_cfg: Any) -> None:
    tiny_cfg.freeze()
    default_setup(tiny_cfg, argparse.Namespace(config_file="", eval_only=False))
    drawn = torch.rand(1)
    default_setup(tiny_cfg, argparse.Namespace())
    assert torch.equal(torch.rand(1), drawn)
    saved = tiny_cfg.clone()
    saved.defrost()
    saved.SOLVER.BASE_LR = 1.0
    saved.merge_from_file(str(Path(tiny_cfg.OUTPUT_DIR) / "config.yaml"))
    assert saved == tiny_cfg


@pytest.mark.skipif(torch.cuda.is_available(), reason="meant for machines without GPU")
def test_missing_gpu_becomes_cpu(tiny_cfg: Any) -> None:
    tiny_cfg.MODEL.DEVICE = "cuda"
    tiny_cfg.freeze()
    default_setup(tiny_cfg, argparse.Namespace())
    assert tiny_cfg.MODEL.DEVICE == "cpu"
    assert tiny_cfg.is_frozen()


def test_arguments_are_detectron2s() -> None:
    args = default_argument_parser().parse_args([])
    assert vars(args) | {"dist_url": ""} == {
        "config_file": "",
        "resume": False,
        "eval_only": False,
        "num_gpus": 1,
        "num_machines": 1,
        "machine_rank": 0,
        "dist_url": "",
        "opts": [],
    }


# ---------------------------------------------------------------------------------------- training


@pytest.mark.slow
def test_training_writes_everything(tiny_cfg: Any) -> None:
    tiny_cfg.TEST.VAL_LOSS = True
    tiny_cfg.TEST.EVAL_PERIOD = 2
    tiny_cfg.SOLVER.EMA.ENABLED = True
    tiny_cfg.SOLVER.BEST_CHECKPOINT.METRIC = "bbox/AP"
    tiny_cfg.SOLVER.EARLY_STOPPING.PATIENCE = 5
    trainer, losses, results = train(tiny_cfg)
    assert len(losses) == 4
    assert set(results["bbox"]) >= {"AP", "AP50", "AP75"}
    out = Path(tiny_cfg.OUTPUT_DIR)
    names = {path.name for path in out.glob("*.pth")}
    assert names == {"model_0000001.pth", "model_0000003.pth", "model_final.pth", "model_best.pth"}
    checkpoint = torch.load(out / "model_final.pth", weights_only=True)
    keys = {"model", "optimizer", "scheduler", "iteration", "ema", "trainer", "lucidet"}
    assert set(checkpoint) == keys
    assert checkpoint["iteration"] == 3
    lines = [json.loads(line) for line in (out / "metrics.json").read_text().splitlines()]
    written = {name for line in lines for name in line}
    assert written >= {"total_loss", "loss_rpn_cls", "lr", "validation/total_loss", "bbox/AP"}
    assert all(np.isfinite(losses))
    assert trainer.iter == 4


@pytest.mark.slow
def test_resume_continues_bit_identically(tiny_cfg: Any, tmp_path: Path) -> None:
    tiny_cfg.DATASETS.TEST = ()
    tiny_cfg.SOLVER.MAX_ITER = 6
    tiny_cfg.SOLVER.CHECKPOINT_PERIOD = 3
    whole, losses, _ = train(tiny_cfg)
    out = Path(tiny_cfg.OUTPUT_DIR)
    (out / "last_checkpoint").write_text("model_0000002.pth")  # as if it had stopped there
    again, later, _ = train(tiny_cfg, resume=True)
    assert again.start_iter == 3
    assert later == losses[3:]
    for (name, a), b in zip(
        whole.model.state_dict().items(), again.model.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b), name


def test_without_checkpoint_resume_starts_anew(tiny_cfg: Any) -> None:
    tiny_cfg.DATASETS.TEST = ()
    tiny_cfg.SOLVER.MAX_ITER = 1
    trainer, losses, results = train(tiny_cfg, resume=True)
    assert trainer.start_iter == 0
    assert len(losses) == 1
    assert not results


def test_subclass_overrides_count(tiny_cfg: Any) -> None:
    class Counts(DatasetEvaluator):
        def reset(self) -> None:
            self.images = 0

        def process(self, inputs: Any, outputs: Any) -> None:
            self.images += len(inputs)

        def evaluate(self) -> Any:
            return {"bbox": {"images": self.images}}

    class Trainer(DefaultTrainer):
        @classmethod
        def build_evaluator(cls, cfg: Any, dataset_name: str, output_folder: Any = None) -> Any:
            return Counts()

        def build_hooks(self) -> Any:
            found = super().build_hooks()
            found.insert(-1, hooks.CallbackHook(before_step=lambda t: steps.append(t.iter)))
            return found

        def after_backward(self) -> None:
            super().after_backward()
            gradients.append(next(self.model.parameters()).grad is not None)

    steps: list[int] = []
    gradients: list[bool] = []
    tiny_cfg.SOLVER.MAX_ITER = 2
    trainer, _, results = train(tiny_cfg, kind=Trainer)
    assert results == {"bbox": {"images": 6}}
    assert steps == [0, 1]
    assert gradients == [True, True]
    assert isinstance(trainer._trainer, SimpleTrainer)
    assert trainer.optimizer is trainer._trainer.optimizer


@pytest.mark.slow
def test_amp_and_accumulation(tiny_cfg: Any) -> None:
    tiny_cfg.DATASETS.TEST = ()
    tiny_cfg.SOLVER.AMP.ENABLED = True
    tiny_cfg.SOLVER.ACCUMULATE = 2
    tiny_cfg.SOLVER.MAX_ITER = 2
    trainer, losses, _ = train(tiny_cfg)
    assert isinstance(trainer._trainer, AMPTrainer)
    assert trainer._trainer.precision == torch.bfloat16
    assert len(next(trainer._trainer._data_loader_iter)) == 1
    assert all(np.isfinite(losses))
    tiny_cfg.SOLVER.ACCUMULATE = 3
    with pytest.raises(ValueError, match=r"IMS_PER_BATCH 2.*ACCUMULATE 3"):
        DefaultTrainer(tiny_cfg)


def test_reference_batch_scales(tiny_cfg: Any, caplog: Any) -> None:
    tiny_cfg.SOLVER.REFERENCE_BATCH = 16
    tiny_cfg.SOLVER.BASE_LR = 0.02
    tiny_cfg.SOLVER.MAX_ITER = 90000
    tiny_cfg.SOLVER.STEPS = (60000, 80000)
    tiny_cfg.DATASETS.TEST = ()
    logging.getLogger("lucidet").propagate = True
    with caplog.at_level(logging.INFO):
        trainer = DefaultTrainer(tiny_cfg)
    assert trainer.cfg.SOLVER.BASE_LR == 0.0025
    assert trainer.max_iter == 720000
    assert "(480000, 640000)" in caplog.text


def test_auto_scale_workers(tiny_cfg: Any) -> None:
    assert DefaultTrainer.auto_scale_workers(tiny_cfg, 8) is tiny_cfg
    tiny_cfg.SOLVER.REFERENCE_WORLD_SIZE = 8
    tiny_cfg.SOLVER.IMS_PER_BATCH = 16
    tiny_cfg.SOLVER.BASE_LR = 0.1
    tiny_cfg.SOLVER.MAX_ITER = 5000
    tiny_cfg.SOLVER.STEPS = (4000,)
    tiny_cfg.freeze()
    scaled = DefaultTrainer.auto_scale_workers(tiny_cfg, 16)
    solver = scaled.SOLVER
    assert (solver.IMS_PER_BATCH, solver.BASE_LR, solver.MAX_ITER) == (32, 0.2, 2500)
    assert tuple(solver.STEPS) == (2000,)
    assert solver.REFERENCE_WORLD_SIZE == 16
    assert scaled.is_frozen()
    assert tiny_cfg.SOLVER.IMS_PER_BATCH == 16


def test_wrong_number_of_classes(tiny_cfg: Any) -> None:
    tiny_cfg.MODEL.ROI_HEADS.NUM_CLASSES = 80
    with pytest.raises(ValueError, match=r"NUM_CLASSES is 80.*2 classes.*NUM_CLASSES 2"):
        DefaultTrainer(tiny_cfg)


def test_unread_keys_are_named(tiny_cfg: Any, caplog: Any) -> None:
    tiny_cfg.MODEL.RETINANET.NUM_CONVS = 2
    logging.getLogger("lucidet").addHandler(caplog.handler)  # the trainer stops propagation
    DefaultTrainer(tiny_cfg)
    assert "MODEL.RETINANET.NUM_CONVS" in caplog.text
    for key in ("SOLVER.BASE_LR", "MODEL.WEIGHTS", "SEED"):
        assert f"{key}  (" not in caplog.text


def test_missing_weights(tiny_cfg: Any) -> None:
    tiny_cfg.MODEL.WEIGHTS = str(Path(tiny_cfg.OUTPUT_DIR) / "R-18.pth")
    trainer = DefaultTrainer(tiny_cfg)
    with pytest.raises(FileNotFoundError, match=r'R-18\.pth.*MODEL\.WEIGHTS "" trains'):
        trainer.resume_or_load(resume=False)


# --------------------------------------------------------------------------- program, predictor


@pytest.mark.slow
def test_program_trains_and_evaluates(tiny_cfg: Any, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(tiny_cfg.dump())
    opts = ["SOLVER.MAX_ITER", "1"]
    parse = default_argument_parser().parse_args
    main(parse(["--config-file", str(tmp_path / "c.yaml"), *opts]))
    weights = str(Path(tiny_cfg.OUTPUT_DIR) / "model_final.pth")
    arguments = ["--eval-only", "--config-file", str(tmp_path / "c.yaml")]
    results = main(parse([*arguments, "MODEL.WEIGHTS", weights]))
    assert set(results) == {"bbox"}
    assert (Path(tiny_cfg.OUTPUT_DIR) / "inference" / "coco_instances_results.json").is_file()


def test_predictor(tiny_cfg: Any) -> None:
    tiny_cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    predictor = DefaultPredictor(tiny_cfg)
    random = np.random.default_rng(1)
    images = [
        random.integers(0, 255, shape, dtype=np.uint8) for shape in ((48, 64, 3), (30, 20, 3))
    ]
    together = predictor.predict_batch(images)
    assert predictor.predict_batch([]) == []
    for image, output in zip(images, together, strict=True):
        alone = predictor(image)["instances"]
        instances = output["instances"]
        assert instances.image_size == image.shape[:2]
        assert len(alone) == len(instances)
        torch.testing.assert_close(alone.scores, instances.scores, rtol=1e-3, atol=1e-3)
    assert predictor.metadata.name == tiny_cfg.DATASETS.TEST[0]
    assert predictor.input_format == "BGR"
    assert not predictor.model.training


@pytest.mark.parametrize("image", [None, np.zeros((4, 4)), np.zeros((4, 4, 4)), "street.jpg"])
def test_predictor_refuses_what_is_no_image(tiny_cfg: Any, image: Any) -> None:
    predictor = DefaultPredictor(tiny_cfg)
    with pytest.raises(ValueError, match=r"shape \(H, W, 3\)"):
        predictor(image)


@pytest.mark.parametrize(
    ("computed", "rpn", "roi", "unused"),
    [
        (["p2", "p3"], ["p2", "p3"], ["p2"], False),
        (["p2", "p3", "p4"], ["p2", "p3"], ["p2"], True),  # p4's convolution learns nothing
        (["p2"], None, None, False),  # parts that do not tell what they take
        (None, ["p2"], ["p2"], False),
    ],
)
def test_unused_features(computed: Any, rpn: Any, roi: Any, unused: bool) -> None:
    model = torch.nn.Module()
    for name, attribute, value in (
        ("backbone", "_out_features", computed),
        ("proposal_generator", "in_features", rpn),
        ("roi_heads", "in_features", roi),
    ):
        part = torch.nn.Module()
        if value is not None:
            setattr(part, attribute, value)
        setattr(model, name, part)
    assert has_unused_features(model) is unused
    assert not has_unused_features(torch.nn.Linear(1, 1))
