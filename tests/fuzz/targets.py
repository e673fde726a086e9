"""Readers of strangers' files, each with a generator of inputs: mutated good files, odd values.

A target takes the bytes of a file and raises only what a reader says by message.
"""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file

from lucidet.checkpoint import load_weights_file
from lucidet.config import get_cfg
from lucidet.data.datasets.coco import load_coco_json
from lucidet.data.datasets.pascal_voc import load_voc_instances
from lucidet.data.image_io import image_size, read_image
from lucidet.inspection import Trace, watch
from lucidet.utils.probe import probe

#: what readers raise; everything else is a find
CLEAR = (ValueError, OSError)


class Target(NamedTuple):
    """A strategy of file contents, and what reads the file that they are written to."""

    contents: st.SearchStrategy[bytes]
    read: Callable[[bytes, Path], Any]


# ------------------------------------------------------------------------------------ mutations

_NUMBERS = [b"\0", b"\xff", b"\x7f", b"\xff\xff\xff\x7f", b"\xff" * 4, b"\0" * 8, b"\xff" * 8]


@st.composite
def mutated(draw: st.DrawFn, originals: list[bytes], tokens: list[bytes]) -> bytes:
    """Return one of `originals` with up to eight pieces overwritten, inserted, cut or repeated."""
    content = bytearray(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(1, 8))):
        at = draw(st.integers(0, max(0, len(content) - 1)))
        piece = draw(
            st.one_of(st.sampled_from(tokens + _NUMBERS), st.binary(min_size=1, max_size=8))
        )
        how = draw(st.sampled_from(["overwrite", "overwrite", "insert", "cut", "end", "repeat"]))
        if how == "overwrite":
            content[at : at + len(piece)] = piece
        elif how == "insert":
            content[at:at] = piece
        elif how == "cut":
            del content[at : at + draw(st.integers(1, 64))]
        elif how == "end":
            del content[at:]
        else:
            content[at:at] = bytes(content[at : at + 32]) * draw(st.integers(1, 40))
    return bytes(content)


def _odd() -> st.SearchStrategy[Any]:
    return st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-3, 3),
        st.sampled_from([10**30, -(10**400), 1e308, float("nan"), float("inf"), "", " ", "1", "x"]),
        st.floats(),
        st.text(max_size=5),
        st.lists(st.integers(-1, 2), max_size=5),
        st.dictionaries(st.text(max_size=3), st.integers(0, 1), max_size=2),
    )


# ----------------------------------------------------------------------------------- checkpoints


def _saved(old: bool = False) -> bytes:
    file = io.BytesIO()
    weights = {"model": {"a": torch.ones(3, 4), "b": torch.zeros(2)}, "iteration": 3}
    torch.save(weights, file, _use_new_zipfile_serialization=not old)
    return file.getvalue()


def _safetensors(folder: Path) -> bytes:
    save_file({"a": torch.ones(3)}, folder / "a.safetensors")
    return (folder / "a.safetensors").read_bytes()


def _read_weights(content: bytes, folder: Path) -> Any:
    (folder / "a.pth").write_bytes(content)
    return load_weights_file(folder / "a.pth")


def checkpoints(folder: Path) -> Target:
    """Archives, older files, safetensors and pickles with changed bytes."""
    plain = pickle.dumps({"model": {"a": np.ones((2, 3), np.float32)}}, 2)
    originals = [_saved(), _saved(old=True), _safetensors(folder), plain]
    tokens = [b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06", b"PK\x06\x06", b"storage", b"data.pkl"]
    return Target(mutated(originals, tokens), _read_weights)


_NAMES = [
    b"cnumpy\nndarray\n",
    b"cnumpy\ndtype\n",
    b"cnumpy.core.multiarray\n_reconstruct\n",
    b"ccollections\nOrderedDict\n",
    b"c_codecs\nencode\n",
    b"cbuiltins\nset\n",
    b"ctorch._utils\n_rebuild_tensor_v2\n",
    b"ctorch\nFloatStorage\n",
    b"cos\nsystem\n",
    b"ctorch\nSize\n",
    b"cbuiltins\nbytearray\n",
    b"ctorch.nn.parameter\nParameter\n",
]
_STEPS = [
    b"(",
    b")",
    b"]",
    b"}",
    b"N",
    b"K\x01",
    b"K\x02",
    b"J\xff\xff\xff\x7f",
    b"\x88",
    b"0",
    b"2",
    b"1",
    b"\x85",
    b"\x86",
    b"\x87",
    b"t",
    b"l",
    b"d",
    b"a",
    b"e",
    b"s",
    b"u",
    b"R",
    b"b",
    b"\x81",
    b"o",
    b"Q",
    b"q\x00",
    b"q\x01",
    b"h\x00",
    b"h\x01",
    b"X\x01\0\0\0a",
    b"C\x04abcd",
    b"U\x02f4",
    b"\x8f",
    b"\x90",
    b"\x91",
    b"\x94",
    b"\x93",
    b"\x8a\x01\x05",
    b"G?\xf0\0\0\0\0\0\0",
    b"X\x07\0\0\0storage",
    b"X\x01\0\0\x000",
    b"I1\n",
    b"\x92",
]


def pickles(folder: Path) -> Target:
    """Pickles of random steps, by themselves and inside an archive."""

    def read(content: bytes, folder: Path) -> Any:
        path = folder / "a.pth"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a/data.pkl", content)
            archive.writestr("a/data/0", bytes(16))
        with suppress(*CLEAR):
            load_weights_file(path)
        return _read_weights(content, folder)

    steps = st.lists(st.sampled_from(_STEPS * 2 + _NAMES), max_size=40)
    return Target(steps.map(lambda s: b"\x80\x02" + b"".join(s) + b"."), read)


# --------------------------------------------------------------------------------- configs, data

_YAML = [
    "a",
    "SOLVER",
    "BASE_LR",
    "MODEL",
    "_BASE_",
    "VERSION",
    ": ",
    ":\n  ",
    "\n",
    "- ",
    "? ",
    "[",
    "]",
    "{",
    "}",
    ", ",
    "&x ",
    "*x",
    "<<: ",
    "!!int ",
    "!!python/tuple ",
    "1:59:59",
    "|\n",
    "!!python/object/apply:eval [",
    '"',
    "'",
    "[x for x in [1,2]]",
    "2**9",
    "0x1",
    ".inf",
    "#",
    "1e9",
    "---\n",
    "%",
    "\t",
    "  ",
    "é",
    "\\u0041",
    "!",
    "@",
    "a.yaml",
    "/dev/zero",
]


def configs(folder: Path) -> Target:
    """YAML of random pieces."""

    def read(content: bytes, folder: Path) -> Any:
        (folder / "a.yaml").write_bytes(content)
        cfg = get_cfg()
        cfg.merge_from_file(str(folder / "a.yaml"))
        return cfg.dump()

    pieces = st.lists(st.one_of(st.sampled_from(_YAML), st.text(max_size=2)), max_size=40)
    return Target(pieces.map(lambda p: "".join(p).encode("utf-8", "surrogatepass")), read)


def _entry(**fields: Any) -> st.SearchStrategy[dict[str, Any]]:
    usual = {key: st.just(value) for key, value in fields.items()}
    either = {key: st.one_of(value, value, value, _odd()) for key, value in usual.items()}
    return st.fixed_dictionaries({}, optional=either)


def coco(folder: Path) -> Target:
    """COCO files with odd and absent fields."""
    Image.fromarray(np.zeros((10, 20, 3), np.uint8)).save(folder / "a.png")
    image = _entry(id=1, file_name="a.png", width=20, height=10)
    annotation = _entry(
        id=1, image_id=1, category_id=1, bbox=[1, 1, 5, 5], iscrowd=0, area=25, ignore=0
    )
    category = _entry(id=1, name="cat", supercategory="x")
    sections = {
        "images": st.one_of(st.lists(st.one_of(image, image, _odd()), max_size=3), _odd()),
        "annotations": st.one_of(st.lists(st.one_of(annotation, _odd()), max_size=3), _odd()),
        "categories": st.one_of(
            st.lists(st.one_of(category, category, _odd()), max_size=3), _odd()
        ),
    }

    def read(content: bytes, folder: Path) -> Any:
        (folder / "ann.json").write_bytes(content)
        return load_coco_json(folder / "ann.json", folder)

    whole = st.fixed_dictionaries({}, optional=sections)
    usual = json.dumps({"images": [], "annotations": [], "categories": []}).encode()
    broken = mutated([usual], [b"[", b"{", b"null", b"1e999", b'"'])
    return Target(st.one_of(whole.map(lambda c: json.dumps(c).encode()), broken), read)


_XML = (
    b"<annotation><filename>a.png</filename><size><width>20</width><height>10</height></size>"
    b"<object><name>cat</name><difficult>0</difficult><bndbox><xmin>1</xmin><ymin>1</ymin>"
    b"<xmax>9</xmax><ymax>9</ymax></bndbox></object></annotation>"
)


def voc(folder: Path) -> Target:
    """VOC files with changed bytes and numbers."""
    for name in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "ImageSets/Main/train.txt").write_text("a\n")

    def read(content: bytes, folder: Path) -> Any:
        (folder / "Annotations/a.xml").write_bytes(content)
        return load_voc_instances(folder, "train", ["cat"])

    tokens = [
        b"inf",
        b"nan",
        b"-1",
        b"1e400",
        b"<object>",
        b"</object>",
        b"&lt;",
        b"<xmin>",
        b"9" * 30,
    ]
    heads = [
        b'<?xml version="1.0" encoding="%s"?>' % name for name in (b"latin1", b"zlib", b"utf-16")
    ]
    return Target(mutated([_XML, *(head + _XML for head in heads)], tokens), read)


def images(folder: Path) -> Target:
    """Images of all usual formats with changed bytes."""
    originals = []
    pixels = Image.fromarray(np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3))
    for kind in ("PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "PPM", "JPEG2000"):
        file = io.BytesIO()
        pixels.save(file, kind)
        originals.append(file.getvalue())

    def read(content: bytes, folder: Path) -> Any:
        (folder / "a.img").write_bytes(content)
        image_size(folder / "a.img")
        return read_image(folder / "a.img", "BGR")

    return Target(mutated(originals, [b"IHDR", b"IDAT", b"\xff\xd8", b"VP8X", b"II*\0"]), read)


def traces(folder: Path) -> Target:
    """Both files of a trace with changed bytes and odd values."""
    with watch() as trace:
        probe("x.y", a=torch.ones(2), b=[1, {"c": torch.zeros(1)}], d="text")
    trace.save(folder / "t")
    good = [(folder / f"t.{kind}").read_bytes() for kind in ("json", "safetensors")]

    def read(content: bytes, folder: Path) -> Any:
        is_json = content.lstrip()[:1] in (b"{", b"[")
        for kind, own in zip(("json", "safetensors"), good, strict=True):
            changed = content if is_json == (kind == "json") else own
            (folder / f"t.{kind}").write_bytes(changed)
        return Trace.load(folder / "t")

    value = st.one_of(_odd(), st.fixed_dictionaries({"$tensor": _odd()}),
                      st.fixed_dictionaries({"$thinned": _odd(), "shape": _odd(), "stats": _odd()}),
                      st.fixed_dictionaries({"$dict": _odd()}))  # fmt: skip
    event = st.fixed_dictionaries({}, optional={"name": _odd(), "values": st.one_of(
        _odd(), st.dictionaries(st.text(max_size=2), value, max_size=2))})  # fmt: skip
    whole = st.fixed_dictionaries(
        {"format": st.just("lucidet-trace"), "version": st.just(1)},
        optional={"events": st.one_of(_odd(), st.lists(event, max_size=2)), "context": _odd()},
    )
    tokens = [b"$tensor", b"$thinned", b"$dict", b"null", b"[[", b'"']
    return Target(
        st.one_of(mutated(good, tokens), whole.map(lambda c: json.dumps(c).encode())), read
    )


TARGETS: dict[str, Callable[[Path], Target]] = {
    "checkpoints": checkpoints,
    "pickles": pickles,
    "configs": configs,
    "coco": coco,
    "voc": voc,
    "images": images,
    "traces": traces,
}
