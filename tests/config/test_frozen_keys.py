"""The surface: users' files hold these keys, so none may go or change its default unnoticed.

After a wanted change: ``python -m tests.config.test_frozen_keys`` writes frozen_keys.txt anew.
"""

from __future__ import annotations

from pathlib import Path

from lucidet.config import CfgNode, get_cfg

FROZEN = Path(__file__).with_name("frozen_keys.txt")


def surface() -> list[str]:
    """Return ``KEY = default`` of every key, sorted."""

    def lines(node: CfgNode, path: str) -> list[str]:
        found = []
        for name, value in node.items():
            if isinstance(value, CfgNode):
                found += lines(value, f"{path}{name}.")
            else:
                found.append(f"{path}{name} = {value!r}")
        return found

    return sorted(lines(get_cfg(), ""))


def test_frozen_keys() -> None:
    assert surface() == FROZEN.read_text(encoding="utf-8").splitlines()


if __name__ == "__main__":
    FROZEN.write_text("\n".join(surface()) + "\n", encoding="utf-8")
