"""Run a model over a data set and hand every output to evaluators."""

from __future__ import annotations

import datetime
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lucidet.modeling.optimize import OptimizedModel
from lucidet.utils import comm

logger = logging.getLogger(__name__)

# batches left out of the mean times: the first ones pay for allocation and autotuning
WARMUP_BATCHES = 5
SECONDS_BETWEEN_LINES = 5.0


class DatasetEvaluator:
    """Collects a model's outputs over a data set, then computes its numbers.

    The order of calls is ``reset()``, ``process(inputs, outputs)`` once a batch, ``evaluate()``.
    """

    def reset(self) -> None:
        """Forget everything: a new round over the data set starts."""

    def process(self, inputs: Sequence[dict[str, Any]], outputs: Sequence[Any]) -> None:
        """Take one batch in: `inputs` went into the model and `outputs` came out, pair by pair."""

    def save_partial(self) -> list[Path]:
        """Write what there is where an evaluation is interrupted; return the files, none here."""
        return []

    def evaluate(self) -> Mapping[str, Any] | None:
        """Return ``{task: {metric: value}}``, or nothing (on ranks other than 0)."""


class DatasetEvaluators(DatasetEvaluator):
    """Several evaluators that see the same outputs; their results are merged into one dict."""

    def __init__(self, evaluators: Iterable[DatasetEvaluator]) -> None:
        super().__init__()
        self._evaluators = list(evaluators)

    def reset(self) -> None:
        for evaluator in self._evaluators:
            evaluator.reset()

    def process(self, inputs: Sequence[dict[str, Any]], outputs: Sequence[Any]) -> None:
        for evaluator in self._evaluators:
            evaluator.process(inputs, outputs)

    def save_partial(self) -> list[Path]:
        return [path for evaluator in self._evaluators for path in evaluator.save_partial()]

    def evaluate(self) -> dict[str, Any]:
        """Return the union of the evaluators' results.

        Raises:
            ValueError: two evaluators use the same key.
        """
        merged: dict[str, Any] = {}
        for evaluator in self._evaluators:
            found = evaluator.evaluate()
            if not comm.is_main_process() or found is None:
                continue
            twice = sorted(merged.keys() & found.keys())
            if twice:
                raise ValueError(
                    f"two evaluators both return results under {twice}; "
                    f"give {type(evaluator).__name__} another task name"
                )
            merged.update(found)
        return merged


def image_id_of(record: dict[str, Any]) -> Any:
    """Return the id that an evaluator knows an image by.

    Raises:
        ValueError: the mapper has left it out.
    """
    if record.get("image_id") is None:
        raise ValueError(
            f"image {record.get('file_name', '(no file name)')} has no image_id, by which its "
            "annotations are found: keep 'image_id' of the record in the mapper's result"
        )
    return record["image_id"]


@contextmanager
def inference_context(model: nn.Module) -> Iterator[None]:
    """Put `model` into eval mode, and every module back into its own mode afterwards.

    Each module's mode is restored by itself: a part that was frozen in eval mode stays so.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


class _Clock:
    """Seconds spent per phase (loading, inference, evaluation) after the warm-up."""

    def __init__(self, batches: int) -> None:
        self.batches = batches
        self.warmup = min(WARMUP_BATCHES, max(batches - 1, 0))
        self.spent = {"data": 0.0, "model": 0.0, "eval": 0.0}
        self.counted = 0
        self.started = time.perf_counter()
        self._last_line = self.started

    def add(self, data: float, model: float, evaluation: float, index: int) -> None:
        if index < self.warmup:
            self.started = time.perf_counter()
            return
        self.counted += 1
        for phase, seconds in zip(self.spent, (data, model, evaluation), strict=True):
            self.spent[phase] += seconds
        self._say_progress(index)

    def _say_progress(self, index: int) -> None:
        now = time.perf_counter()
        if now - self._last_line < SECONDS_BETWEEN_LINES:
            return
        self._last_line = now
        mean = {phase: seconds / self.counted for phase, seconds in self.spent.items()}
        total = (now - self.started) / self.counted
        eta = datetime.timedelta(seconds=int(total * (self.batches - index - 1)))
        logger.info(
            f"Inference done {index + 1}/{self.batches}. Dataloading: {mean['data']:.4f} s/iter. "
            f"Inference: {mean['model']:.4f} s/iter. Eval: {mean['eval']:.4f} s/iter. "
            f"Total: {total:.4f} s/iter. ETA={eta}"
        )

    def say_total(self) -> None:
        if not self.counted:
            return
        total = time.perf_counter() - self.started
        devices = comm.get_world_size()
        for level, what, seconds in (
            (logging.INFO, "inference time", total),
            (logging.DEBUG, "inference pure compute time", self.spent["model"]),
        ):
            logger.log(
                level,
                f"Total {what}: {datetime.timedelta(seconds=int(seconds))} "
                f"({seconds / self.counted:.6f} s / iter per device, on {devices} devices)",
            )


@contextmanager
def _partial_if_interrupted(
    evaluator: DatasetEvaluator, data_loader: Any, done: Callable[[], int]
) -> Iterator[None]:
    """Let the evaluator write what there is where the block is interrupted, and say how much."""
    try:
        yield
    except KeyboardInterrupt:
        files = ", ".join(str(path) for path in evaluator.save_partial()) or "no file"
        sampler: Any = getattr(data_loader, "sampler", None)
        total = len(sampler) if hasattr(sampler, "__len__") else "unknown"
        of = "" if comm.get_world_size() == 1 else f" of process {comm.get_rank()}"
        logger.warning(
            f"Interrupted after {done()} of {total} images{of}; their predictions: {files}. "
            "They are no evaluation: start it again for the AP of all images"
        )
        raise


def partial_name(name: str) -> str:
    """Return the name of the file for what an interrupted process has, each its own.

    >>> partial_name("coco_instances_results.json")
    'coco_instances_results.partial.json'
    """
    rank = f"_process{comm.get_rank()}" if comm.get_rank() else ""
    return f"{Path(name).stem}{rank}.partial{Path(name).suffix}"


def _wait_for_gpu() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def inference_on_dataset(
    model: nn.Module | Callable[[Any], Any],
    data_loader: Iterable[Any],
    evaluator: DatasetEvaluator | Sequence[DatasetEvaluator] | None,
    callbacks: Mapping[str, Callable[[], Any]] | None = None,
    optimize: bool = False,
) -> dict[str, Any]:
    """Run `model` over `data_loader` in eval mode, without gradients, and evaluate.

    Args:
        model: called with each element of the loader; a plain function is left in its own mode.
        data_loader: yields batches and knows its length. Each rank has its own shard.
        evaluator: one, a list, or None to only run the model.
        callbacks: called without arguments at ``on_start``, ``before_inference``,
            ``after_inference`` (both once a batch) and ``on_end``.
        optimize: run a faster form of the model, ``TEST.OPTIMIZE``; results agree within 1e-3.

    Returns:
        What ``evaluator.evaluate()`` returned, ``{}`` where that is nothing.

    Raises:
        KeyboardInterrupt: the user, or a scheduler, has ended it; ``evaluator.save_partial()`` has
            written what there was.
    """
    if evaluator is None:
        evaluator = DatasetEvaluators([])
    elif isinstance(evaluator, (list, tuple)):
        evaluator = DatasetEvaluators(evaluator)
    assert isinstance(evaluator, DatasetEvaluator)
    evaluator.reset()
    hooks = dict(callbacks or {})

    def notify(moment: str) -> None:
        if moment in hooks:
            hooks[moment]()

    batches = len(data_loader)  # type: ignore[arg-type]
    logger.info(f"Start inference on {batches} batches")
    clock = _Clock(batches)
    mode = inference_context(model) if isinstance(model, nn.Module) else nullcontext()
    detect = OptimizedModel(model) if optimize else model
    images = 0
    partial = _partial_if_interrupted(evaluator, data_loader, lambda: images)
    with mode, torch.no_grad(), partial:
        notify("on_start")
        asked = time.perf_counter()
        for index, inputs in enumerate(data_loader):
            loaded = time.perf_counter()
            notify("before_inference")
            outputs = detect(inputs)
            _wait_for_gpu()
            notify("after_inference")
            computed = time.perf_counter()
            evaluator.process(inputs, outputs)
            images += len(inputs) if hasattr(inputs, "__len__") else 1
            done = time.perf_counter()
            clock.add(loaded - asked, computed - loaded, done - computed, index)
            asked = time.perf_counter()
        notify("on_end")
    clock.say_total()
    results = evaluator.evaluate()
    return {} if results is None else dict(results)
