"""The walk of a training forward: which files and functions of lucidet one image leads through.

``python -m tests.walk [NAME ...]`` prints it: the files in the order in which they are first
entered, with their functions and the lines of these, and the totals that `tests/test_walk.py`
holds.

What counts (`sys.setprofile` on the calling thread, the first call of ``model(batch)`` in training
mode on a model that is built):

- A file or function counts once, however often it is entered.
- A function is what stands in a file or class body: nested functions, lambdas and comprehensions
  are part of the function that they are written in. So the count does not depend on the version
  of Python, which runs some comprehensions as functions of their own.
- Lines are those of a function's whole text, from its first decorator to its end, with docstring,
  comments and blank lines: all that a reader passes.
- A class body or a file that is run (an import at the first call) is no function.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from lucidet import model_zoo
from lucidet.modeling import build_model
from tests.modeling.tiny import record

__all__ = ["MODELS", "Function", "Walk", "training_walk", "walk_of"]

PACKAGE = Path(__file__).resolve().parents[1] / "lucidet"

#: name -> config in the model zoo
MODELS = {
    "Faster R-CNN FPN": "COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml",
    "RetinaNet": "COCO-Detection/retinanet_R_50_FPN_1x.yaml",
    "ATSS": "COCO-Detection/atss_R_50_FPN_1x.yaml",
    "FCOS": "COCO-Detection/fcos_R_50_FPN_1x.yaml",
}
#: the same code with fewer numbers
NARROW: dict[str, Any] = {
    "MODEL.DEVICE": "cpu",
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 8,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 32,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 8,
    "MODEL.FPN.OUT_CHANNELS": 64,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 32,
}


@dataclass(frozen=True)
class Function:
    """A function or method of the package.

    Attributes:
        file: path below lucidet/.
        name: with its class: ``RPN.forward``.
        first, last: lines of the file.
    """

    file: str
    name: str
    first: int
    last: int

    @property
    def lines(self) -> int:
        """Number of lines from the first decorator to the end."""
        return self.last - self.first + 1


@dataclass(frozen=True)
class Walk:
    """The functions that a call entered, in the order of their first entry."""

    functions: list[Function]

    @property
    def files(self) -> list[str]:
        """Return the files in the order of their first entry."""
        return list(dict.fromkeys(function.file for function in self.functions))

    def in_file(self, file: str) -> list[Function]:
        """Return the functions of one file, in the order of their first entry."""
        return [function for function in self.functions if function.file == file]

    @property
    def counts(self) -> tuple[int, int, int]:
        """Return how many files, functions, and lines of these functions."""
        lines = sum(function.lines for function in self.functions)
        return len(self.files), len(self.functions), lines


@cache
def _functions_of(path: str) -> list[Function]:
    """Return the outermost functions of a file: those that are in no other function."""
    file = str(Path(path).relative_to(PACKAGE))
    found: list[Function] = []

    def visit(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                first = min([child.lineno, *(d.lineno for d in child.decorator_list)])
                found.append(Function(file, prefix + child.name, first, child.end_lineno or first))
            elif isinstance(child, ast.ClassDef):
                visit(child, f"{prefix}{child.name}.")
            else:  # `if` and `try` at the level of the file
                visit(child, prefix)

    visit(ast.parse(Path(path).read_text()), "")
    return found


def _function_at(path: str, line: int) -> Function | None:
    return next((f for f in _functions_of(path) if f.first <= line <= f.last), None)


def walk_of(call: Callable[[], Any]) -> Walk:
    """Return the functions of lucidet that a call enters."""
    entered: dict[tuple[str, int], None] = {}
    package = f"{PACKAGE}/"

    def on_event(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(package) and code.co_name != "<module>":
            entered.setdefault((code.co_filename, code.co_firstlineno))

    sys.setprofile(on_event)
    try:
        call()
    finally:
        sys.setprofile(None)
    functions = (_function_at(path, line) for path, line in entered)
    return Walk(list(dict.fromkeys(f for f in functions if f is not None)))


def training_walk(name: str) -> Walk:
    """Return the walk of a training forward: one image of 192 x 256, two ground-truth boxes.

    Args:
        name: one of MODELS.
    """
    torch.manual_seed(0)
    cfg = model_zoo.get_config(MODELS[name])
    cfg.merge_from_list([item for pair in NARROW.items() for item in pair])
    model = build_model(cfg).train()
    batch = [record((192, 256), [[10.0, 10, 60, 70], [80.0, 30, 230, 180]])]
    return walk_of(lambda: model(batch))


def main(names: list[str]) -> None:
    """Print the walks of the models whose name has one of `names` in it; of all by default."""
    for model in MODELS:
        if names and not any(name.lower() in model.lower() for name in names):
            continue
        walk = training_walk(model)
        files, functions, lines = walk.counts
        print(f"\n{model}: {files} files, {functions} functions, {lines} lines")
        for file in walk.files:
            inside = walk.in_file(file)
            total = sum(function.lines for function in inside)
            print(f"  {file}: {len(inside)} functions, {total} lines")
            for function in inside:
                print(f"    {function.lines:4} {function.name}, line {function.first}")


if __name__ == "__main__":
    main(sys.argv[1:])
