"""Only regular files of a bounded size are opened; nothing waits at a pipe."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from lucidet._regular_file import (
    LIMITS,
    IrregularFileError,
    limit_of,
    open_regular_text,
    read_regular,
)


def test_regular_files_and_links(tmp_path: Path) -> None:
    file, link = tmp_path / "a.txt", tmp_path / "b.txt"
    file.write_text("käse", encoding="utf-8")
    link.symlink_to(file)
    assert read_regular(link, "text") == "käse".encode()
    with open_regular_text(file, "config") as opened:
        assert opened.read() == "käse"
    (tmp_path / "empty").touch()
    assert read_regular(tmp_path / "empty", "XML") == b""


def test_a_pipe_a_device_and_a_socket_are_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(tmp_path)  # the address of a socket is short
        server.bind("s")
        for path, what in (("pipe", "a pipe"), ("/dev/zero", "a device"), ("s", ".")):
            # opening a socket fails in the operating system already
            with pytest.raises((IrregularFileError, OSError), match=what):
                read_regular(path, "text")


def test_folders_and_absent_files(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        read_regular(tmp_path, "text")
    for name in ("none", "a\0b"):
        with pytest.raises(FileNotFoundError):
            read_regular(tmp_path / name, "text")


def test_a_file_larger_than_its_kind_may_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "large.yaml"
    with file.open("wb") as opened:
        opened.truncate(LIMITS["config"] + 1)  # a hole: no byte of it is on the disk
    with pytest.raises(IrregularFileError, match=f"set LUCIDET_MAX_FILE_BYTES={1 + (1 << 20)}"):
        read_regular(file, "config")
    monkeypatch.setenv("LUCIDET_MAX_FILE_BYTES", str(LIMITS["config"] + 1))
    assert len(read_regular(file, "config")) == limit_of("config")
    monkeypatch.setenv("LUCIDET_MAX_FILE_BYTES", "many")
    with pytest.raises(ValueError, match="must be a number of bytes, got 'many'"):
        read_regular(file, "config")
