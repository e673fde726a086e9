"""What is known about one image: the record that pages, text and funnel are made of.

`Explanation.to_json()` is plain data::

    {"format": "lucidet-explanation", "version": 1,
     "image": {"file_name", "image_id", "width", "height",     # as the file is
               "resized": [width, height]},                     # as the model saw it
     "architecture": "GeneralizedRCNN", "two_stage": true,
     "levels": [{"name": "p2", "stride": 4}, ...],              # of anchors or locations
     "classes": ["person", ...],                                # of the dataset
     "num_classes": 80,                                         # of the model; K is background
     "class_map": [],                                           # model class -> dataset class or -1
     "settings": {...},                                         # `Settings`: what the run used
     "exact": {"score_thresh": 0.01, "topk": 1000},             # sliders: from, up to
     "objects": [...],                                          # `ObjectRecord`
     "detections": [...],                                       # `DetectionRecord`
     "candidates": {...},                                       # `Candidates`, columns
     "proposals": {"box": [[x1, y1, x2, y2], ...], "logit": [...], "level": [...]}}  # two-stage

Frames: `objects` and `detections` are in pixels of the image file; `candidates`, `proposals` and
the boxes of a chain and an origin are in pixels of the resized image. ``x_file = x_resized *
width / resized width``, then clipped to the file's image.

How final boxes follow from `candidates` at any settings (`lucidet.explain.recompute`, and the
page's script): take the candidates with ``score > score_thresh`` and ``rank < topk`` (and sides of
at least `min_box_size`); they are sorted by score already. Greedy NMS within each class: a box is
dropped where its IoU with a kept box is greater than `nms_thresh`; IoU of boxes grown by
`nms_offset` pixels to the right and below. The first `detections` of the kept ones stay. Then
`class_map`, scaling and clipping to the file, and boxes without area go unless `keep_empty`.

How fates follow: `lucidet.explain.fates`.
"""

# M ground-truth boxes, D detections, E candidates, K classes

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any

__all__ = ["Candidates", "DetectionRecord", "Explanation", "ObjectRecord", "Settings", "Stage"]

FORMAT = "lucidet-explanation"
VERSION = 1

Box = list[float]


@dataclass(frozen=True)
class Settings:
    """What decides between candidates and detections, and when a box counts as found.

    Attributes:
        score_thresh: detections score more.
        nms_thresh: IoU of the final NMS.
        topk: candidates of a level before the final NMS (dense detectors), or proposals of an
            image (two-stage): a candidate needs a `rank` below it.
        detections: at most this many of an image.
        match_iou: IoU from which a detection counts for a ground-truth box.
        assign_iou: IoU from which an anchor is more than background; None: the detector does not
            assign by IoU.
        class_thresh: of the class score alone, where the head has one (ATSS), or None.
        min_box_size: sides of a candidate, pixels of the resized image.
        nms_offset: pixels by which the final NMS grows boxes; 1 in the legacy convention.
        keep_empty: detections that clipping leaves without area stay.
    """

    score_thresh: float
    nms_thresh: float
    topk: int
    detections: int
    match_iou: float = 0.5
    assign_iou: float | None = None
    class_thresh: float | None = None
    min_box_size: float = 0.0
    nms_offset: float = 0.0
    keep_empty: bool = False


@dataclass
class Stage:
    """One stage of a ground-truth box's way, or of a detection's way back.

    Attributes:
        key: "anchors", "proposals", "rpn_nms", "roi", "classes", "box", "topk", "final_nms",
            "detections".
        title: human-readable.
        text: one sentence with the numbers.
        lost: the box was lost here.
        boxes: ``{"box": [x1, y1, x2, y2] pixels of the resized image, "role": "anchor" | "proposal"
            | "candidate" | "suppressor" | "detection" | "object", "label": text}``.
        numbers: name -> value, for tables.
    """

    key: str
    title: str
    text: str
    lost: bool = False
    boxes: list[dict[str, Any]] = field(default_factory=list)
    numbers: dict[str, Any] = field(default_factory=dict)


@dataclass
class ObjectRecord:
    """One ground-truth box.

    Attributes:
        index: 0..M-1.
        box: XYXY, pixels of the file.
        label: class of the dataset; `name` is its name.
        size: "small" (area < 32^2), "medium", "large" (>= 96^2), as COCO has it.
        crowding: highest IoU with another ground-truth box of its image.
        crowd: a crowd region, which is ignored.
        fate: key of `lucidet.explain.kinds.FATES`; `text` says it with its numbers.
        detection: index of the detection that it was matched with, or None.
        by: what took its place: ``{"detection": i or None, "candidate": e}``, or at the RPN's NMS
            ``{"anchor", "box", "iou", "score"}``.
        chain: all stages, the last with `lost` unless it was detected.
        facts: what the fate follows from at other settings, see `lucidet.explain.fates`.
    """

    index: int
    box: Box
    label: int
    name: str
    size: str
    crowding: float
    crowd: bool
    fate: str = ""
    text: str = ""
    detection: int | None = None
    by: dict[str, Any] | None = None
    chain: list[Stage] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass
class DetectionRecord:
    """One detection.

    Attributes:
        index: 0..D-1, highest score first.
        box: XYXY, pixels of the file.
        label, name: class of the dataset.
        verdict: key of `lucidet.explain.kinds.VERDICTS`; `text` says it with its numbers.
        object: index of the ground-truth box that it is matched with or competes for, or None.
        iou: with that box.
        candidate: its index among the candidates.
        origin: the stages back to its anchor, the last first.
    """

    index: int
    box: Box
    score: float
    label: int
    name: str
    verdict: str = ""
    text: str = ""
    object: int | None = None
    iou: float = 0.0
    candidate: int | None = None
    origin: list[Stage] = field(default_factory=list)


@dataclass
class Candidates:
    """Columns of E candidates for detection, highest score first, before any threshold.

    Attributes:
        box: E boxes XYXY, pixels of the resized image, as the final NMS sees them.
        score: 0..1.
        label: class of the model.
        row: two-stage: index of the proposal; dense: index of the anchor among all levels.
        rank: place among the proposals, or among the scores of its level; see `Settings.topk`.
        level: index into `levels`, of the anchor.
        top_label: class of the model with the highest score at this row; K: background.
        top_score: that score.
    """

    box: list[Box] = field(default_factory=list)
    score: list[float] = field(default_factory=list)
    label: list[int] = field(default_factory=list)
    row: list[int] = field(default_factory=list)
    rank: list[int] = field(default_factory=list)
    level: list[int] = field(default_factory=list)
    top_label: list[int] = field(default_factory=list)
    top_score: list[float] = field(default_factory=list)


@dataclass
class Explanation:
    """One image through a detector; see the head of this module for `to_json`."""

    image: dict[str, Any]
    architecture: str
    two_stage: bool
    levels: list[dict[str, Any]]
    classes: list[str]
    num_classes: int
    class_map: list[int]
    settings: Settings
    exact: dict[str, Any]
    objects: list[ObjectRecord] = field(default_factory=list)
    detections: list[DetectionRecord] = field(default_factory=list)
    candidates: Candidates = field(default_factory=Candidates)
    proposals: dict[str, Any] | None = None

    def class_name(self, label: int) -> str:
        """Return the name of a class of the dataset, or its number."""
        return self.classes[label] if 0 <= label < len(self.classes) else f"class {label}"

    def own_class_name(self, label: int) -> str:
        """Return the name of a class as the model counts; K is background."""
        if label >= self.num_classes:
            return "background"
        of_dataset = self.class_map[label] if self.class_map else label
        return self.class_name(of_dataset) if of_dataset >= 0 else f"the model's class {label}"

    def level_name(self, level: int) -> str:
        """Return "p3 (stride 8)"."""
        found = self.levels[level]
        return f"{found['name']} (stride {found['stride']})"

    def to_json(self) -> dict[str, Any]:
        """Return plain data, as the head of this module describes it."""
        return {"format": FORMAT, "version": VERSION, **asdict(self)}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Explanation:
        """Return the explanation that :meth:`to_json` wrote.

        Raises:
            ValueError: `content` is none.
        """
        if content.get("format") != FORMAT or content.get("version") != VERSION:
            raise ValueError(f"this is no explanation of lucidet: its format is not {FORMAT!r} 1")
        values = {own.name: content[own.name] for own in fields(cls)}
        values["settings"] = Settings(**values["settings"])
        values["candidates"] = Candidates(**values["candidates"])
        values["objects"] = [
            ObjectRecord(**{**o, "chain": _stages(o["chain"])}) for o in values["objects"]
        ]
        values["detections"] = [
            DetectionRecord(**{**d, "origin": _stages(d["origin"])}) for d in values["detections"]
        ]
        return cls(**values)


def _stages(content: list[dict[str, Any]]) -> list[Stage]:
    return [Stage(**stage) for stage in content]
