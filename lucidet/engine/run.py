"""The training program: what ``lucidet train``, ``lucidet eval`` and tools/train_net.py run."""

from __future__ import annotations

import argparse
import logging
import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

from torch import nn

from lucidet.checkpoint import DetectionCheckpointer
from lucidet.checkpoint.description import config_of_weights
from lucidet.checkpoint.reading import local_weights_path
from lucidet.checkpoint.resume_point import LAST_CHECKPOINT
from lucidet.config import CfgNode, get_cfg
from lucidet.config.names import find_config
from lucidet.engine.checks import warn_of_frozen_random_weights
from lucidet.engine.interrupt import EXIT_CODE, TrainingInterrupted
from lucidet.engine.run_lock import next_free, require_free
from lucidet.engine.setup import default_setup
from lucidet.engine.trainer import DefaultTrainer
from lucidet.evaluation import verify_results
from lucidet.utils import comm
from lucidet.utils.terminations import terminations_as_interrupts

logger = logging.getLogger(__name__)


def setup(args: argparse.Namespace) -> CfgNode:
    """Return the frozen config of a command line, with output folder and loggers prepared."""
    cfg = get_cfg()
    args.config_file = find_config(args.config_file)
    if args.config_file:
        cfg.merge_from_file(args.config_file)
    elif getattr(args, "config_of", ""):
        cfg = config_of_weights(args.config_of)
        cfg.OUTPUT_DIR = _folder_of_evaluation(args.config_of)
    cfg.merge_from_list(args.opts)
    if not args.eval_only:
        cfg.OUTPUT_DIR = comm.all_gather(folder_of_training(cfg.OUTPUT_DIR, args))[0]
    cfg.freeze()
    default_setup(cfg, args)
    return cfg


def folder_of_training(folder: str, args: argparse.Namespace) -> str:
    """Return a folder that no other training uses; programs without ``--overwrite`` keep theirs."""
    if not folder or not comm.is_main_process():
        return folder
    used = os.path.isfile(os.path.join(folder, LAST_CHECKPOINT))
    if used and not args.resume and not getattr(args, "overwrite", True):
        free = next_free(folder)
        logger.warning(
            "OUTPUT_DIR %s holds checkpoints of an earlier run, so this one goes to %s (--resume "
            "goes on with the earlier run, --overwrite replaces it)",
            folder,
            free,
        )
        return free
    require_free(folder)
    return folder


def _folder_of_evaluation(weights: str) -> str:
    """Return a folder for results: beside the weights where that is possible."""
    beside = Path(weights).expanduser().resolve().parent
    writable = "://" not in weights and os.access(beside, os.W_OK)
    return os.fspath(beside / "evaluation") if writable else os.path.join("output", "evaluation")


def main(args: argparse.Namespace) -> Any:
    """Train, or with ``--eval-only`` evaluate.

    Returns:
        The results of the last evaluation.

    Raises:
        TrainingInterrupted: (a SystemExit) a signal has ended it; of an evaluation, the
            predictions so far are in OUTPUT_DIR/inference.
    """
    cfg = setup(args)
    if args.eval_only:
        try:
            with terminations_as_interrupts():
                results = evaluate(cfg, resume=args.resume)
                if getattr(args, "analyse", None) and comm.is_main_process():
                    _analyse(cfg, args.analyse)
                return results
        except KeyboardInterrupt as error:
            # as a SystemExit it also leaves a process that was started for this with its status
            status = getattr(error, "status", EXIT_CODE)
            raise TrainingInterrupted(status - 128) from None
    check_start(cfg, args.resume)
    trainer = DefaultTrainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    return trainer.train()


def check_start(cfg: CfgNode, resume: bool) -> None:
    """Look, before anything is built, at what the training is to start from.

    Raises:
        FileNotFoundError: the file of MODEL.WEIGHTS is not there, and can't be fetched.
    """
    there = os.path.isfile(os.path.join(cfg.OUTPUT_DIR, LAST_CHECKPOINT))
    if resume and there:
        return
    if resume:
        start = f"from {cfg.MODEL.WEIGHTS}" if cfg.MODEL.WEIGHTS else "from random weights"
        logger.warning(
            "--resume: %s holds no checkpoint, so the training starts %s at iteration 0",
            cfg.OUTPUT_DIR,
            start,
        )
    elif there:
        logger.warning(
            "OUTPUT_DIR %s holds checkpoints of an earlier run, which will be overwritten; "
            "--resume goes on with that run, another OUTPUT_DIR keeps it",
            cfg.OUTPUT_DIR,
        )
    if cfg.MODEL.WEIGHTS:
        local_weights_path(cfg.MODEL.WEIGHTS)
    warn_of_frozen_random_weights(cfg)


def evaluate(cfg: CfgNode, resume: bool = False) -> Any:
    """Evaluate ``MODEL.WEIGHTS``, or with `resume` the last checkpoint in OUTPUT_DIR."""
    model = DefaultTrainer.build_model(cfg)
    complete = not cfg.TEST.ALLOW_PARTIAL_WEIGHTS
    checkpointer = DetectionCheckpointer(model, save_dir=cfg.OUTPUT_DIR, complete=complete)
    if complete and not cfg.MODEL.WEIGHTS and not (resume and checkpointer.has_checkpoint()):
        raise ValueError(
            "no weights to evaluate: name them with --weights FILE (MODEL.WEIGHTS); the results of "
            "random weights need --allow-partial"
        )
    checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=resume)
    results = DefaultTrainer.test(cfg, model)
    if cfg.TEST.AUG.ENABLED:
        results.update(test_with_tta(cfg, model))
    if comm.is_main_process():
        verify_results(cfg, results)
    return results


def _analyse(cfg: CfgNode, folder: str) -> None:
    """Write the analysis of what was evaluated."""
    from lucidet.analysis.write import write_analyses
    from lucidet.data.specification.register import dataset_names
    from lucidet.results.files import results_file_of

    names = dataset_names(cfg.DATASETS.TEST)
    write_analyses([(name, results_file_of(cfg.OUTPUT_DIR, names, name)) for name in names], folder)


def test_with_tta(cfg: CfgNode, model: nn.Module) -> OrderedDict[str, Any]:
    """Evaluate with test-time augmentation; each task's name ends in ``_TTA``."""
    from lucidet.modeling import GeneralizedRCNNWithTTA

    logger.info("Running inference with test-time augmentation ...")
    results = DefaultTrainer.test(cfg, GeneralizedRCNNWithTTA(cfg, model))
    return OrderedDict((f"{task}_TTA", metrics) for task, metrics in results.items())
