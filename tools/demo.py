"""The whole way from nothing to a used detector, without any download: ``make demo``.

Writes the generated dataset "shapes", trains a small Faster R-CNN on it from scratch, evaluates it
and draws its detections, by the same commands that a user types; with ``--masks`` a small Mask
R-CNN. A training that has finished with the same code and config is not repeated (``--retrain``
does).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "configs" / "shapes"
TRAIN_IMAGES, VAL_IMAGES = 1200, 200
PICTURES = 12
# task -> AP50 in percent that a training must reach
ENOUGH_AP50 = {"bbox": 70.0, "segm": 80.0}
MOST_CONSOLE_LINES = 15
# what --fast changes: every step is walked, nothing is learnt
FAST_OVERRIDES = (
    "SOLVER.MAX_ITER 2 SOLVER.WARMUP_ITERS 1 SOLVER.IMS_PER_BATCH 2 DATALOADER.NUM_WORKERS 0"
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", default=str(ROOT / "demo_output"), help="default: %(default)s")
    parser.add_argument("--fast", action="store_true", help="two iterations on a few images")
    parser.add_argument("--retrain", action="store_true", help="train even if it was done before")
    parser.add_argument("--masks", action="store_true", help="train a Mask R-CNN")
    args = parser.parse_args()
    out = Path(args.out).resolve()
    name = "mask_rcnn_R_18_FPN" if args.masks else "faster_rcnn_R_18_FPN"
    tasks = ("bbox", "segm") if args.masks else ("bbox",)
    run_dir = out / name
    weights = run_dir / "model_final.pth"
    os.environ["LUCIDET_DATASETS"] = str(out)  # shapes_train and shapes_val are found in there
    short_console()

    images = write_data(out / "shapes", fast=args.fast)
    overrides = ["OUTPUT_DIR", str(run_dir), *(FAST_OVERRIDES.split() if args.fast else [])]
    stamp, mark = run_dir / "trained.json", fingerprint(name, overrides)
    config = ["--config-file", str(CONFIGS / f"{name}.yaml")]
    if args.retrain or not is_trained(stamp, mark, weights):
        shutil.rmtree(run_dir, ignore_errors=True)
        started = time.perf_counter()
        command("train", *config, *overrides)
        seconds = time.perf_counter() - started
        stamp.write_text(json.dumps({"fingerprint": mark, "seconds": round(seconds)}))
        say(f"Trained and evaluated in {seconds / 60:.1f} minutes.")
    else:
        say(f"Already trained with this code and config ({run_dir}); --retrain repeats it.")
        command("eval", *config, "--weights", str(weights), *overrides)

    pictures = out / ("predictions_masks" if args.masks else "predictions")
    shutil.rmtree(pictures, ignore_errors=True)
    used = [*config, "--weights", str(weights)]
    command("predict", *used, "--out", str(pictures), *(str(i) for i in images[:PICTURES]))
    found = {task: last_ap50(run_dir / "metrics.json", task) for task in tasks}
    numbers = ", ".join(f"{task} {ap50:.1f}" for task, ap50 in found.items())
    say(
        f"AP50 on {len(images)} val images: {numbers}\n"
        f"Pictures with detections: {pictures}\n"
        f"Curves, log (environment and model too), config and weights: {run_dir}\n"
        "Next, your own images:\n"
        f"  {program()} predict {typed(used)} IMAGE_OR_FOLDER --out detections"
    )
    low = [task for task, ap50 in found.items() if not ap50 >= ENOUGH_AP50[task]]
    for task in low if not args.fast else ():
        print(
            f"expected at least {ENOUGH_AP50[task]} {task} AP50, got {found[task]:.1f}",
            file=sys.stderr,
        )
    return 1 if low and not args.fast else 0


def write_data(folder: Path, fast: bool) -> list[Path]:
    """Write the data set, unless this very one is there; return the val images."""
    from lucidet.data.datasets.shapes import write_shapes

    say(f"Data set: {folder}")
    write_shapes(folder, 8 if fast else TRAIN_IMAGES, 4 if fast else VAL_IMAGES)
    return sorted((folder / "val").glob("*.jpg"))


def command(*words: str) -> None:
    """Run a lucidet command in this process, showing what one would type."""
    from lucidet.__main__ import main as lucidet

    say(f"$ {program()} {typed(words)}")
    code = lucidet(words)
    if code:
        sys.exit(code)


def short_console() -> None:
    """Show no long listings (environment, config, model): they stand in log.txt all the same."""
    from lucidet.utils.logger import setup_logger

    for console in setup_logger().handlers:
        console.addFilter(lambda record: not is_listing(record))


def is_listing(record: logging.LogRecord) -> bool:
    """Tell whether a message is for looking up later: no warning, and longer than a table."""
    return (
        record.levelno < logging.WARNING and record.getMessage().count("\n") >= MOST_CONSOLE_LINES
    )


def program() -> str:
    """Return what to type for `lucidet`: with its folder where that is not in the search path."""
    beside = Path(sys.executable).with_name("lucidet")
    return (
        typed([str(beside)]) if shutil.which("lucidet") is None and beside.exists() else "lucidet"
    )


def typed(words: Sequence[str]) -> str:
    """Return words as one would type them in this folder: paths inside it are relative."""
    here = f"{Path.cwd()}{os.sep}"
    return shlex.join(word.removeprefix(here) for word in words)


def say(text: str) -> None:
    print(f"\n{text}", flush=True)


def fingerprint(name: str, overrides: list[str]) -> str:
    """Return a hash of what the result of a training depends on."""
    digest = hashlib.sha256(repr((name, overrides, TRAIN_IMAGES, VAL_IMAGES)).encode())
    for path in [*sorted(CONFIGS.glob("*.yaml")), *sorted((ROOT / "lucidet").rglob("*.py"))]:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def is_trained(stamp: Path, mark: str, weights: Path) -> bool:
    """Tell whether a training with this fingerprint has finished."""
    if not (stamp.is_file() and weights.is_file()):
        return False
    return json.loads(stamp.read_text())["fingerprint"] == mark


def last_ap50(metrics: Path, task: str) -> float:
    """Return a task's last AP50 in a metrics.json: one JSON object a line."""
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    found = [line[f"{task}/AP50"] for line in lines if f"{task}/AP50" in line]
    return found[-1] if found else float("nan")


if __name__ == "__main__":
    sys.exit(main())
