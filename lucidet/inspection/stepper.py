"""The terminal stepper: the model waits inside a probe while its values are looked at."""

from __future__ import annotations

import cmd
import code
import fnmatch
import os
import sys
from pathlib import Path
from types import CodeType, FrameType
from typing import IO, Any

from rich.console import Console
from rich.table import Table

from lucidet.inspection.checks import run_checks
from lucidet.inspection.event import Event
from lucidet.inspection.page.page_data import PageData
from lucidet.inspection.page.report import PANELS, values_table
from lucidet.inspection.run import stage_pattern
from lucidet.inspection.stages import CHAPTERS, STAGES
from lucidet.inspection.trace import Reached, Trace
from lucidet.pages.colors import LAYER_COLORS

__all__ = ["Stepper", "terminal_picture"]

#: files whose frames are not those of the caller
_PLUMBING = (
    f"utils{os.sep}probe.py",
    f"{os.sep}torch{os.sep}",
    f"{os.sep}inspection{os.sep}",
    "contextlib.py",
)


def calling_frame() -> FrameType | None:
    """Return the frame that called the probe; None if all frames are plumbing."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and any(part in frame.f_code.co_filename for part in _PLUMBING):
        frame = frame.f_back
    return frame


class _Prompt(code.InteractiveInterpreter):
    """Runs what the user types, and shows the value of an expression."""

    def runcode(self, code: CodeType) -> None:
        hook, sys.displayhook = sys.displayhook, _show_value
        try:
            super().runcode(code)
        finally:
            sys.displayhook = hook


def _show_value(value: Any) -> None:
    if value is not None:
        print(value)


class Stepper(cmd.Cmd):
    """Stops at each stage and takes commands; give it to ``inspect_image(on_event=...)``.

    Args:
        folder: where `draw` writes pictures.
        stdin, stdout: of the session.
    """

    intro = ""

    def __init__(
        self,
        folder: Any = "inspection",
        stdin: IO[str] | None = None,
        stdout: IO[str] | None = None,
    ) -> None:
        super().__init__(stdin=stdin, stdout=stdout)
        if stdin is not None:
            self.use_rawinput = False
        self.folder = Path(folder)
        self.trace = Trace()
        self.target: str | None = "*"
        self.place = 0
        self.frame: FrameType | None = None
        self.console = Console(file=self.stdout, highlight=False)

    # ---- stopping ------------------------------------------------------------------------------

    def on_event(self, event: Event) -> None:
        """Stop here, if the user wants to see this stage."""
        if self.target is None or not fnmatch.fnmatchcase(event.name, self.target):
            return
        self.frame = calling_frame()
        self.place = len(self.trace) - 1
        self.show()
        self.prompt = f"({event.name}) "
        self.cmdloop()
        self.frame = None

    def begin(self, trace: Trace) -> None:
        """Look at this trace from now on."""
        self.trace = trace

    def finished(self) -> None:
        """Say that the run is over."""
        self.say(f"The run is over after {len(self.trace)} events.")

    @property
    def event(self) -> Event:
        return self.trace.events[self.place]

    def say(self, message: str) -> None:
        self.console.print(message, markup=False)

    def show(self) -> None:
        """Print the stage: what it does, where it stands, a table of its values, what is wrong."""
        event = self.event
        stage = STAGES.get(event.name)
        if stage:
            chapters = list(CHAPTERS)
            number = chapters.index(stage.chapter) + 1
            self.say(f"\n[{number}/{len(chapters)}] {event.name}: {stage.title}")
            self.say(stage.sentence)
        if self.frame is not None and self.place == len(self.trace) - 1:
            name = self.frame.f_code.co_name
            self.say(f"at {self.frame.f_code.co_filename}:{self.frame.f_lineno} in {name}()")
        block = values_table(event)
        if block:
            grid = Table(show_edge=False, pad_edge=False)
            for name in block["head"][:8]:
                grid.add_column(name)
            for row in block["rows"]:
                grid.add_row(*row[:8])
            self.console.print(grid)
        for finding in run_checks(self.trace):
            if finding.event == self.place:
                self.say(f"! {finding.check}: {finding.message}")

    # ---- commands ------------------------------------------------------------------------------

    def emptyline(self) -> bool:
        return self.do_next("")

    def do_next(self, argument: str) -> bool:
        """next: go to the next stage."""
        if self.place < len(self.trace) - 1:
            self.place += 1
            self._moved()
            return False
        self.target = "*"
        return True

    do_n = do_next

    def do_continue(self, argument: str) -> bool:
        """continue [STAGE]: run to the next stage of that name or pattern; without: to the end."""
        try:
            self.target = stage_pattern(argument.strip()) if argument.strip() else None
        except ValueError as error:
            self.say(str(error))
            return False
        return True

    do_c = do_continue

    def do_back(self, argument: str) -> bool:
        """back: look at the stage before, as it was recorded."""
        if self.place == 0:
            self.say("this is the first stage")
        else:
            self.place -= 1
            self._moved()
        return False

    do_b = do_back

    def _moved(self) -> None:
        live = self.place == len(self.trace) - 1
        self.prompt = f"({self.event.name}{'' if live else ', recorded'}) "
        self.show()

    def do_print(self, argument: str) -> bool:
        """print EXPRESSION: its value, with the stage's fields and the frame's variables."""
        live = self.frame is not None and self.place == len(self.trace) - 1
        names: dict[str, Any] = {}
        if live and self.frame is not None:
            names = {**self.frame.f_globals, **self.frame.f_locals}
        import torch

        names = {"torch": torch, **names, **self.event.values, "trace": self.trace}
        hook, sys.stdout = sys.stdout, self.stdout
        error_stream, sys.stderr = sys.stderr, self.stdout
        try:
            if _Prompt(names).runsource(argument or "None"):
                self.say("that is not complete")
        finally:
            sys.stdout, sys.stderr = hook, error_stream
        return False

    do_p = do_print

    def do_draw(self, argument: str) -> bool:
        """draw: the stage's picture, here and as a page of its own."""
        page = PageData(self.trace)
        stage = STAGES.get(self.event.name)
        blocks = PANELS[stage.drawing](page, self.event) if stage else []
        figures = [block for block in blocks if block["type"] == "figure"]
        if not figures:
            self.say("this stage has no picture")
            return False
        picture = compose(page, figures[0])
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{self.place:02d}_{self.event.name}.png"
        picture.save(path)
        self.stdout.write(terminal_picture(picture) + "\n")
        self.say(str(path))
        return False

    def do_list(self, argument: str) -> bool:
        """list: all stages, and where the run is."""
        for i, event in enumerate(self.trace.events):
            mark = "->" if i == self.place else "  "
            self.say(f"{mark} {i} {event.name}")
        return False

    def do_quit(self, argument: str) -> bool:
        """quit: end the run."""
        raise Reached

    do_q = do_quit
    do_EOF = do_quit

    def default(self, line: str) -> None:
        """Whatever is no command is looked at as Python."""
        self.do_print(line)


def compose(page: PageData, block: dict[str, Any]) -> Any:
    """Return a figure with its visible layers as a PIL image."""
    import base64
    import io

    from PIL import Image, ImageDraw

    def decode(address: str) -> Image.Image:
        return Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))).convert("RGB")

    picture = decode(page.images[block["background"]])
    for layer in block["layers"]:
        if not layer["on"]:
            continue
        if "heat" in layer:
            width, height = (round(v) for v in layer["extent"])
            heat = decode(layer["heat"]).resize((width, height), Image.Resampling.NEAREST)
            picture = Image.blend(picture, heat.crop((0, 0, *picture.size)), 0.6)
        pen = ImageDraw.Draw(picture)
        for x1, y1, x2, y2, _, color, _ in layer.get("boxes", []):
            pen.rectangle((x1, y1, max(x1, x2), max(y1, y2)), outline=LAYER_COLORS[color], width=2)
    return picture


def terminal_picture(picture: Any, columns: int = 72) -> str:
    """Return a PIL image in half blocks, two pixels a character, 24-bit colour."""
    rows = max(2, round(columns * picture.height / picture.width / 2) * 2)
    small = picture.resize((columns, rows))
    lines = []
    for y in range(0, rows, 2):
        line = ""
        for x in range(columns):
            (r, g, b), (u, v, w) = small.getpixel((x, y)), small.getpixel((x, y + 1))
            line += f"\x1b[38;2;{r};{g};{b}m\x1b[48;2;{u};{v};{w}m▀"
        lines.append(line + "\x1b[0m")
    return "\n".join(lines)
