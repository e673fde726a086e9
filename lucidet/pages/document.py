"""One HTML file that opens offline: a template, its data, a style sheet and a script inside it."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Sequence
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader
from torch import Tensor

from lucidet.pages.colors import LAYER_COLORS, VERDICT_COLORS

__all__ = ["page_environment", "plain_data", "render_page"]

#: scripts of every page, in the order in which they use one another
SHARED_SCRIPTS = ("core.js", "picture.js", "charts.js", "blocks.js")


def page_environment(package: str) -> Environment:
    """Return templates of a package beside the shared ones; text is escaped."""
    loaders = [PackageLoader(package), PackageLoader("lucidet.pages")]
    return Environment(loader=ChoiceLoader(loaders), autoescape=True)


def render_page(
    package: str, template: str, title: str, data: dict[str, Any], scripts: Sequence[str] = ()
) -> str:
    """Return a page as HTML. Nothing in it is loaded from elsewhere, and only its script runs.

    Args:
        package: whose ``templates`` hold `template` and `scripts`.
        template: extends ``page.html``.
        title: any text.
        data: JSON-able; the scripts find it as ``data``. Any text in it is safe.
        scripts: run after the shared ones, in one scope with them.
    """
    environment = page_environment(package)
    assert environment.loader is not None
    names = (*SHARED_SCRIPTS, *scripts)
    sources = [environment.loader.get_source(environment, name)[0] for name in names]
    script = '"use strict";\n(() => {\n' + "\n".join(sources) + "\n})();"
    colors = {"layers": LAYER_COLORS, "verdicts": VERDICT_COLORS}
    content = json.dumps(plain_data({**data, "colors": colors}), separators=(",", ":"))
    return environment.get_template(template).render(
        title=title,
        payload=content.replace("<", "\\u003c"),  # "<" cannot end the script element then
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def plain_data(value: Any) -> Any:
    """Return what JSON can hold: tensors and tuples as lists, NaN and infinities as None."""
    if isinstance(value, dict):
        return {str(key): plain_data(item) for key, item in value.items()}
    if isinstance(value, Tensor):
        return plain_data(value.tolist())
    if isinstance(value, list | tuple):
        return [plain_data(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
