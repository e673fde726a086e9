"""The words of the table of stages: its rows, the chapters of the page, the symbols of shapes."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CHAPTERS", "SYMBOLS", "Chapter", "Field", "Stage"]


@dataclass(frozen=True)
class Field:
    """One value of a probe.

    Attributes:
        meaning: with unit, frame and range.
        shape: in symbols; None: not a tensor; "": a scalar, as tensor or number.
        kind: "float", "int", "bool" (what a tensor holds), "text" or "any".
        optional: may be missing or None.
    """

    meaning: str
    shape: str | None = None
    kind: str = "any"
    optional: bool = False


@dataclass(frozen=True)
class Stage:
    """One probe.

    Attributes:
        chapter: key of CHAPTERS.
        sentence: what happens there.
        fields: name -> Field, in the order of the call.
        drawing: name of its picture in ``PANELS`` of :mod:`lucidet.inspection.page.report`.
        opens: symbols that begin anew with it.
    """

    chapter: str
    title: str
    sentence: str
    fields: dict[str, Field]
    drawing: str = ""
    opens: tuple[str, ...] = ()


@dataclass(frozen=True)
class Chapter:
    """One of the eleven steps of the page."""

    title: str
    sentence: str
    modes: tuple[str, ...] = ("train", "eval")


CHAPTERS: dict[str, Chapter] = {
    "config": Chapter(
        "Config",
        "The values this run uses, where each was set, and which of them this model and its data "
        "path really read.",
    ),
    "model": Chapter(
        "Model",
        "The modules as a tree: what each returns, what it holds, what it costs.",
    ),
    "input": Chapter(
        "Image and ground truth",
        "The file is read, augmented together with its boxes, then normalized and padded to a "
        "batch.",
    ),
    "backbone": Chapter(
        "Backbone and pyramid",
        "Convolutions turn the image into maps, each coarser than the one before; the heads look "
        "at nothing else.",
    ),
    "anchors": Chapter(
        "Anchors",
        "Every location of every map gets boxes of fixed shapes (or is a point); predictions are "
        "relative to them.",
    ),
    "assign": Chapter(
        "Assignment and sampling",
        "Before anything is learned, every anchor is matched to a ground-truth box, or is "
        "background, or is ignored in the loss.",
        ("train",),
    ),
    "head": Chapter(
        "Head outputs",
        "For every anchor a score (a logit, before the sigmoid) and four numbers that move it.",
    ),
    "proposals": Chapter(
        "Proposals and candidates",
        "The best-scored anchors are moved, clipped to the image, and those that overlap a better "
        "one are suppressed.",
    ),
    "roi": Chapter(
        "Regions of interest",
        "Each proposal takes its features from one level of the pyramid; at training it is first "
        "matched to a ground-truth box and sampled.",
    ),
    "loss": Chapter(
        "Losses and gradients",
        "Each term is a sum divided by a normalizer and multiplied by a weight; its gradient is "
        "what the optimizer sees.",
        ("train",),
    ),
    "detections": Chapter(
        "Detections",
        "What is left after the final NMS, scaled to the original image.",
        ("eval",),
    ),
}

#: symbol -> (scope, meaning). Scopes: "batch" lasts to the next input.batch, "image" likewise
#: but for each image on its own, "event" for one event only
SYMBOLS: dict[str, tuple[str, str]] = {
    "N": ("batch", "images of the batch"),
    "c": ("batch", "channels of an image"),
    "H": ("batch", "height of the padded batch, pixels"),
    "W": ("batch", "width of the padded batch, pixels"),
    "L": ("batch", "levels with anchors"),
    "R": ("batch", "anchors in all, of all levels"),
    "R_l": ("batch", "anchors of level l"),
    "A_l": ("batch", "anchors of a location of level l"),
    "K": ("batch", "classes without background"),
    "F": ("batch", "feature maps of the backbone"),
    "C_f": ("batch", "channels of feature map f"),
    "h_f": ("batch", "rows of feature map f"),
    "w_f": ("batch", "columns of feature map f"),
    "Q": ("batch", "regions of interest of the batch"),
    "D": ("batch", "channels that ROIAlign returns"),
    "S_h": ("batch", "rows that ROIAlign returns"),
    "S_w": ("batch", "columns that ROIAlign returns"),
    "k": ("batch", "boxes that the ROI head predicts for a region: K, or 1 for all classes"),
    "M": ("image", "ground-truth boxes of the image"),
    "n": ("image", "candidates of the RPN after top-k"),
    "u": ("image", "of these, those with area after clipping"),
    "P": ("image", "proposals of the image"),
    "T": ("image", "proposals that are matched, ground-truth boxes among them"),
    "S": ("image", "sampled proposals"),
    "E": ("image", "candidates for detection"),
    "J": ("event", "proposals that the last stage classified"),
    "G": ("image", "detections before scaling"),
    "B": ("event", "boxes"),
    "q": ("event", "candidates of a ground-truth box (ATSS)"),
    "m": ("event", "ground-truth boxes"),
    "h": ("event", "rows of the image, pixels"),
    "w": ("event", "columns of the image, pixels"),
    "i": ("event", "detections of the image"),
    "v": ("event", "detections whose masks are shown"),
    "o": ("event", "foreground proposals of the image"),
    "s": ("event", "rows and columns of a mask or heat map inside a box"),
    "j": ("batch", "keypoints of an object"),
}
