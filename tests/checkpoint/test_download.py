"""Addresses, the cache, resumed transfers and what is said without a network; a server in here."""

from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from lucidet.checkpoint import DetectionCheckpointer, load_weights_file
from lucidet.checkpoint.addresses import url_of
from lucidet.checkpoint.download import cached_path, fetch, sha256_of

CONTENT = bytes(range(256)) * 64


class Server(http.server.ThreadingHTTPServer):
    """Serves `files`; notes the ranges asked for; cuts the connection after `cut` bytes."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {"/a/model.pkl": CONTENT}
        self.ranges: list[str | None] = []
        self.cut: int | None = None
        self.tag = '"1"'
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        content = self.server.files.get(self.path.partition("?")[0])
        wanted = self.headers.get("Range")
        self.server.ranges.append(wanted)
        if content is None:
            self.send_error(404)
            return
        start = 0
        if wanted and self.headers.get("If-Range") == self.server.tag:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
        if start > len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("ETag", self.server.tag)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start : self.server.cut])

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LUCIDET_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("LUCIDET_OFFLINE", raising=False)
    return tmp_path / "cache"


def test_fetched_once(server: Server, cache: Path) -> None:
    url = f"{server.url}/a/model.pkl"
    path = fetch(url)
    assert path == cached_path(url)
    assert cache in path.parents
    assert path.read_bytes() == CONTENT
    note = path.with_name("model.pkl.sha256").read_text()
    assert note.split()[0] == hashlib.sha256(CONTENT).hexdigest() == sha256_of(path)
    fetch(url)
    assert server.ranges == [None]
    assert sorted(p.name for p in path.parent.iterdir()) == ["model.pkl", "model.pkl.sha256"]


def test_several_processes_fetch_once(server: Server) -> None:
    url = f"{server.url}/a/model.pkl"
    with ThreadPoolExecutor(4) as pool:
        paths = set(pool.map(fetch, [url] * 4))
    assert [path.read_bytes() for path in paths] == [CONTENT]
    assert server.ranges == [None]


def test_resumed(server: Server) -> None:
    url = f"{server.url}/a/model.pkl"
    server.cut = 5000
    with pytest.raises(FileNotFoundError, match=r"broke off after 5000 of 16384 bytes"):
        fetch(url)
    server.cut = None
    assert fetch(url).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=5000-"]


def test_changed_meanwhile(server: Server) -> None:
    url = f"{server.url}/a/model.pkl"
    server.cut = 5000
    with pytest.raises(FileNotFoundError):
        fetch(url)
    server.cut, server.tag = None, '"2"'
    server.files["/a/model.pkl"] = CONTENT[::-1]
    assert fetch(url).read_bytes() == CONTENT[::-1]


def test_more_than_all_of_it_is_there(server: Server) -> None:
    url = f"{server.url}/a/model.pkl"
    part = cached_path(url).with_name("model.pkl.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT * 2)
    part.with_name("model.pkl.part.etag").write_text(server.tag)
    assert fetch(url).read_bytes() == CONTENT


def test_changed_in_the_cache(server: Server) -> None:
    path = fetch(f"{server.url}/a/model.pkl")
    path.write_bytes(b"other")
    with pytest.raises(ValueError, match=r"has changed since it was fetched.*Remove both"):
        fetch(f"{server.url}/a/model.pkl")


def test_checksum_in_the_name(server: Server) -> None:
    digest = hashlib.sha256(CONTENT).hexdigest()[:8]
    server.files[f"/r-{digest}.pth"] = CONTENT
    server.files["/r-00000000.pth"] = CONTENT
    assert fetch(f"{server.url}/r-{digest}.pth").is_file()
    with pytest.raises(ValueError, match=rf"SHA-256 of what came is {digest}.*says 00000000"):
        fetch(f"{server.url}/r-00000000.pth")
    assert not cached_path(f"{server.url}/r-00000000.pth").exists()


def test_not_on_the_server(server: Server) -> None:
    with pytest.raises(FileNotFoundError, match=r"answered 404.*put it here as"):
        fetch(f"{server.url}/none.pkl")


def test_no_server() -> None:
    with pytest.raises(FileNotFoundError, match=r'network has failed.*WEIGHTS "" trains from scra'):
        fetch("http://127.0.0.1:9/model.pkl")


def test_offline(monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    monkeypatch.setenv("LUCIDET_OFFLINE", "1")
    url = f"{server.url}/a/model.pkl"
    with pytest.raises(FileNotFoundError, match=r"LUCIDET_OFFLINE is set") as caught:
        fetch(url)
    assert str(cached_path(url)) in str(caught.value)
    assert server.ranges == []
    cached_path(url).parent.mkdir(parents=True)
    cached_path(url).write_bytes(CONTENT)  # put there by hand, as the message says
    assert fetch(url).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("address", "url"),
    [
        (
            "detectron2://COCO-Detection/faster_rcnn_R_50_FPN_1x/137257794/model_final_b275ba.pkl",
            "https://dl.fbaipublicfiles.com/detectron2/COCO-Detection/faster_rcnn_R_50_FPN_1x/"
            "137257794/model_final_b275ba.pkl",
        ),
        (
            "detectron2://COCO-Detection/faster_rcnn_R_50_FPN_1x",
            "https://dl.fbaipublicfiles.com/detectron2/COCO-Detection/faster_rcnn_R_50_FPN_1x/"
            "137257794/model_final_b275ba.pkl",
        ),
        (
            "detectron2://ImageNetPretrained/MSRA/R-50.pkl",
            "https://dl.fbaipublicfiles.com/detectron2/ImageNetPretrained/MSRA/R-50.pkl",
        ),
        (
            "catalog://ImageNetPretrained/MSRA/R-50",
            "https://dl.fbaipublicfiles.com/detectron/ImageNetPretrained/MSRA/R-50.pkl",
        ),
        (  # FCOS' and ATSS' name
            "catalog://ImageNetPretrained/FAIR/20171220/X-101-32x8d",
            "https://dl.fbaipublicfiles.com/detectron/ImageNetPretrained/20171220/X-101-32x8d.pkl",
        ),
        (
            "catalog://ImageNetPretrained/FAIR/20171220/X-101-64x4d",
            "https://dl.fbaipublicfiles.com/detectron/ImageNetPretrained/FBResNeXt/X-101-64x4d.pkl",
        ),
        (  # maskrcnn-benchmark's name; FAIR/R-50-GN is detectron2's
            "catalog://ImageNetPretrained/MSRA/R-50-GN",
            "https://dl.fbaipublicfiles.com/detectron/ImageNetPretrained/47261647/R-50-GN.pkl",
        ),
        (
            "catalog://Caffe2Detectron/COCO/35857345/e2e_faster_rcnn_R-50-FPN_1x",
            "https://dl.fbaipublicfiles.com/detectron/35857345/12_2017_baselines/"
            "e2e_faster_rcnn_R-50-FPN_1x.yaml.01_36_30.cUF7QR7I/output/train/"
            "coco_2014_train%3Acoco_2014_valminusminival/generalized_rcnn/model_final.pkl",
        ),
        ("torchvision://resnet50", "https://download.pytorch.org/models/resnet50-0676ba61.pth"),
        (
            "torchvision://resnet50/IMAGENET1K_V2",
            "https://download.pytorch.org/models/resnet50-11ad3fa6.pth",
        ),
        ("https://example.org/a.pth", "https://example.org/a.pth"),
    ],
)
def test_addresses(address: str, url: str) -> None:
    assert url_of(address) == url


@pytest.mark.parametrize(
    ("address", "near"),
    [
        ("catalog://ImageNetPretrained/MSRA/R-5O", "MSRA/R-50"),
        ("catalog://Elsewhere/R-50", "ImageNetPretrained"),
        ("catalog://Caffe2Detectron/COCO/1/e2e_faster_rcnn_R-50-FPN_1x", "35857345/e2e_faster"),
        ("torchvision://resnet5O", "torchvision://resnet50"),
        ("torchvision://resnet50/V9", "IMAGENET1K_V1"),
        ("detectron2://COCO-Detection/faster_rcnn_R_50_FPN_9x", "faster_rcnn_R_50_FPN"),
    ],
)
def test_unknown_addresses_name_the_nearest(address: str, near: str) -> None:
    with pytest.raises(ValueError, match=near):
        url_of(address)


@pytest.mark.parametrize("url", ["https://", "https://host", "https://host/"])
def test_urls_without_a_file(url: str) -> None:
    with pytest.raises(ValueError, match=r"names no file"):
        cached_path(url)


def test_names_do_not_lead_out_of_the_cache(cache: Path) -> None:
    for url in ("https://h/../../etc/passwd", "https://h/%2e%2e/%2e%2e/x", "https://../x"):
        assert cache in cached_path(url).resolve().parents
    assert cached_path("https://h/a.pth?v=1") != cached_path("https://h/a.pth?v=2")


def test_model_weights_over_http(server: Server, tmp_path: Path) -> None:
    source = torch.nn.Linear(2, 2)
    torch.save(source.state_dict(), tmp_path / "a.pth")
    server.files["/a.pth"] = (tmp_path / "a.pth").read_bytes()
    model = torch.nn.Linear(2, 2)
    DetectionCheckpointer(model).load(f"{server.url}/a.pth")
    assert torch.equal(model.weight, source.weight)


def test_unknown_scheme() -> None:
    with pytest.raises(FileNotFoundError, match=r'no handler for .*WEIGHTS "" trains from scratch'):
        load_weights_file("weird://x.pth")
