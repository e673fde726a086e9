"""``results.html``: one page, and its pictures as PNG and JPEG files beside it."""

from __future__ import annotations

import base64
import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from lucidet.analysis.judged import ImageVerdict, Judged, judge_dataset
from lucidet.pages.document import page_environment
from lucidet.results.figures import confusion_figure, metric_figure, precision_recall_figure
from lucidet.results.files import results_file_of, safe_name
from lucidet.results.gallery import COLORS, best_and_worst, draw_verdict
from lucidet.results.measured import groups_of, read_metrics

__all__ = ["show_results", "write_results"]

logger = logging.getLogger(__name__)

#: pictures of the best images, and of the worst
GALLERY = 6


@dataclass
class _Section:
    """A heading of the page with its pictures."""

    title: str
    pictures: list[dict[str, str]] = field(default_factory=list)
    rows: list[tuple[str, str]] = field(default_factory=list)


def write_results(output_dir: str | Path, datasets: Sequence[str], title: str = "") -> Path:
    """Write ``results.html`` and the folder ``results`` of a training.

    Args:
        output_dir: of the training: ``metrics.json``, and what evaluators wrote.
        datasets: names in DATASETS.TEST.
        title: of the page.

    Returns:
        The page's path. It holds its pictures: it can be sent as it is.
    """
    folder = Path(output_dir)
    pictures = _Pictures(folder / "results")
    sections = [_Section("Training")]
    for name, series in groups_of(read_metrics(folder / "metrics.json")).items():
        sections[0].pictures.append(pictures.figure(name, metric_figure(name, series)))
    for name in datasets:
        judged = judge_dataset(name, results_file_of(folder, datasets, name))
        if judged is not None:
            sections += _sections_of(judged, pictures)
    html = (
        page_environment("lucidet.results")
        .get_template("results.html")
        .render(
            title=title or folder.resolve().name,
            sections=[s for s in sections if s.pictures or s.rows],
            colors=COLORS,
        )
    )
    page = folder / "results.html"
    page.write_text(html, encoding="utf-8")
    return page


def show_results(output_dir: str | Path, datasets: Sequence[str]) -> Path | None:
    """Write the page, its pictures for TensorBoard too, and log where it is.

    A page that cannot be made (an image has gone, the disk is full) is a warning: the training
    and its checkpoints are done.
    """
    folder = Path(output_dir)
    try:
        page = write_results(folder, datasets)
        with SummaryWriter(str(folder)) as writer:
            for path in sorted((folder / "results").iterdir()):
                pixels = np.asarray(Image.open(path).convert("RGB"))
                writer.add_image(f"results/{path.stem}", pixels, dataformats="HWC")
    except Exception as error:
        logger.warning("results.html could not be written: %s", error, exc_info=error)
        return None
    logger.info("Curves and example images: %s", page)
    return page


def _sections_of(judged: Judged, pictures: _Pictures) -> list[_Section]:
    curves = judged.curves
    numbers = {name: value for name, value in curves.twelve().items() if "-" not in name}
    for k, name in enumerate(judged.classes[:100]):
        numbers[f"AP of {name}"] = curves.ap(category=k)
    known = [(n, f"{value:.1f}") for n, value in numbers.items() if not np.isnan(value)]
    charts = _Section(judged.name, rows=known)
    charts.pictures = [
        pictures.figure(f"{judged.name} precision recall", precision_recall_figure(judged)),
        pictures.figure(f"{judged.name} confusion", confusion_figure(judged)),
    ]
    best, worst = best_and_worst(judged.images, GALLERY)
    sections = [charts]
    for kind, images in (("worst", worst), ("best", best)):
        drawn = [
            pictures.verdict(f"{judged.name} {kind} {n}", image, judged.classes)
            for n, image in enumerate(images, 1)
        ]
        sections.append(_Section(f"{judged.name}: {kind} images", drawn))
    return sections


class _Pictures:
    """Saves pictures into a folder, and returns them for the page."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def figure(self, name: str, figure: Figure) -> dict[str, str]:
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        return self._keep(name, buffer.getvalue(), "png", name, "chart")

    def verdict(self, name: str, image: ImageVerdict, classes: Sequence[str]) -> dict[str, str]:
        buffer = io.BytesIO()
        drawn: Image.Image = draw_verdict(image, classes)
        drawn.save(buffer, format="jpeg", quality=85)
        counts = f"{len(image.right)} right, {len(image.wrong)} wrong, {len(image.missed)} missed"
        caption = f"{Path(image.file_name).name}: {counts}"
        return self._keep(name, buffer.getvalue(), "jpeg", caption, "example")

    def _keep(self, name: str, data: bytes, kind: str, caption: str, use: str) -> dict[str, Any]:
        (self.folder / f"{safe_name(name.lower())}.{kind}").write_bytes(data)
        encoded = base64.b64encode(data).decode("ascii")
        return {"source": f"data:image/{kind};base64,{encoded}", "caption": caption, "use": use}
