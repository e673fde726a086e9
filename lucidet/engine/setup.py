"""What every program does first: output folder, loggers, seeds, device."""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
from pathlib import Path
from typing import Any

import torch

from lucidet.config import CfgNode
from lucidet.config.files import open_config
from lucidet.engine.config_report import differences
from lucidet.utils import comm
from lucidet.utils.collect_env import collect_env_info
from lucidet.utils.env import seed_all_rng
from lucidet.utils.events import (
    CommonMetricPrinter,
    EventWriter,
    JSONWriter,
    TensorboardXWriter,
)
from lucidet.utils.logger import setup_logger

__all__ = ["default_setup", "default_writers", "on_available_device", "require_writable"]

CONFIG_FILE = "config.yaml"
EVALUATION_CONFIG_FILE = "config_of_evaluation.yaml"


def default_setup(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Prepare a run: output folder, log files, the config beside the results, random seeds.

    ``MODEL.DEVICE`` becomes "cpu" where it names a GPU and there is none.

    Args:
        cfg: frozen or not.
        args: of `default_argument_parser`; other programs' may lack any of them.

    Raises:
        PermissionError, NotADirectoryError: OUTPUT_DIR cannot be written to.
    """
    output_dir = cfg.OUTPUT_DIR
    if comm.is_main_process() and output_dir:
        require_writable(output_dir)
    comm.synchronize()  # the folder must be there before another process logs into it
    rank = comm.get_rank()
    logger = setup_logger(output_dir or None, distributed_rank=rank)
    # debug: for the log file; the console shows what one acts on
    logger.debug("Rank of current process: %d. World size: %d", rank, comm.get_world_size())
    logger.debug("Environment info:\n%s", collect_env_info())
    logger.debug("Command line arguments: %s", args)
    if getattr(args, "summary", ""):
        logger.debug("Chosen:\n%s", args.summary)
    on_available_device(cfg)
    config_file = getattr(args, "config_file", "")
    if config_file:
        with open_config(config_file) as file:
            text = file.read()
        logger.debug("Contents of args.config_file=%s:\n%s", config_file, text)
        if not getattr(args, "summary", ""):  # the recipe has shown what it chose
            changes = "\n".join(f"  {line}" for line in differences(cfg, config_file))
            logger.info("%s%s", config_file, f" sets\n{changes}" if changes else "")
    if comm.is_main_process() and output_dir:
        path = Path(output_dir) / CONFIG_FILE
        if getattr(args, "eval_only", False) and path.exists():  # that of the training
            path = path.with_name(EVALUATION_CONFIG_FILE)
        path.write_text(cfg.dump(), encoding="utf-8")
        logger.debug("Full config saved to %s", path)
    seed_all_rng(cfg.SEED + rank if cfg.SEED >= 0 else None)
    if not getattr(args, "eval_only", False):
        # test images differ too much in size for trying out algorithms to pay
        torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK
    if getattr(args, "deterministic", False):
        _use_deterministic_kernels()


def _use_deterministic_kernels() -> None:
    """Let torch take kernels that give the same bits each time; it warns where it has none."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS starts
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False


def require_writable(folder: str | os.PathLike[str]) -> None:
    """Make the folder where it is not there, and check that files can be written into it.

    Raises:
        NotADirectoryError: it, or a folder above it, is a file.
        PermissionError: this user may not write there.
    """
    repair = "set OUTPUT_DIR to a folder that you can write to"
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (FileExistsError, NotADirectoryError) as error:
        raise NotADirectoryError(
            f"OUTPUT_DIR {os.fspath(folder)!r} is, or lies in, a file and not a folder; {repair}"
        ) from error
    except OSError as error:
        raise PermissionError(
            f"OUTPUT_DIR {os.fspath(folder)!r} cannot be written to ({error.strerror}); {repair}"
        ) from error


def on_available_device(cfg: CfgNode) -> CfgNode:
    """Set ``MODEL.DEVICE`` to "cpu" where it names a device that is not there, and say so.

    Returns:
        `cfg`, changed in place, frozen as it was.

    Raises:
        ValueError: it is no device's name.
    """
    try:
        device = torch.device(cfg.MODEL.DEVICE)
    except RuntimeError:
        raise ValueError(
            f"MODEL.DEVICE {cfg.MODEL.DEVICE!r} is no device; set it to 'cuda', 'cuda:0', 'mps' or "
            "'cpu'"
        ) from None
    missing = (device.type == "cuda" and not torch.cuda.is_available()) or (
        device.type == "mps" and not torch.backends.mps.is_available()
    )
    if missing:
        logging.getLogger(__name__).warning(
            "MODEL.DEVICE is %r, but there is no such device: running on the CPU", cfg.MODEL.DEVICE
        )
        frozen = cfg.is_frozen()
        cfg.defrost()
        cfg.MODEL.DEVICE = "cpu"
        if frozen:
            cfg.freeze()
    return cfg


def default_writers(output_dir: str, max_iter: int | None = None) -> list[EventWriter]:
    """Return writers for the console, ``metrics.json`` and TensorBoard.

    Args:
        output_dir: folder of the files.
        max_iter: iterations of the run, for the time left.
    """
    Path(output_dir).mkdir(parents=True, exist_ok=True)
    writers: list[Any] = [
        CommonMetricPrinter(max_iter),
        JSONWriter(os.path.join(output_dir, "metrics.json")),
        TensorboardXWriter(output_dir),
    ]
    return writers
