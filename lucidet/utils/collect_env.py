"""A description of the machine and the installed libraries, for logs and bug reports."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys

import torch

from lucidet.utils.logger import create_table

__all__ = ["collect_env_info"]

_LIBRARIES = (
    "lucidet",
    "torch",
    "torchvision",
    "numpy",
    "pillow",
    "hotcoco",
    "safetensors",
    "yacs",
    "timm",
)
_VARIABLES = (
    "LUCIDET_DATASETS",
    "DETECTRON2_DATASETS",
    "OMP_NUM_THREADS",
    "CUDA_VISIBLE_DEVICES",
)


def _version(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _devices() -> list[list[str]]:
    rows = [
        ["CPU", f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"],
        ["CPU threads", str(torch.get_num_threads())],
    ]
    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(i)
            memory = properties.total_memory / 2**30
            rows.append([f"GPU {i}", f"{properties.name}, {memory:.0f} GiB"])
        rows.append(["CUDA", str(torch.version.cuda)])
        rows.append(["cuDNN", str(torch.backends.cudnn.version())])
    elif torch.backends.mps.is_available():
        rows.append(["GPU", "Apple MPS"])
    else:
        rows.append(["GPU", "none that PyTorch can use"])
    return rows


def collect_env_info() -> str:
    """Return a table of platform, Python, library versions, devices and environment variables."""
    rows = [
        ["platform", platform.platform()],
        ["Python", sys.version.split()[0]],
        *([library, _version(library)] for library in _LIBRARIES),
        *_devices(),
        *([name, os.environ[name]] for name in _VARIABLES if name in os.environ),
    ]
    return create_table(["what", "value"], rows)
