"""Tiny trainings that are killed and resumed, and what is compared afterwards.

``python -m tests.engine.killed FOLDER KIND KILLS [PROCESSES]`` trains once as it is and once with
kills, and fails where the two differ. It forks: a program that has used autograd could not.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from lucidet.config import get_cfg
from lucidet.data import DatasetCatalog, DatasetMapper, build_detection_train_loader
from lucidet.data.datasets import register_coco_instances
from lucidet.engine import DefaultTrainer, launch
from lucidet.utils.env import seed_all_rng

NAME = "killed_tests_tiny"
#: values that differ between two runs of the same training
CLOCK = {"time", "data_time", "eta_seconds"}


def write_dataset(folder: Path, same_size: bool = False) -> None:
    """Write eight pictures, wide and high ones, with one or two boxes each."""
    drawn = np.random.default_rng(0)
    images, annotations = [], []
    for i in range(1, 9):
        height, width = (48, 64) if same_size or i % 3 else (64, 48)
        pixels = drawn.integers(0, 80, (height, width, 3), dtype=np.uint8)
        images.append({"id": i, "file_name": f"{i}.png", "height": height, "width": width})
        for k in range(1 + i % 2):
            x, y = 3 * i + 4 * k, 4 + 10 * k
            pixels[y : y + 24, x : x + 20] = (220, 30, 30) if i % 2 else (30, 30, 220)
            annotations.append(
                {"id": len(annotations) + 1, "image_id": i, "bbox": [x, y, 20, 24]}
                | {"category_id": 1 + i % 2, "area": 480, "iscrowd": 0}
            )
        Image.fromarray(pixels).save(folder / f"{i}.png")
    categories = [{"id": 1, "name": "blue"}, {"id": 2, "name": "red"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "tiny.json").write_text(json.dumps(content))


def config(folder: Path, kind: str, out: str = "out") -> Any:
    """Return the config of a tiny detector on the pictures in `folder`."""
    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.WEIGHTS = ""
    cfg.MODEL.MASK_ON = False
    cfg.MODEL.META_ARCHITECTURE = kind
    levels = ["res3", "res4", "res5"]
    cfg.MODEL.BACKBONE.NAME = "build_retinanet_resnet_fpn_backbone"
    if kind == "GeneralizedRCNN":
        levels = ["res2", *levels]
        cfg.MODEL.BACKBONE.NAME = "build_resnet_fpn_backbone"
        cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[8], [16], [32], [64], [128]]
        cfg.MODEL.RPN.IN_FEATURES = ["p2", "p3", "p4", "p5", "p6"]
        cfg.MODEL.RPN.PRE_NMS_TOPK_TRAIN = cfg.MODEL.RPN.PRE_NMS_TOPK_TEST = 60
        cfg.MODEL.RPN.POST_NMS_TOPK_TRAIN = cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 30
        cfg.MODEL.RPN.BATCH_SIZE_PER_IMAGE = 32
        cfg.MODEL.ROI_HEADS.NAME = "StandardROIHeads"
        cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p2", "p3", "p4", "p5"]
        cfg.MODEL.ROI_HEADS.NUM_CLASSES = 2
        cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 16
        cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
        cfg.MODEL.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
        cfg.MODEL.ROI_BOX_HEAD.NUM_FC = 1
        cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 16
        cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = 3
        cfg.SOLVER.AMP.ENABLED = True
        cfg.SOLVER.AMP.DTYPE = "bf16"
        cfg.SOLVER.EMA.ENABLED = True
        cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.ACCUMULATE = 4, 2
    else:
        cfg.SOLVER.IMS_PER_BATCH = 2
        cfg.TEST.PRECISE_BN.ENABLED, cfg.TEST.PRECISE_BN.NUM_ITER = kind == "RetinaNet", 2
        section = cfg.MODEL[kind.upper()]
        section.NUM_CLASSES = 2
        section.NUM_CONVS = 1
        section.NORM = ""
        section.SCORE_THRESH_TEST = 0.0
        section.TOPK_CANDIDATES_TEST = 30
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.RESNETS.DEPTH = 18
    cfg.MODEL.RESNETS.STEM_OUT_CHANNELS = 8
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 8
    cfg.MODEL.RESNETS.NORM = "BN"
    cfg.MODEL.RESNETS.OUT_FEATURES = cfg.MODEL.FPN.IN_FEATURES = levels
    cfg.MODEL.FPN.OUT_CHANNELS = 16
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = (NAME,)
    cfg.DATALOADER.NUM_WORKERS = 2
    cfg.INPUT.MIN_SIZE_TRAIN = (40, 48)
    cfg.INPUT.MIN_SIZE_TEST = 48
    cfg.INPUT.CROP.ENABLED = True
    cfg.SOLVER.BASE_LR = 0.01
    cfg.SOLVER.MAX_ITER = 14
    cfg.SOLVER.STEPS = (9,)
    cfg.SOLVER.WARMUP_ITERS = 3
    cfg.SOLVER.CHECKPOINT_PERIOD = 3
    cfg.SOLVER.CHECKPOINTS_KEPT = 2
    cfg.SOLVER.BEST_CHECKPOINT.METRIC = "validation/total_loss"
    cfg.SOLVER.BEST_CHECKPOINT.MODE = "min"
    cfg.TEST.VAL_LOSS = True
    cfg.TEST.EVAL_PERIOD = 4
    cfg.SEED = 5
    cfg.TEST.DETECTIONS_PER_IMAGE = 10
    cfg.OUTPUT_DIR = str(folder / out)
    return cfg


class Jitter:
    """User code in a mapper that draws from all three generators."""

    def __init__(self, mapper: Any) -> None:
        self.mapper = mapper

    def __call__(self, record: dict[str, Any]) -> dict[str, Any]:
        mapped = self.mapper(record)
        drawn = random.random() + np.random.rand() + float(torch.rand(1))
        mapped["image"] = (mapped["image"] * (0.9 + 0.03 * drawn)).clamp(max=255).to(torch.uint8)
        return mapped


class Trainer(DefaultTrainer):
    """With the mapper of a user."""

    @classmethod
    def build_train_loader(cls, cfg: Any) -> Any:
        return build_detection_train_loader(cfg, mapper=Jitter(DatasetMapper(cfg, True)))


def train(folder: str, resume: bool = True) -> DefaultTrainer:
    """Train as the file ``c.yaml`` in `folder` says, or go on."""
    cfg = get_cfg()
    cfg.merge_from_file(f"{folder}/c.yaml")
    if NAME not in DatasetCatalog.list():  # a started process knows nothing of the test's
        register_coco_instances(NAME, {}, f"{folder}/tiny.json", folder)
    torch.set_num_threads(1)
    seed_all_rng(cfg.SEED)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=resume)
    trainer.train()
    return trainer


# ------------------------------------------------------------------------------------ comparing


def differences(a: Any, b: Any, where: str = "") -> Iterator[str]:
    """Yield where two contents of checkpoints differ, but for what clocks say."""
    if isinstance(a, dict) and isinstance(b, dict):
        for key in sorted(a.keys() | b.keys() - CLOCK, key=str):
            if key in CLOCK:
                continue
            if key not in a or key not in b:
                yield f"{where}.{key} is in one only"
            else:
                yield from differences(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)) and len(a) == len(b):
        for i, pair in enumerate(zip(a, b, strict=True)):
            yield from differences(*pair, f"{where}[{i}]")
    elif isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        if a.dtype != b.dtype or a.shape != b.shape or a.numpy().tobytes() != b.numpy().tobytes():
            yield f"{where}: tensors differ"
    elif a != b and not (a != a and b != b):
        yield f"{where}: {a!r} and {b!r}"


def metrics(folder: Path) -> list[dict[str, float]]:
    """Return the lines of ``metrics.json`` without what clocks say."""
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in CLOCK} for line in lines]


def run_differences(one: Path, two: Path) -> list[str]:
    """Return in what two output folders differ: files, checkpoints, metrics."""
    names = [
        {p.name for p in run.iterdir() if not p.name.startswith("events.")} for run in (one, two)
    ]
    found = [f"files: {sorted(names[0] ^ names[1])}"] if names[0] != names[1] else []
    for name in sorted(names[0] & names[1]):
        if name.endswith(".pth"):
            contents = [torch.load(run / name, weights_only=True) for run in (one, two)]
            found += differences(*contents, name)
    lines = metrics(one)
    numbers = [line["iteration"] for line in lines]
    others = [line["iteration"] for line in metrics(two)]
    found += [f"iterations of metrics.json: {numbers}, {others}"] if numbers != others else []
    found += differences(lines, metrics(two), "metrics")
    if numbers != sorted(set(numbers)):
        found.append(f"iterations of metrics.json: {numbers}")
    return found


# -------------------------------------------------------------------------------------- killing


def die_at_call(module: Any, name: str, number: int, before: bool) -> None:
    """Let the run be killed at a call of a function, before or after that has done its work."""
    function, calls = getattr(module, name), [0]

    def counting(*args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        if calls[0] == number and before:
            os.killpg(0, signal.SIGKILL)
        result = function(*args, **kwargs)
        if calls[0] == number:
            os.killpg(0, signal.SIGKILL)
        return result

    setattr(module, name, counting)


def life(
    folder: str,
    processes: int = 1,
    seconds: float | None = None,
    call: tuple[Any, ...] | None = None,
) -> int:
    """Train in forked processes, which may be killed together; return their exit status.

    Args:
        folder: see `train`.
        processes: of the run.
        seconds: kill after that time.
        call: for `die_at_call`, in the first process.
    """
    child = os.fork()
    if child == 0:
        os.setsid()  # a group of its own, with all loading processes
        os._exit(_run(folder, processes, call))
    if seconds is not None:
        time.sleep(seconds)
        os.killpg(child, signal.SIGKILL)  # perhaps no longer running, but still ours to wait for
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _run(folder: str, processes: int, call: tuple[Any, ...] | None) -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    ranks = []
    for rank in range(processes):
        ranks.append(os.fork())
        if ranks[-1] == 0:
            if processes > 1:  # as torchrun sets it
                os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
                os.environ |= dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE"), str(processes))
                os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            os._exit(_train_logged(folder, call if rank == 0 else None))
    return max(os.waitstatus_to_exitcode(os.waitpid(rank, 0)[1]) for rank in ranks)


def _train_logged(folder: str, call: tuple[Any, ...] | None) -> int:
    with open(f"{folder}/log", "a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    try:
        if call is not None:
            die_at_call(*call)
        launch(train, 1, args=(folder,))
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def compare(path: Path) -> None:
    found = run_differences(path / "undisturbed", path / "out")
    assert not found, "\n".join(line[:300] for line in found[:10])


def main(folder: str, kind: str, kills: int, processes: int = 1) -> None:
    path = Path(folder)
    write_dataset(path)
    cfg = config(path, kind)
    (path / "c.yaml").write_text(cfg.dump())
    began = time.monotonic()
    assert life(folder, processes) == 0, (path / "log").read_text()[-3000:]
    seconds = time.monotonic() - began
    (path / "out").rename(path / "undisturbed")
    chance = random.Random(kind)
    killed = 0
    for number in range(kills):
        # in the middle of a write, between two of them, in an evaluation, or at any time
        how = ("fsync", "replace", "evaluation", "time")[number % 4]
        if how == "time":
            status = life(folder, processes, seconds=chance.uniform(0.1, 1.0) * seconds)
        elif how == "evaluation":
            call = (DefaultTrainer, "weights_for_evaluation", 1 + chance.randrange(2), True)
            status = life(folder, processes, call=call)
        else:
            call = (os, how, 1 + chance.randrange(6), chance.random() < 0.5)
            status = life(folder, processes, call=call)
        assert status in (0, -signal.SIGKILL), (path / "log").read_text()[-3000:]
        killed += status != 0
        if status == 0:  # it reached the end: begin again
            compare(path)
            shutil.rmtree(path / "out")
    assert life(folder, processes) == 0, (path / "log").read_text()[-3000:]
    compare(path)
    print(f"{kind}: killed {killed} times, one run takes {seconds:.1f} s, no difference")


def processes_agree(folder: str, kind: str) -> None:
    """Train in one process and in two, with the same images in a batch, and compare the weights."""
    path = Path(folder)
    write_dataset(path, same_size=True)  # images of other sizes are padded otherwise
    cfg = config(path, kind)
    cfg.MODEL.RESNETS.NORM = "FrozenBN"  # batch norm would see other batches
    cfg.INPUT.MIN_SIZE_TRAIN = (48,)
    cfg.INPUT.CROP.ENABLED = cfg.SOLVER.AMP.ENABLED = False
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.DATASETS.TEST = ()
    cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.ACCUMULATE = 4, 1
    cfg.SOLVER.BASE_LR = 1e-4  # without trained statistics nothing is normalized
    cfg.SOLVER.MAX_ITER = 6
    (path / "c.yaml").write_text(cfg.dump())
    ends = []
    for processes in (1, 2):
        assert life(folder, processes) == 0, (path / "log").read_text()[-3000:]
        weights = torch.load(path / "out" / "model_final.pth", weights_only=True)["model"]
        ends.append((weights, metrics(path / "out")[-1]))
        shutil.rmtree(path / "out")
    (one, one_line), (two, two_line) = ends
    for name, loss in one_line.items():
        assert abs(two_line[name] - loss) <= 1e-4 * abs(loss), (name, loss, two_line[name])
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-5, msg=name)
    print(f"{kind}: one process and two agree, {one_line}")


if __name__ == "__main__":
    if sys.argv[3:] == ["agree"]:
        processes_agree(*sys.argv[1:3])
    else:
        main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
