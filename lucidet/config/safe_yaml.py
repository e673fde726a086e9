"""Read YAML without running what it says, and remember the line of each key.

PyYAML's safe loader, with two forms of detectron2's files on top: ``!!python/tuple``, and
``!!python/object/apply:eval ["..."]`` where the text is arithmetic. Every other tag is refused
with its file and line, and so are a key given twice, endless nesting, numbers of many digits, and
aliases that would unfold into millions of values.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import yaml

from lucidet.config.arithmetic import evaluate
from lucidet.config.unfolded import MAX_DEPTH, check_unfolded

MAX_VALUES = 100_000  # after aliases are unfolded; detectron2's largest config has 700
MAX_NODES = 50_000  # before that; 4 seconds of PyYAML's
MAX_TEXT = 1 << 20  # characters
MAX_DIGITS = 100  # of a number; 1:59:59:59... of a file's length would take minutes
MAX_KEY = 2000  # characters of a dotted path

_TOO_DEEP = f"nested too deeply: more than {MAX_DEPTH} levels"
_TUPLE = "tag:yaml.org,2002:python/tuple"
_EVAL = "tag:yaml.org,2002:python/object/apply:eval"
_MERGE = "tag:yaml.org,2002:merge"
_PLAIN = {
    f"tag:yaml.org,2002:{kind}"
    for kind in ("null", "bool", "int", "float", "str", "seq", "map", "merge", "value")
}


class YamlContent(NamedTuple):
    """What a file says, and the line (from 1) of each key, by dotted path: ``SOLVER.BASE_LR``."""

    values: Any
    lines: dict[str, int]


class _Loader(yaml.SafeLoader):
    """The safe loader, in which 2024-05-01 is a text, as in a folder's name, and no date."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._nodes = self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Compose as PyYAML does, and stop where a file is larger than any config."""
        self._nodes += 1
        self._depth += 1
        if self._depth > MAX_DEPTH or self._nodes > MAX_NODES:
            too_deep = self._depth > MAX_DEPTH
            problem = f"more than {MAX_NODES} values" if not too_deep else _TOO_DEEP
            raise yaml.composer.ComposerError(None, None, problem, self.peek_event().start_mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def _construct_eval(loader: _Loader, node: yaml.Node) -> Any:
    arguments = loader.construct_sequence(node) if isinstance(node, yaml.SequenceNode) else []
    try:
        if len(arguments) != 1 or not isinstance(arguments[0], str):
            raise ValueError("one text in brackets is needed")
        return evaluate(arguments[0])
    except ValueError as error:
        # PyYAML's error type carries the line out
        raise yaml.constructor.ConstructorError(
            None, None, f"!!python/object/apply:eval: {error}", node.start_mark
        ) from error


def _construct_tuple(loader: _Loader, node: yaml.Node) -> tuple[Any, ...]:
    return tuple(loader.construct_sequence(node, deep=True))  # type: ignore[arg-type]


def _construct_plain(loader: _Loader, node: yaml.Node) -> Any:
    """Read a number or a bool as PyYAML does; `!!int x` and the like get an error with a line."""
    kind = node.tag.rpartition(":")[2]
    text = str(node.value)
    try:
        if kind != "bool" and len(text) > MAX_DIGITS:
            raise ValueError(f"it has {len(text)} characters, at most {MAX_DIGITS} are read")
        return getattr(loader, f"construct_yaml_{kind}")(node)
    except (ValueError, KeyError, IndexError, OverflowError) as error:
        problem = f"{text[:40]!r} is no {kind}: {error}"
        raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from error


for _kind in ("int", "float", "bool"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _construct_plain)
_Loader.add_constructor(_EVAL, _construct_eval)
_Loader.add_constructor(_TUPLE, _construct_tuple)


def load(text: str, filename: str = "<text>") -> YamlContent:
    """Parse YAML text.

    Args:
        text: one YAML document.
        filename: named in errors.

    Raises:
        ValueError: not YAML, or refused; the message begins with ``FILE:LINE``.

    >>> load("SOLVER:\\n  STEPS: !!python/tuple [1, 2]")
    YamlContent(values={'SOLVER': {'STEPS': (1, 2)}}, lines={'SOLVER': 1, 'SOLVER.STEPS': 2})
    >>> load("a: !!python/name:os.system", "evil.yaml")
    Traceback (most recent call last):
    ...
    ValueError: evil.yaml:1: tag !!python/name:os.system is refused: config files hold plain values
    """
    if len(text) > MAX_TEXT:
        raise ValueError(f"{filename}: {len(text)} characters of YAML; at most {MAX_TEXT}")
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return YamlContent(None, {})
        survey = _Survey(filename)
        survey.measure(node, ())
        survey.visit(node, "")
        values = loader.construct_document(node)
        check_unfolded(values, MAX_VALUES)  # what loops of an expression have made counts too
        return YamlContent(values, survey.lines)
    except yaml.YAMLError as error:
        raise ValueError(_described(error, filename)) from error
    except RecursionError as error:
        raise ValueError(f"{filename}: nested too deeply") from error
    except TypeError as error:  # a tuple with a list in it as a key
        raise ValueError(f"{filename}: a key must be a name ({error})") from error
    except ValueError as error:
        text = str(error)
        raise error if text.startswith(filename) else ValueError(f"{filename}: {text}") from error
    finally:
        if loader is not None:
            loader.dispose()


def _described(error: yaml.YAMLError, filename: str) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    return f"{filename}:{mark.line + 1}: {problem}" if mark else f"{filename}: {problem}"


class _Survey:
    """Looks a parsed file over before any value is made: tags, sizes, keys, lines."""

    def __init__(self, filename: str) -> None:
        self.lines: dict[str, int] = {}
        self._filename = filename
        self._sizes: dict[int, int] = {}

    def _refuse(self, node: yaml.Node, reason: str) -> ValueError:
        return ValueError(f"{self._filename}:{node.start_mark.line + 1}: {reason}")

    def measure(self, node: yaml.Node, inside: tuple[int, ...]) -> int:
        """Return the number of values under `node`; each node is looked at once."""
        if id(node) in inside:
            raise self._refuse(node, "an alias that contains itself")
        if id(node) in self._sizes:
            return self._sizes[id(node)]
        if len(inside) > MAX_DEPTH:
            raise self._refuse(node, _TOO_DEEP)
        if node.tag not in _PLAIN and node.tag not in (_TUPLE, _EVAL):
            tag = node.tag.replace("tag:yaml.org,2002:", "!!")
            raise self._refuse(node, f"tag {tag} is refused: config files hold plain values")
        below = (*inside, id(node))
        size = 1 + sum(self.measure(child, below) for child in _children(node))
        if size > MAX_VALUES:
            raise self._refuse(node, f"more than {MAX_VALUES} values")
        self._sizes[id(node)] = size
        return size

    def visit(self, node: yaml.Node, path: str) -> None:
        """Note the line of each key below `node`; two equal keys in one mapping are an error."""
        if not isinstance(node, yaml.MappingNode):
            return
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.tag == _MERGE:  # <<: *other
                for other in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    self.visit(other, path)
                continue
            name = str(key.value)
            if len(path) + len(name) > MAX_KEY:
                raise self._refuse(key, f"a key of {len(path) + len(name)} characters")
            if name in seen:
                raise self._refuse(
                    key,
                    f"key {path}{name} again; it stands on line {seen[name]}, and the two cannot "
                    "both hold: keep one, or bring what is below them together",
                )
            seen[name] = line
            self.lines[path + name] = line
            self.visit(value, f"{path}{name}.")


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else []
