"""Run a detector over images and videos; write pictures and ``predictions.json``."""

from __future__ import annotations

import argparse
import difflib
import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lucidet.checkpoint.description import (
    config_of_weights,
    description_of_weights,
    metadata_of_classes,
)
from lucidet.cli.progress import progress
from lucidet.cli.sources import Source
from lucidet.cli.videos import Video
from lucidet.config import CfgNode, get_cfg
from lucidet.config.names import find_config
from lucidet.data import Metadata
from lucidet.data.detection_utils import read_image
from lucidet.engine import DefaultPredictor
from lucidet.evaluation import instances_to_coco_json
from lucidet.utils.logger import setup_logger
from lucidet.utils.terminations import terminations_as_interrupts
from lucidet.utils.visualizer import Visualizer

PREDICTIONS_FILE = "predictions.json"
PARTIAL_FILE = "predictions.partial.json"
SMALLEST_PICTURE = 384  # pixels of the shorter side, about
DENSE_AND_ROI = ("ROI_HEADS", "RETINANET", "ATSS", "FCOS")


def predict_sources(
    sources: Sequence[Source], args: argparse.Namespace, overrides: Sequence[str]
) -> list[str]:
    """Predict on every source; return a sentence for each that failed."""
    setup_logger()
    cfg = build_config(args.config_file, args.weights, overrides, args.allow_partial)
    metadata = metadata_of_classes(cfg, description_of_weights(cfg.MODEL.WEIGHTS))
    thresholds = Thresholds(args.score_threshold, args.class_thresholds, metadata)
    lower_model_thresholds(cfg, thresholds.lowest)
    predictor = DefaultPredictor(cfg)
    writer = Writer(Path(args.out), metadata, thresholds, pictures=not args.no_pictures)
    batch_size = args.batch_size or cfg.TEST.BATCH_SIZE
    images = [source for source in sources if not source.is_video]
    problems = []
    with (
        writer.partial_if_interrupted(),
        terminations_as_interrupts(),
        progress("predict", len(sources), "files") as advance,
    ):
        for batch in read_ahead(images, batch_size):
            good = [(source, image) for source, image in batch if isinstance(image, np.ndarray)]
            problems += [str(error) for _, error in batch if not isinstance(error, np.ndarray)]
            outputs = predictor.predict_batch([image for _, image in good]) if good else []
            for (source, image), output in zip(good, outputs, strict=True):
                writer.add_image(source, image[:, :, ::-1], output["instances"])
            advance(len(batch))
        for source in sources:
            if source.is_video:
                problems += predict_video(predictor, source, writer, batch_size)
                advance(1)
    writer.finish()
    return problems


def build_config(
    config_file: str, weights: str | None, overrides: Sequence[str], allow_partial: bool = False
) -> CfgNode:
    """Return the config of a command line: the file's, else the one that goes with the weights."""
    cfg = get_cfg()
    if config_file:
        cfg.merge_from_file(find_config(config_file))
    elif weights:
        cfg = config_of_weights(weights)
    cfg.merge_from_list(list(overrides))
    if weights is not None:
        cfg.MODEL.WEIGHTS = weights
    if not cfg.MODEL.WEIGHTS:
        raise ValueError("no weights to predict with; name them first: lucidet predict W photos/")
    cfg.TEST.ALLOW_PARTIAL_WEIGHTS |= allow_partial
    return cfg


def lower_model_thresholds(cfg: CfgNode, lowest: float) -> None:
    """Let the model return everything from `lowest` on; never fewer than its config says."""
    for section in DENSE_AND_ROI:
        node = cfg.MODEL.get(section)
        if node is not None and "SCORE_THRESH_TEST" in node:
            node.SCORE_THRESH_TEST = min(float(node.SCORE_THRESH_TEST), lowest)


class Thresholds:
    """The lowest score at which a detection is kept, by class.

    Args:
        default: for classes without their own, 0..1.
        by_class: ``"person=0.5,dog=0.3"``.
        metadata: names the classes.
    """

    def __init__(self, default: float, by_class: str, metadata: Metadata) -> None:
        self.default = default
        self.names: list[str] = list(metadata.get("thing_classes", None) or [])
        self.own = dict(self._parse(part) for part in by_class.split(",") if part.strip())
        self.lowest = min([default, *self.own.values()])

    def _parse(self, part: str) -> tuple[int, float]:
        name, _, number = (piece.strip() for piece in part.rpartition("="))
        try:
            value = float(number)
        except ValueError:
            value = -1.0
        if not name or not 0 <= value <= 1:
            raise ValueError(f"--class-thresholds needs NAME=NUMBER in 0..1, got {part.strip()!r}")
        if name not in self.names:
            near = difflib.get_close_matches(name, self.names, n=3)
            meant = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
            some = ", ".join([*self.names[:20], *(["..."] if len(self.names) > 20 else [])])
            raise ValueError(
                f"--class-thresholds: no class {name!r}; {meant}The model's classes: {some}"
            )
        return self.names.index(name), value

    def keep(self, instances: Any) -> Any:
        """Return the instances that reach their class's threshold."""
        needed = torch.full_like(instances.scores, self.default)
        for k, value in self.own.items():
            needed[instances.pred_classes == k] = value
        return instances[instances.scores >= needed]


def refuse_link(path: Path) -> None:
    """Raise where a result would be written through a link, into a file elsewhere."""
    if path.is_symlink():
        raise ValueError(f"{path} is a link to {path.readlink()}; remove it, or set --out")


class Writer:
    """Collects records for ``predictions.json`` and draws pictures.

    Args:
        out: folder, created here.
        pictures: draw; else only the JSON is written.
    """

    def __init__(
        self, out: Path, metadata: Metadata, thresholds: Thresholds, pictures: bool
    ) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self.out = out
        self.pictures = pictures
        self._metadata = metadata
        self._thresholds = thresholds
        ids = metadata.get("thing_dataset_id_to_contiguous_id", None) or {}
        self._category_id = {index: category for category, index in ids.items()}
        self._records: list[dict[str, Any]] = []
        self._images = 0
        self._detections = 0

    def add_image(self, source: Source, rgb: np.ndarray, instances: Any) -> None:
        """Write an image's picture and remember its detections."""
        kept = self.add_records(instances, str(source.path))
        if self.pictures:
            source.target.parent.mkdir(parents=True, exist_ok=True)
            refuse_link(source.target)
            self.draw(rgb, kept).save(str(source.target))

    def add_records(self, instances: Any, file_name: str, **more: Any) -> Any:
        """Remember an image's detections; return those that were kept."""
        kept = self._thresholds.keep(instances.to("cpu"))
        self._images += 1
        self._detections += len(kept)
        for record in instances_to_coco_json(kept, self._images):
            k = record["category_id"]
            names = self._thresholds.names
            record["category_id"] = self._category_id.get(k, k)
            record["category"] = names[k] if k < len(names) else str(k)
            self._records.append({"file_name": file_name, **more, **record})
        return kept

    def draw(self, rgb: np.ndarray, instances: Any) -> Any:
        """Return a picture (VisImage) of the detections; small images are enlarged."""
        scale = max(1, round(SMALLEST_PICTURE / min(rgb.shape[:2])))  # labels must fit in
        return Visualizer(rgb, self._metadata, scale=scale).draw_instance_predictions(instances)

    @contextmanager
    def partial_if_interrupted(self) -> Iterator[None]:
        """Write what there is as ``predictions.partial.json`` where the block is interrupted."""
        try:
            yield
        except KeyboardInterrupt:
            self.finish(PARTIAL_FILE)
            raise

    def finish(self, name: str = PREDICTIONS_FILE) -> None:
        """Write the JSON and say what is where."""
        path = self.out / name
        refuse_link(path)
        replaced = " (replaced)" if path.exists() else ""
        path.write_text(json.dumps(self._records, indent=1), encoding="utf-8")
        where = f"pictures in {self.out}, " if self.pictures else ""
        found = f"{_counted(self._detections, 'detection')} in {_counted(self._images, 'image')}"
        print(f"{found}; {where}list in {path}{replaced}")
        if self._images and not self._detections and self._thresholds.lowest > 0:
            print(
                f"No score reaches {self._thresholds.lowest:g}: a longer training gives higher "
                "scores, a lower --score-threshold shows weaker detections"
            )


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def read_ahead(
    sources: Sequence[Source], batch_size: int
) -> Iterator[list[tuple[Source, np.ndarray | Exception]]]:
    """Yield batches of BGR images; the next is decoded while the caller works on the last.

    An image that cannot be read comes as the error that says so.
    """
    batches = [sources[i : i + batch_size] for i in range(0, len(sources), batch_size)]
    with ThreadPoolExecutor(1) as reader:
        waiting: Future[list[np.ndarray | Exception]] | None = None
        for index, batch in enumerate(batches):
            waiting = waiting or reader.submit(_read_all, batch)
            images = waiting.result()
            following = batches[index + 1 : index + 2]
            waiting = reader.submit(_read_all, following[0]) if following else None
            yield list(zip(batch, images, strict=True))


def _read_all(sources: Iterable[Source]) -> list[np.ndarray | Exception]:
    return [_read(source.path) for source in sources]


def _read(path: Path) -> np.ndarray | Exception:
    try:
        return read_image(str(path), format="BGR")  # what DefaultPredictor takes
    except (OSError, ValueError, SyntaxError) as error:  # PIL raises SyntaxError for a broken PNG
        text = str(error)
        if str(path) not in text:
            text = f"{path}: not an image that can be decoded ({text})"
        return ValueError(text)


def predict_video(
    predictor: DefaultPredictor, source: Source, writer: Writer, batch_size: int
) -> list[str]:
    """Predict on a video's frames; return a sentence if it cannot be read."""
    try:
        video = Video(source.path)
    except (ImportError, ValueError, OSError) as error:
        return [str(error)]
    source.target.parent.mkdir(parents=True, exist_ok=True)
    drawn = video.writer(source.target) if writer.pictures else None
    frames, number = iter(video), 0
    while batch := list(islice(frames, batch_size)):
        outputs = predictor.predict_batch([frame[:, :, ::-1] for frame in batch])
        for frame, output in zip(batch, outputs, strict=True):
            kept = writer.add_records(output["instances"], str(source.path), frame=number)
            if drawn is not None:
                drawn.append_data(writer.draw(frame, kept).get_image())
            number += 1
    video.close()
    if drawn is not None:
        drawn.close()
    return []
