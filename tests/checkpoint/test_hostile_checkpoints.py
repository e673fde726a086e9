"""Files that are small and would grow without bound, or read beyond their end, are refused."""

from __future__ import annotations

import io
import os
import pickle
import struct
import time
import zipfile
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lucidet.checkpoint import load_weights_file
from lucidet.checkpoint.archive import open_archive
from lucidet.checkpoint.seal import DamagedFileError

pytestmark = pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _refused(path: str, match: str) -> None:
    """The file is refused within seconds; nobody is told to load it in a way that runs code."""
    start = time.process_time()
    with pytest.raises(ValueError, match=match) as caught:
        load_weights_file(path)
    assert time.process_time() - start < 5
    assert "weights_only" not in str(caught.value)


def _billion(levels: int = 9, width: int = 10, end: Any = 0, kind: type = list) -> Any:
    value: Any = kind([end])
    for _ in range(levels):
        value = kind([value] * width)
    return value


# ------------------------------------------------------------------------------- plain pickles


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ({"model": {"a": np.ones(2)}, "x": _billion()}, "more than 1000000 values"),
        ({"model": {"a": np.ones(2)}, "x": _billion(kind=tuple)}, "more than 1000000 values"),
        ({"model": {"a": np.ones(2)}, "x": _billion(60, 1)}, "nested too deeply"),
        ({"model": {"a": np.ones(2)}, "x": {(1, 2): 3}}, ""),
    ],
    ids=["lists", "tuples", "deep", "usual"],
)
def test_lists_that_share_lists(content: Any, match: str) -> None:
    Path("a.pkl").write_bytes(pickle.dumps(content, 2))
    if match:
        _refused("a.pkl", match)
    else:
        assert load_weights_file("a.pkl")["model"]["a"].tolist() == [1.0, 1.0]


def test_a_list_that_holds_itself() -> None:
    Path("a.pkl").write_bytes(b"\x80\x02]q\x00h\x00a.")
    _refused("a.pkl", "nested too deeply")


@pytest.mark.parametrize(
    "program",
    [
        b"}@K\x01s.",
        b"}(@K\x01u.",
        b"(@K\x01d.",
        b"\x8f(@\x90.",
        b"(@\x91.",
        b"cbuiltins\nset\n]@a\x85R.",
        b"ccollections\nOrderedDict\n]@K\x01\x86a\x85R.",
    ],
    ids=["item", "items", "dict", "set", "frozenset", "made-set", "made-dict"],
)
def test_keys_whose_hash_takes_for_ever(program: bytes) -> None:
    """Tuples of two names of one tuple, 60 deep: a hash visits 2^60 of them."""
    doubled = b"".join(b"q%c0h%ch%c\x86" % (i, i, i) for i in range(60, 120))
    key = b"K\x00\x85" + doubled + b"q\xff0"
    Path("a.pkl").write_bytes(b"\x80\x02" + key + program.replace(b"@", b"h\xff"))
    _refused("a.pkl", "refused: a key that is a tuple")


def test_one_text_encoded_a_thousand_times() -> None:
    text = b"X" + struct.pack("<I", 1 << 20) + b"a" * (1 << 20) + b"q\x00"
    once = b"c_codecs\nencode\nh\x00\x85R"
    Path("a.pkl").write_bytes(b"\x80\x02" + text + b"](" + once * 1000 + b"e.")
    _refused("a.pkl", "makes far more bytes than it has")


def test_a_pickle_of_too_many_steps() -> None:
    Path("a.pkl").write_bytes(b"\x80\x02" + b"N0" * 1_500_000 + b"N.")
    with pytest.raises(ValueError, match="takes more than 2000000 steps"):
        load_weights_file("a.pkl")


@pytest.mark.parametrize(
    "program",
    [
        b"cnumpy\ndtype\n}(X\x04\x00\x00\x00nameX\x01\x00\x00\x00aub.",  # a class
        b"c_codecs\nencode\n}(X\x04\x00\x00\x00nameX\x01\x00\x00\x00aub.",  # a function
        b"](K\x01K\x02u.",  # items into a list
    ],
)
def test_nothing_of_lucidet_can_be_changed(program: bytes) -> None:
    Path("a.pkl").write_bytes(b"\x80\x02" + program)
    _refused("a.pkl", "refused|damaged")


# ------------------------------------------------------------------------------ files of torch


def _with_program(program: bytes, **entries: bytes) -> None:
    """Write an archive of torch.save whose data.pkl is `program`."""
    with zipfile.ZipFile("a.pth", "w") as archive:
        archive.writestr("a/data.pkl", program)
        archive.writestr("a/version", b"3\n")
        for name, content in entries.items():
            archive.writestr(f"a/data/{name.lstrip('_')}", content)


def _tensor_program(
    size: tuple[int, ...], stride: tuple[int, ...], stored: int, offset: int = 0
) -> bytes:
    class Pid(pickle.Pickler):
        def persistent_id(self, obj: Any) -> Any:
            if isinstance(obj, torch.storage.TypedStorage):
                return ("storage", torch.FloatStorage, "0", "cpu", stored)
            return None

    class Tensor:
        def __reduce__(self) -> Any:
            storage = torch.FloatStorage(1)
            args = (storage, offset, size, stride, False, OrderedDict())
            return torch._utils._rebuild_tensor_v2, args

    file = io.BytesIO()
    Pid(file, protocol=2).dump({"a": Tensor()})
    return file.getvalue()


@pytest.mark.parametrize(
    ("size", "stride", "stored", "match"),
    [
        ((1000, 1000, 1000, 1000), (0, 0, 0, 0), 4, "share places"),
        ((3, 3), (1, 1), 4, "share places"),
        ((2, 2), (2, 1), 4, ""),
        ((2, 2), (1, 2), 4, ""),  # transposed
        ((0, 7), (0, 0), 4, ""),
        ((1, 4), (0, 1), 4, ""),  # one row: its stride means nothing
        ((5,), (1,), 4, "needs more than its 16 bytes"),
        ((1 << 40,), (1,), 4, "needs more"),
        ((-1,), (1,), 4, "size"),
        ((2, 2), (2,), 4, "size"),
        ((2,), (1,), 1 << 40, "should have 4398046511104 bytes, the file has 16"),
        ((2,), (1,), 2, "should have 8 bytes"),
    ],
)
def test_places_and_sizes_of_tensors(
    size: tuple[int, ...], stride: tuple[int, ...], stored: int, match: str
) -> None:
    _with_program(_tensor_program(size, stride, stored), _0=bytes(16))
    if match:
        _refused("a.pth", match)
    else:
        assert load_weights_file("a.pth")["model"]["a"].shape == size


def test_many_tensors_of_the_same_bytes() -> None:
    whole = torch.zeros(1 << 20)
    torch.save({f"a{i}": whole[i:] for i in range(200)}, "a.pth")
    _refused("a.pth", "they overlap")
    torch.save({"a": whole, "tied": whole}, "b.pth")
    assert len(load_weights_file("b.pth")["model"]) == 2


@pytest.mark.parametrize(
    "program",
    [
        b"ctorch\nFloatTensor\nJ\xff\xff\xff\x7f\x85R.",
        b"cbuiltins\nbytearray\n\x8a\x05\x00\x00\x00\x00\x10\x85R.",
        b"ctorch._utils\n_rebuild_meta_tensor_no_storage\nN\x85R.",
        b"ctorch._utils\n_rebuild_sparse_tensor\nN\x85R.",
    ],
    ids=["tensor-class", "bytearray", "meta", "sparse"],
)
@pytest.mark.parametrize("old", [False, True], ids=["archive", "old"])
def test_what_torch_would_make_without_bytes(program: bytes, old: bool) -> None:
    program = b"\x80\x02" + program
    if old:
        heads = [119547037146038801333356, 1001, {"little_endian": True}]
        Path("a.pth").write_bytes(b"".join(pickle.dumps(h, 2) for h in heads) + program)
    else:
        _with_program(program)
    _refused("a.pth", "refused")


def test_billion_lists_and_keys_in_a_checkpoint() -> None:
    torch.save({"model": {"a": torch.ones(1)}, "optimizer": _billion()}, "a.pth")
    _refused("a.pth", "more than 1000000 values")
    torch.save({"model": {"a": torch.ones(1)}, "s": Counter({3: 1}), "k": {(1, "a"): 2}}, "b.pth")
    assert load_weights_file("b.pth")["s"] == Counter({3: 1})


def test_an_old_file_whose_storage_is_larger_than_it() -> None:
    torch.save({"a": torch.ones(2)}, "a.pth", _use_new_zipfile_serialization=False)
    content = Path("a.pth").read_bytes()
    # the number of elements stands behind the location
    at = content.index(b"cpuq") + 5
    assert content[at : at + 2] == b"K\x02"
    Path("a.pth").write_bytes(content[:at] + b"J\xff\xff\xff\x7f" + content[at + 2 :])
    _refused("a.pth", "truncated or damaged.*its tensors have 8589934588 bytes")


# ---------------------------------------------------------------------------------- archives


def _entry_offsets(content: bytes, signature: bytes) -> list[int]:
    found, at = [], content.find(signature)
    while at >= 0:
        found.append(at)
        at = content.find(signature, at + 1)
    return found


def _saved() -> bytearray:
    with zipfile.ZipFile("good.pth", "w") as archive:
        archive.writestr("a/data.pkl", _tensor_program((4,), (1,), 4))
        archive.writestr("a/version", b"3\n")
        archive.writestr("a/data/0", bytes(16))
    return bytearray(Path("good.pth").read_bytes())


def test_broken_extra_fields_do_not_end_the_check() -> None:
    """Python's reader stops at them, torch's does not: the compressed bomb behind them is seen."""
    with zipfile.ZipFile("a.pth", "w", zipfile.ZIP_DEFLATED) as bomb:
        info = zipfile.ZipInfo("a/data/0")
        info.compress_type = zipfile.ZIP_DEFLATED
        info.extra = b"\x01\x00\x04\x00abcd"
        bomb.writestr("a/data.pkl", b"\x80\x02N.")
        bomb.writestr(info, bytes(1 << 24))
    content = bytearray(Path("a.pth").read_bytes())
    at = content.rindex(b"\x01\x00\x04\x00abcd")
    content[at + 2 : at + 4] = b"\xff\xff"  # longer than the field
    Path("a.pth").write_bytes(content)
    _refused("a.pth", "damaged|refused")


def test_compressed_entries_are_refused() -> None:
    with zipfile.ZipFile("a.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", b"\x80\x02}." + b" " * 100)
    _refused("a.pth", "compressed, which torch.save never does")


def test_entries_of_one_name_and_entries_that_overlap() -> None:
    with zipfile.ZipFile("a.pth", "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02}.")
        archive.writestr("a/data/0", b"1")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a/data/0", b"2")
    _refused("a.pth", "have the same name")
    content = _saved()
    first, *_, last = _entry_offsets(bytes(content), b"PK\x01\x02")
    content[last + 42 : last + 46] = content[first + 42 : first + 46]  # where the entry begins
    Path("b.pth").write_bytes(content)
    with pytest.raises(DamagedFileError, match="overlap"):
        open_archive(Path("b.pth"))


def test_entries_beyond_the_end_and_endless_lists_of_entries() -> None:
    content = _saved()
    last = _entry_offsets(bytes(content), b"PK\x01\x02")[-1]
    content[last + 20 : last + 28] = struct.pack("<II", 1 << 20, 1 << 20)
    Path("a.pth").write_bytes(content)
    with pytest.raises(DamagedFileError, match="reaches too far"):
        open_archive(Path("a.pth"))
    content = _saved()
    end = content.rindex(b"PK\x05\x06")
    content[end + 12 : end + 16] = struct.pack("<I", 1 << 30)
    Path("b.pth").write_bytes(content)
    with pytest.raises(DamagedFileError, match="a list of entries of 1073741824 bytes"):
        open_archive(Path("b.pth"))


# ------------------------------------------------------------------------------ what is no file


def test_pipes_devices_and_folders() -> None:
    os.mkfifo("pipe.pth")
    Path("folder.pth").mkdir()
    _refused("pipe.pth", "is a pipe; only regular files")
    _refused("/dev/zero", "is a device; only regular files")
    for path in ("folder.pth", "x" * 5000, "a\0b"):
        with pytest.raises(FileNotFoundError, match="weights file"):
            load_weights_file(path)
