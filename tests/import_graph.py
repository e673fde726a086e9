"""The import graph of a package: every import counts, also those inside functions.

An edge goes from a module to each module that the import statement names, and to the packages that
Python runs on the way there (``import a.b.c`` runs ``a/__init__.py`` and ``a/b/__init__.py``),
without those that the importing module lies in itself: they run before it in any case.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

__all__ = ["circles", "import_graph", "imported_names"]

Graph = Mapping[str, Mapping[str, int]]


def imported_names(path: Path) -> Iterator[tuple[str, int]]:
    """Yield (dotted name, line) of every import of a file; ``from a import b`` is ``a.b``."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: write the whole name, as elsewhere"
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def import_graph(package: Path) -> dict[str, dict[str, int]]:
    """Return module -> {module that it imports: line}, by dotted names from the package's own."""
    files = {_module_name(path, package): path for path in sorted(package.rglob("*.py"))}
    graph: dict[str, dict[str, int]] = {}
    for module, path in files.items():
        edges = graph.setdefault(module, {})
        for name, line in imported_names(path):
            target = name if name in files else name.rpartition(".")[0]  # a name in a module
            if target in files:
                run_on_the_way = set(_parents(target)) - set(_parents(module)) - {module}
                for reached in (target, *sorted(run_on_the_way)):
                    edges.setdefault(reached, line)
    return graph


def _module_name(path: Path, package: Path) -> str:
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _parents(module: str) -> Iterator[str]:
    while "." in module:
        module = module.rpartition(".")[0]
        yield module


def circles(graph: Graph) -> list[str]:
    """Return a text for each group of modules that reach one another: ``a:3 -> b:7 -> a``.

    >>> circles({"a": {"b": 3}, "b": {"c": 7}, "c": {"b": 9}})
    ['b:7 -> c:9 -> b']
    """
    found = []
    seen: set[str] = set()
    for start in sorted(graph):
        way = None if start in seen else _way_back(graph, start)
        if way:
            seen |= set(way)
            steps = zip(way, [*way[1:], start], strict=True)
            found.append(" -> ".join([*(f"{a}:{graph[a][b]}" for a, b in steps), start]))
    return found


def _way_back(graph: Graph, start: str) -> list[str] | None:
    """Return the shortest way from a module back to itself, or None."""
    ways = [[start]]
    reached: set[str] = set()
    for way in ways:
        for target in sorted(graph[way[-1]]):
            if target == start:
                return way
            if target not in reached:
                reached.add(target)
                ways.append([*way, target])
    return None
