"""Hostile and broken files are refused with a reason, and nothing in them runs."""

from __future__ import annotations

import os
import pickle
import re
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from lucidet.checkpoint import load_weights_file
from lucidet.checkpoint.unpickle import load_pickle

#: reads back, in memory, the bytes that the same process has written
OWN_BYTES = ("data/shared_list.py",)
PACKAGE = Path(__file__).resolve().parents[2] / "lucidet"


class Calls:
    """An object whose pickle calls something when it is read."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.what = (function, args)

    def __reduce__(self) -> Any:
        return self.what


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


# --------------------------------------------------------------------------- plain pickles, good


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(3, dtype=">i4"),
        np.zeros((0, 4), np.float16),
        np.array(True),
    ],
    ids=["c", "fortran", "big-endian", "empty", "scalar-array"],
)
def test_arrays(array: np.ndarray, protocol: int) -> None:
    content = {"model": OrderedDict(a=array), "n": [1, 2.5, None, "x"], "s": np.float32(1.5)}
    Path("a.pkl").write_bytes(pickle.dumps(content, protocol))
    read = load_pickle(Path("a.pkl"))
    assert read["n"] == [1, 2.5, None, "x"]
    assert read["s"] == 1.5
    np.testing.assert_array_equal(read["model"]["a"], array)
    assert read["model"]["a"].dtype == array.dtype.newbyteorder("=")


def test_pickle_of_python_2() -> None:
    """As Python 2 wrote it: the array's content is a string, a byte for each character."""
    raw = np.array([1.0, -2.0], "<f4").tobytes()
    program = (
        b"\x80\x02}U\x07conv1_wcnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n"
        b"K\x00\x85U\x01b\x87R(K\x01K\x02\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R"
        b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U"
        + bytes([len(raw)])
        + raw
        + b"tbs."
    )
    Path("a.pkl").write_bytes(program)
    assert load_weights_file("a.pkl")["model"]["conv1_w"].tolist() == [1.0, -2.0]


# ---------------------------------------------------------------------------- plain pickles, bad


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    ("hostile", "named"),
    [
        (Calls(os.system, "touch hacked"), "system"),
        (Calls(eval, "open('hacked', 'w')"), "eval"),
        (Calls(np.load, "x"), "load"),
        (Calls(getattr, np, "load"), "getattr"),
        ({"model": {"a": np.zeros(2), "b": Calls(exec, "open('hacked', 'w')")}}, "exec"),
        ({"model": torch.nn.Linear(1, 1)}, "torch"),
        ({"model": {"a": np.array([{}], dtype=object)}}, "dtype"),
    ],
    ids=["os.system", "eval", "numpy.load", "getattr", "inside", "module", "objects"],
)
def test_hostile_pickle(hostile: object, named: str, protocol: int) -> None:
    if protocol == 0 and named == "torch":
        pytest.skip("a module has no pickle of protocol 0")
    try:
        Path("a.pkl").write_bytes(pickle.dumps(hostile, protocol))
    except (AttributeError, TypeError, pickle.PicklingError) as error:
        pytest.skip(f"cannot be pickled: {error}")
    with pytest.raises(ValueError, match=r"a\.pkl") as caught:
        load_weights_file("a.pkl")
    if protocol:
        assert named in str(caught.value)
        assert "refused" in str(caught.value)
    assert not Path("hacked").exists()


def _array_program(shape: bytes, raw: bytes) -> bytes:
    return (
        b"\x80\x03}X\x01\x00\x00\x00acnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n"
        b"K\x00\x85C\x01b\x87R(K\x01" + shape + b"cnumpy\ndtype\nX\x02\x00\x00\x00f4K\x00K\x01\x87R"
        b"\x89C" + bytes([len(raw)]) + raw + b"tbs."
    )


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (_array_program(b"J\xff\xff\xff\x7f\x85", b"\0" * 8), "needs 8589934588 bytes, has 8"),
        (_array_program(b"J\xff\xff\xff\xff\x85", b"\0" * 8), "shape"),
        (_array_program(b"K\x01\x85", b"\0" * 8), "needs 4 bytes, has 8"),
        (b"\x80\x02r\xff\xff\xff\x7f.", "memo entry|truncated"),
        (b"\x80\x02Nr\xff\xff\xff\x7f.", "memo entry"),
        (b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f.", "truncated|damaged|no checkpoint"),
        (b"\x80\x02X\xff\xff\xff\x7fab.", "truncated or damaged"),
        (b"\x80\x02}(U\x01aU\x01bu", "truncated or damaged"),
        (b"\x80\x02Pmodule\n.", "outside"),
    ],
    ids=["huge", "negative", "too-long", "memo-empty", "memo", "frame", "string", "end", "persid"],
)
def test_misuse_of_the_stand_ins(program: bytes, reason: str) -> None:
    Path("a.pkl").write_bytes(program)
    with pytest.raises(ValueError, match=reason):
        load_weights_file("a.pkl")


def test_truncated_pickle() -> None:
    whole = pickle.dumps({"model": {"a": np.zeros(1000)}}, 2)
    Path("a.pkl").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"a\.pkl \(\d+ bytes\): truncated or damaged"):
        load_weights_file("a.pkl")


# ---------------------------------------------------------------------------------- archives


def test_zip_bomb() -> None:
    torch.save({"a": torch.zeros(4)}, "good.pth")
    with (
        zipfile.ZipFile("good.pth") as good,
        zipfile.ZipFile("bomb.pth", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for entry in good.infolist():
            content = good.read(entry)
            bomb.writestr(entry.filename, bytes(1 << 26) if "/data/" in entry.filename else content)
    assert Path("bomb.pth").stat().st_size < 1 << 20
    with pytest.raises(ValueError, match=r"unpacks from \d+ to \d+ bytes.*zip bomb"):
        load_weights_file("bomb.pth")


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
def test_program_in_an_archive() -> None:
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), "a.pth")
    with pytest.raises(ValueError, match=r"TorchScript program.*refused"):
        load_weights_file("a.pth")


def test_another_archive() -> None:
    with zipfile.ZipFile("a.pth", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(ValueError, match=r"a zip archive, but not one of torch\.save.*readme"):
        load_weights_file("a.pth")


def test_hostile_archive() -> None:
    torch.save({"model": Calls(os.system, "touch hacked")}, "a.pth")
    with pytest.raises(ValueError, match=r"could run code"):
        load_weights_file("a.pth")
    torch.save(Calls(os.system, "touch hacked"), "b.pth", _use_new_zipfile_serialization=False)
    with pytest.raises(ValueError, match=r"could run code|no checkpoint"):
        load_weights_file("b.pth")
    assert not Path("hacked").exists()


def test_old_torch_file() -> None:
    torch.save({"a": torch.ones(2)}, "a.pth", _use_new_zipfile_serialization=False)
    assert load_weights_file("a.pth")["model"]["a"].tolist() == [1.0, 1.0]


def test_shapes_that_disagree_in_an_archive() -> None:
    torch.save({"a": torch.zeros(4, 4)}, "good.pth")
    with zipfile.ZipFile("good.pth") as good, zipfile.ZipFile("bad.pth", "w") as bad:
        for entry in good.infolist():
            content = good.read(entry)
            bad.writestr(entry.filename, content[:8] if "/data/" in entry.filename else content)
    with pytest.raises(ValueError, match=r"bad\.pth.*damaged"):
        load_weights_file("bad.pth")


# ----------------------------------------------------------------------------------- safetensors


def test_shapes_that_disagree_in_safetensors() -> None:
    save_file({"a": torch.zeros(4)}, "a.safetensors")
    data = Path("a.safetensors").read_bytes()
    Path("a.safetensors").write_bytes(data.replace(b'"shape":[4]', b'"shape":[9]'))
    with pytest.raises(ValueError, match=r"a\.safetensors is damaged"):
        load_weights_file("a.safetensors")


def test_header_longer_than_the_file() -> None:
    Path("a.safetensors").write_bytes(struct.pack("<Q", 1 << 60) + b'{"a":1}' + b" " * 40)
    with pytest.raises(ValueError, match=r"a\.safetensors.*no checkpoint"):
        load_weights_file("a.safetensors")


# ------------------------------------------------------------------------------------ mislabelled


@pytest.mark.parametrize("suffix", [".pth", ".pkl", ".safetensors", ".bin", ""])
def test_the_content_counts_not_the_name(suffix: str) -> None:
    weights = {"a": torch.ones(2)}
    path = Path(f"x{suffix}")
    torch.save(weights, path)
    assert load_weights_file(path)["model"]["a"].tolist() == [1.0, 1.0]
    save_file(weights, path)
    assert load_weights_file(path)["model"]["a"].tolist() == [1.0, 1.0]
    path.write_bytes(pickle.dumps({"model": {"a": np.ones(2)}, "__author__": "x"}, 2))
    assert load_weights_file(path)["model"]["a"].tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"<!DOCTYPE html><html>404</html>", "web page"),
        (b"\xff\xd8\xff\xe0 JFIF", "JPEG"),
        (b"\x1f\x8b\x08 archive", "gzip"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS"),
    ],
)
def test_what_it_is_instead(content: bytes, what: str) -> None:
    Path("a.pth").write_bytes(content)
    with pytest.raises(ValueError, match=rf"a\.pth is no checkpoint: .*{what}"):
        load_weights_file("a.pth")


# ----------------------------------------------------------------------------------- the package


def test_no_unsafe_reading_in_the_package() -> None:
    """No bare pickle.load(s), no torch.load without weights_only=True, no numpy.load of objects."""
    forbidden = re.compile(
        r"pickle\.loads?\(|weights_only\s*=\s*False|allow_pickle\s*=\s*True|"
        r"torch\.load\((?![^)]*weights_only=True)|joblib\.load|\bdill\b|"
        r"(?<!safe_)yaml\.(unsafe_)?load\((?!.*Safe)"
    )
    found = [
        f"{path.relative_to(PACKAGE)}: {match[0]}"
        for path in PACKAGE.rglob("*.py")
        for match in forbidden.finditer(path.read_text())
        if path.relative_to(PACKAGE).as_posix() not in OWN_BYTES
    ]
    assert found == []
