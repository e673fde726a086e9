"""Read and write videos through imageio, which is not among lucidet's own requirements."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

INSTALL = 'pip install "imageio[ffmpeg]"'


def _imageio(path: Path) -> Any:
    try:
        import imageio.v2 as imageio
    except ImportError as error:
        raise ImportError(f"{path}: videos need imageio and ffmpeg: {INSTALL}") from error
    return imageio


class Video:
    """The frames of a video file: (H, W, 3) uint8 RGB arrays, and how many pass a second."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._reader = _imageio(path).get_reader(str(path), "ffmpeg")
        except ImportError as error:
            raise ImportError(f"{path}: videos need imageio and ffmpeg: {INSTALL}") from error
        except Exception as error:  # imageio raises many types for a file it cannot decode
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ValueError(
                f"{path}: not a video that can be decoded ({reason}); decoding needs {INSTALL}"
            ) from error
        self.fps = float(self._reader.get_meta_data().get("fps", 25.0))

    def __iter__(self) -> Iterator[np.ndarray]:
        for frame in self._reader:
            yield np.asarray(frame)

    def writer(self, target: Path) -> Any:
        """Return a writer (``append_data(frame)``, ``close()``) of the same speed."""
        return _imageio(target).get_writer(str(target), fps=self.fps, macro_block_size=2)

    def close(self) -> None:
        self._reader.close()
