"""Servers that send pages, drip, lie about lengths, or names that climb: nothing of it is kept."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lucidet.checkpoint import download
from lucidet.checkpoint.download import cached_path, fetch


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers by the address."""

    def do_GET(self) -> None:
        name = self.path.rpartition("/")[2]
        kind = "text/html; charset=utf-8" if name == "page.pth" else "application/octet-stream"
        content = b"<!DOCTYPE html><title>Log in</title>" if "page" in name else b"weights" * 100
        content = b"" if name == "empty.pth" else content
        self.send_response(200)
        self.send_header("Content-Type", kind)
        announced = {"huge.pth": 1 << 50, "odd.pth": "many"}.get(name, len(content))
        self.send_header("Content-Length", str(announced))
        self.end_headers()
        if name == "drip.pth":
            for byte in content:
                time.sleep(0.02)
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
        else:
            self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("LUCIDET_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("LUCIDET_OFFLINE", raising=False)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *args: None  # type: ignore[method-assign]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("page.pth", "the server sent a page .text/html. and no weights; is a login needed"),
        ("page_as_file.pth", "what came is a web page or text, not weights; it is not kept"),
        ("empty.pth", "what came is empty, not weights"),
        ("huge.pth", "1125899906842624 bytes are more than weights may have"),
        ("odd.pth", "cannot fetch"),
    ],
)
def test_what_is_no_file_of_weights_is_not_kept(name: str, match: str, address: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=match):
        fetch(f"{address}/{name}")
    assert not cached_path(f"{address}/{name}").exists()


@pytest.mark.parametrize(("limit", "value"), [("_TOTAL", 0.3), ("_PATIENCE", 0.3)])
def test_a_server_that_drips(
    limit: str, value: float, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, limit, value)
    start = time.monotonic()
    with pytest.raises(FileNotFoundError, match="seconds, which is too slow"):
        fetch(f"{address}/drip.pth")
    assert time.monotonic() - start < 10


@pytest.mark.parametrize(
    "url",
    [
        "https://../a.pth",
        "https://h/../../../a.pth",
        "https://h/%2e%2e/%2e%2e/a.pth",
        "https://h/..%2f..%2fa.pth",
        "https://h/a\\..\\b.pth",
        "https://h/" + "a" * 5000 + ".pth",
        "https://h/" + "é" * 200 + ".pth",
        "https://h/a\0b.pth",
        "file:///etc/passwd",
        "https://h/a.pth.sha256",
    ],
)
def test_names_cannot_climb(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUCIDET_CACHE", str(tmp_path))
    try:
        path = cached_path(url)
    except ValueError:
        return
    assert (tmp_path / "weights").resolve() in path.resolve().parents
    assert len(path.parent.name) > 0
    assert len(path.name.encode()) < 250
    assert not path.name.endswith(".sha256")
    path.parent.mkdir(parents=True)
    path.touch()


def test_a_link_in_the_place_of_the_unfinished_file(address: str, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    target = cached_path(f"{address}/good.pth")
    target.parent.mkdir(parents=True)
    target.with_name("good.pth.part").symlink_to(victim)
    assert fetch(f"{address}/good.pth").read_bytes() == b"weights" * 100
    assert victim.read_text() == "mine"
