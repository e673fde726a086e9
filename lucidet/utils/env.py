"""Random seeds and process-wide settings."""

from __future__ import annotations

import logging
import os
import random

import numpy as np
import torch

__all__ = ["seed_all_rng", "setup_environment", "TORCH_VERSION"]

#: (major, minor) of the installed PyTorch
TORCH_VERSION: tuple[int, ...] = tuple(int(n) for n in torch.__version__.split(".")[:2])


def seed_all_rng(seed: int | None = None) -> int:
    """Seed the random states of Python, NumPy and torch, and return the seed.

    Args:
        seed: in [0, 2**63); None or a negative number: one is drawn from the operating system
            and logged, so that the run can be repeated.
    """
    if seed is None or seed < 0:
        seed = int.from_bytes(os.urandom(4), "little")
        logging.getLogger(__name__).info("Using a random seed %d", seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # NumPy takes 32 bits
    torch.manual_seed(seed)
    return seed


_configured = False


def setup_environment() -> None:
    """Make settings that help every run; the second call does nothing.

    OpenCV, where some user code brings it, is kept from starting threads inside data workers.
    A value the user has set stays.
    """
    global _configured
    if _configured:
        return
    _configured = True
    os.environ.setdefault("OPENCV_OPENCL_RUNTIME", "disabled")
    os.environ.setdefault("OPENCV_FOR_THREADS_NUM", "1")
