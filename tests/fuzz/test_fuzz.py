"""A minute of generated files for the readers; longer runs: ``python -m tests.fuzz.run``."""

from __future__ import annotations

import warnings

import pytest

from tests.fuzz.run import fuzz
from tests.fuzz.targets import TARGETS

SECONDS = 60 / len(TARGETS)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(TARGETS))
def test_generated_files(name: str) -> None:
    with warnings.catch_warnings():
        assert fuzz(name, SECONDS) > 10
