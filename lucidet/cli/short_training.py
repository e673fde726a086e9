"""``lucidet train --data SPEC --model NAME``: write the whole config, and say what was chosen."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from lucidet.checkpoint.reading import local_weights_path
from lucidet.cli.data_option import names_of_data
from lucidet.config import CfgNode, get_cfg
from lucidet.config.checks import check_supported
from lucidet.config.names import find_config
from lucidet.engine.recipe import DataFacts, Plan, Request, plan_training, read_facts
from lucidet.engine.run import folder_of_training
from lucidet.engine.setup import CONFIG_FILE, require_writable
from lucidet.utils.logger import setup_logger

__all__ = ["plan_of", "write_config"]

DEFAULT_MODEL = "faster_rcnn_R_18_FPN"
OUTPUT = "output"


def write_config(args: argparse.Namespace, overrides: Sequence[str]) -> tuple[str, str]:
    """Write the config that the recipe fills in into OUTPUT_DIR, and print what was chosen.

    Returns:
        The path of the config, and what was printed.

    Raises:
        ValueError, FileNotFoundError: no such model, data or weights.
    """
    setup_logger()
    plan, facts, model = plan_of(args, overrides)
    check_supported(plan.cfg)
    _require_weights(plan.cfg)
    folder = _output_folder(plan, args, facts.train[0], model)
    require_writable(folder)
    path = folder / CONFIG_FILE
    path.write_text(plan.cfg.dump(), encoding="utf-8")
    plan.say("again", f"lucidet train --config-file {path}")
    summary = f"{model} on {', '.join(args.data or facts.train)}\n{plan.text()}"
    print(summary, flush=True)
    return str(path), summary


def plan_of(args: argparse.Namespace, overrides: Sequence[str]) -> tuple[Plan, DataFacts, str]:
    """Return the config that the recipe fills in, facts of the data, and the model's name.

    Raises:
        ValueError, FileNotFoundError: no such model or data.
    """
    name = args.model or args.config_file or DEFAULT_MODEL
    cfg = get_cfg()
    cfg.merge_from_file(find_config(name))
    train, test = names_of_data(args.data, args.val)
    facts = read_facts(train or cfg.DATASETS.TRAIN, test if train else test or cfg.DATASETS.TEST)
    model = Path(name).stem
    request = Request(
        model=model,
        epochs=args.epochs,
        batch=args.batch,
        size=args.size,
        weights=args.weights,
        processes=max(1, args.num_gpus) * args.num_machines,
    )
    return plan_training(cfg, request, facts, overrides), facts, model


def _require_weights(cfg: CfgNode) -> None:
    if not cfg.MODEL.WEIGHTS:
        return
    try:
        local_weights_path(cfg.MODEL.WEIGHTS)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{error}\nTo go on without them: --weights none trains from random weights, which "
            f"takes longer and more images; --model {DEFAULT_MODEL} is made for that"
        ) from error


def _output_folder(plan: Plan, args: argparse.Namespace, data: str, model: str) -> Path:
    """Return OUTPUT_DIR: as set, else a new folder below output/.

    With --resume or --overwrite it is the newest one there.
    """
    if plan.is_explicit("OUTPUT_DIR"):
        # before the config is written: it must not replace that of an earlier run
        plan.cfg.OUTPUT_DIR = folder_of_training(plan.cfg.OUTPUT_DIR, args)
        return Path(plan.cfg.OUTPUT_DIR)
    first = args.data[0] if args.data else data
    words = re.sub(r"[^A-Za-z0-9]+", "_", Path(first.rstrip("/\\")).stem).strip("_") or "data"
    stem, number = f"{words}_{model}", 1
    folder = Path(OUTPUT, stem)
    newest = args.resume or args.overwrite
    while (Path(OUTPUT, f"{stem}_{number + 1}") if newest else folder).exists():
        number += 1
        folder = Path(OUTPUT, f"{stem}_{number}")
    plan.set("OUTPUT_DIR", folder.as_posix())
    return folder
