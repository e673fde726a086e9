"""Every code of the doctor: its severity, what it means, what to do.

An error stops the training or makes its results wrong; a warning costs data or accuracy; a note is
good to know.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["ERROR", "NOTE", "RULES", "WARNING", "Rule"]

ERROR, WARNING, NOTE = "error", "warning", "note"


class Rule(NamedTuple):
    """A code's meaning.

    Attributes:
        severity: unless the check says otherwise.
        title: a few words.
        repair: what to do.
        fixed: `--fix` writes a copy without it.
    """

    severity: str
    title: str
    repair: str
    fixed: bool = False


_LEAVE_OUT = "correct or remove these annotations, or let --fix OUT leave them out"

RULES: dict[str, Rule] = {
    # the annotation files
    "data-unreadable": Rule(ERROR, "the dataset cannot be read", "correct what the message names"),
    "duplicate-image-id": Rule(
        ERROR, "image ids occur twice", "give every image an id of its own, or use --fix OUT", True
    ),
    "duplicate-annotation-id": Rule(
        ERROR, "annotation ids occur twice", "number the annotations again, or use --fix OUT", True
    ),
    "duplicate-category-id": Rule(
        ERROR, "category ids occur twice", "give every class one id", True
    ),
    "unknown-image-id": Rule(ERROR, "annotations of images that are not listed", _LEAVE_OUT, True),
    "unknown-category-id": Rule(
        ERROR,
        "annotations of categories that are not listed",
        "add the category, or correct or remove these annotations (--fix OUT leaves them out)",
        True,
    ),
    "annotation-malformed": Rule(ERROR, "fields without meaning", _LEAVE_OUT, True),
    "image-size-zero": Rule(
        WARNING,
        "image sizes of 0",
        "write the image's width and height; lucidet reads the file",
        True,
    ),
    "data-changed": Rule(NOTE, "read in another form than written", "nothing, if it is meant so"),
    "no-boxes": Rule(ERROR, "no boxes to train on", "check the annotation files"),
    # images
    "image-missing": Rule(
        ERROR,
        "image files are not there",
        "put the files there, name their folder (coco:FILE.json@IMAGES), or let --fix OUT leave "
        "these images out",
        True,
    ),
    "image-unreadable": Rule(
        ERROR,
        "image files cannot be decoded",
        "fetch them again, remove them, let --fix OUT leave them out, or train with "
        "DATALOADER.ON_ERROR skip",
        True,
    ),
    "image-size": Rule(
        ERROR,
        "image size unlike the annotations",
        "correct width and height in the annotations, or put the annotated image back; --fix OUT "
        "scales the boxes where the file has another resolution",
        True,
    ),
    "image-turned": Rule(
        NOTE,
        "images that EXIF turns",
        "nothing for lucidet, which turns them upright; other tools may not: --fix OUT saves them "
        "upright",
        True,
    ),
    "image-dark": Rule(WARNING, "dark images", "look at them: is there anything to be found?"),
    "image-bright": Rule(WARNING, "bright images", "look at them: is there anything to be found?"),
    "image-blurred": Rule(WARNING, "blurred images", "look at them; remove what nobody can label"),
    "image-low-information": Rule(
        WARNING, "images of nearly one color", "look at them: is the file what it should be?"
    ),
    # duplicates
    "leak-exact": Rule(
        ERROR,
        "the same image in two splits",
        "remove it from the training split; --fix OUT does so",
        True,
    ),
    "leak-near": Rule(
        WARNING,
        "nearly the same image in two splits",
        "put such images into one split; --fix OUT removes them from the training split",
        True,
    ),
    "leak-file": Rule(
        WARNING,
        "a file in two splits",
        "results on it say little: evaluate on images that are not trained on",
        True,
    ),
    "duplicate-exact": Rule(
        WARNING, "the same image twice in a split", "keep one; --fix OUT does so", True
    ),
    "duplicate-near": Rule(
        NOTE, "nearly the same image twice in a split", "keep one, if they show nothing new"
    ),
    # boxes
    "box-invalid": Rule(WARNING, "boxes that are not four numbers", _LEAVE_OUT, True),
    "box-degenerate": Rule(WARNING, "boxes without area", _LEAVE_OUT, True),
    "box-outside": Rule(WARNING, "boxes outside of their image", _LEAVE_OUT, True),
    "box-over-border": Rule(
        WARNING,
        "boxes that reach over the border",
        "check the image's size and the box format; lucidet clips them, --fix OUT too",
        True,
    ),
    "box-fractions": Rule(
        ERROR, "boxes within 0..1", "multiply x by the image's width and y by its height"
    ),
    "box-doubled": Rule(
        WARNING, "boxes that occur twice", "keep one of each; --fix OUT does so", True
    ),
    "box-contradictory": Rule(
        WARNING, "one box, two classes", "decide which class is meant and remove the other box"
    ),
    "box-at-border": Rule(
        NOTE,
        "boxes that end at the image's border",
        "nothing, if the objects are cut off there; else check how images were cut",
    ),
    "box-thin": Rule(
        WARNING, "thin boxes (over 20 : 1, or under 2 pixels)", "look at them: are they objects?"
    ),
    "box-huge": Rule(
        NOTE, "boxes of nearly the whole image", "look at them: is the object really that large?"
    ),
    "box-tiny": Rule(
        WARNING,
        "objects below 8 pixels after resizing",
        "train at a larger size (--size, INPUT.MIN_SIZE_TRAIN), on tiles, or without them",
    ),
    # classes and splits
    "class-imbalance": Rule(
        NOTE,
        "classes of very different frequency",
        "DATALOADER.SAMPLER_TRAIN RepeatFactorTrainingSampler repeats images of rare classes",
    ),
    "class-rare": Rule(NOTE, "classes with less than 10 boxes", "collect more of them"),
    "class-empty": Rule(WARNING, "classes without a box", "remove the class, or add such images"),
    "class-not-trained": Rule(
        WARNING,
        "classes that are evaluated but not trained",
        "move such images to training; the AP of these classes will be 0",
    ),
    "class-unknown": Rule(
        ERROR,
        "classes that the training split does not have",
        "correct the spelling, or add such images to training: classes are matched by name",
    ),
    "class-names-alike": Rule(
        WARNING,
        "class names that differ in case or spaces only",
        "rename one, if they are the same",
    ),
    "category-order": Rule(
        WARNING,
        "splits number their classes differently",
        "write one list of categories into all files; lucidet matches by name, other tools by id",
        True,
    ),
    # the config
    "num-classes": Rule(ERROR, "NUM_CLASSES unlike the data", "set the key that the message names"),
    "learning-rate": Rule(
        WARNING, "learning rate unlike the batch", "set SOLVER.BASE_LR as the message says"
    ),
    "schedule": Rule(WARNING, "an odd schedule", "set the keys that the message names"),
    "memory": Rule(
        WARNING,
        "more memory than there is",
        "use a smaller SOLVER.IMS_PER_BATCH or --size, or SOLVER.AMP.ENABLED True",
    ),
    "anchors": Rule(
        WARNING, "anchors that do not fit the boxes", "`lucidet coverage` proposes better ones"
    ),
    "config-unread": Rule(
        WARNING, "keys that nothing reads", "remove them, or look up what they are called here"
    ),
    "config-refused": Rule(
        ERROR, "a config that cannot be built", "correct what the message names"
    ),
    "frozen-random": Rule(
        WARNING,
        "frozen layers with random weights",
        "set MODEL.BACKBONE.FREEZE_AT 0 and MODEL.RESNETS.NORM GN, or start from weights",
    ),
    # the weights
    "weights-unreadable": Rule(
        ERROR, "weights that cannot be read", "name another file, or --weights none"
    ),
    "weights-architecture": Rule(
        ERROR, "weights of another architecture", "use the config that they were trained with"
    ),
    "weights-partial": Rule(
        NOTE, "layers that start from random values", "nothing, if the classes are new"
    ),
    "weights-pixels": Rule(
        WARNING,
        "pixels unlike those that the weights expect",
        "set INPUT.FORMAT, MODEL.PIXEL_MEAN and MODEL.PIXEL_STD as the message says",
    ),
    "weights-classes": Rule(
        WARNING,
        "classes in another order than the weights'",
        "number the classes as the weights do, or start the predictor again",
    ),
}
