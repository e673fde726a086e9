"""Feed readers with generated files for a while: ``python -m tests.fuzz.run NAME SECONDS``.

A find is an exception of another kind than readers say by message, an input that takes more than
ten seconds, or a growth of the process by more than a gigabyte.
"""

from __future__ import annotations

import logging
import resource
import sys
import tempfile
import time
import warnings
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz.targets import CLEAR, TARGETS

SLOWEST = 10.0  # seconds of one input
GROWTH = 1 << 20  # kilobytes
_BATCH = 100  # inputs between two looks at the clock


def fuzz(name: str, seconds: float, first_seed: int = 0) -> int:
    """Run one target; return the number of inputs.

    Raises:
        Exception: a find; hypothesis has made its input small and shows it.
    """
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        target = TARGETS[name](folder)
        inputs = 0

        def check(content: bytes) -> None:
            nonlocal inputs
            inputs += 1
            start = time.monotonic()
            try:
                target.read(content, folder)
            except CLEAR as error:
                message = str(error)
            else:
                message = "read"
            assert 0 < len(message) < 20_000 + len(content), "no message, or a book"
            assert time.monotonic() - start < SLOWEST, "this input takes too long"

        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        end, number = time.monotonic() + seconds, first_seed
        try:
            while time.monotonic() < end:
                rules = settings(
                    max_examples=_BATCH,
                    database=None,
                    deadline=None,
                    phases=(Phase.generate, Phase.shrink),
                    suppress_health_check=list(HealthCheck),
                )
                seed(number)(rules(given(target.contents)(check)))()
                number += 1
        finally:
            logging.disable(logging.NOTSET)
        growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert growth < GROWTH, f"the process grew by {growth} kB"
        return inputs


if __name__ == "__main__":
    print(sys.argv[1], fuzz(sys.argv[1], float(sys.argv[2]), int(time.time())), "inputs")
