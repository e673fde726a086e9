"""Damaged, missing and misleading checkpoints: what a training goes on from."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from lucidet.checkpoint import Checkpointer, DamagedFileError, load_weights_file
from lucidet.checkpoint.seal import check_seal
from lucidet.checkpoint.writing import atomic_file, remove_leftovers, save_torch


def three_checkpoints(folder: Path) -> Checkpointer:
    """Save iterations 9, 19 and 29 of a tiny model whose bias is the iteration."""
    model = nn.Linear(2, 2)
    keeper = Checkpointer(model, folder)
    for iteration in (9, 19, 29):
        with torch.no_grad():
            model.bias.fill_(iteration)
        keeper.save(f"model_{iteration:07d}", iteration=iteration)
    return keeper


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def zeroed(content: bytes) -> bytes:
    return bytes(len(content))


def flipped(share: float) -> Callable[[bytes], bytes]:
    """Flip one bit at a share of the file's length."""

    def flip(content: bytes) -> bytes:
        at = min(int(share * len(content)), len(content) - 1)
        return content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :]

    return flip


DAMAGE = {
    "truncated": cut,
    "empty": lambda content: b"",
    "zeroed": zeroed,
    "last byte missing": lambda content: content[:-1],
    "something appended": lambda content: content + b"x",
    **{f"bit flipped at {share}": flipped(share) for share in (0, 0.01, 0.2, 0.5, 0.9, 0.97, 1)},
}


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, logger="lucidet.checkpoint")
    return caplog


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_newest(tmp_path: Path, log: pytest.LogCaptureFixture, damage: str) -> None:
    keeper = three_checkpoints(tmp_path)
    newest = tmp_path / "model_0000029.pth"
    newest.write_bytes(DAMAGE[damage](newest.read_bytes()))
    assert keeper.resume_or_load("")["iteration"] == 19
    assert keeper.model.bias.tolist() == [19, 19]
    warning = next(r.getMessage() for r in log.records if r.levelname == "WARNING")
    assert "model_0000029.pth" in warning
    assert "model_0000019.pth" in warning


def test_every_byte_is_under_the_checksum(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    save_torch({"model": {"w": torch.arange(3.0)}, "iteration": 3}, path)
    content = path.read_bytes()
    check_seal(path)
    for at in range(0, len(content), 7):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with pytest.raises(DamagedFileError, match=r"a\.pth.*damaged"):
            check_seal(path)


def test_files_without_our_checksum_are_checked_entry_by_entry(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save({"model": {"w": torch.zeros(1000)}}, path)
    assert load_weights_file(path)["model"]["w"].shape == (1000,)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1  # within the tensor
    path.write_bytes(content)
    with pytest.raises(DamagedFileError, match=r"checksum of its entry .*data/0"):
        load_weights_file(path)


def test_missing_newest_and_several_damaged(tmp_path: Path, log: pytest.LogCaptureFixture) -> None:
    keeper = three_checkpoints(tmp_path)
    (tmp_path / "model_0000029.pth").unlink()
    (tmp_path / "model_0000019.pth").write_bytes(b"PK\x03\x04")
    assert keeper.resume_or_load("")["iteration"] == 9
    for name in ("model_0000029.pth", "model_0000019.pth", "model_0000009.pth"):
        assert name in log.text


def test_all_damaged_is_no_silent_start(tmp_path: Path) -> None:
    keeper = three_checkpoints(tmp_path)
    for path in tmp_path.glob("*.pth"):
        path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"none is readable: model_0000029\.pth"):
        keeper.resume_or_load("")
    (tmp_path / "last_checkpoint").unlink()
    assert keeper.has_checkpoint()
    with pytest.raises(ValueError, match="none is readable"):
        keeper.resume_or_load("")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "is missing"),
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"\x00\xff\x80garbage", "holds no file name"),
        (b"a" * 3000, "holds no file name"),
        (b"../other/model_0000099.pth", "outside of the folder: it is refused"),
        (b"/etc/passwd", "outside of the folder: it is refused"),
        (b"..", "outside of the folder: it is refused"),
        (b"sub/model_0000029.pth", "outside of the folder: it is refused"),
        (b"model_0000077.pth", "model_0000077.pth"),  # a name, but no such file
    ],
)
def test_last_checkpoint_that_does_not_help(
    tmp_path: Path, log: pytest.LogCaptureFixture, content: bytes | None, said: str
) -> None:
    keeper = three_checkpoints(tmp_path / "run")
    note = tmp_path / "run" / "last_checkpoint"
    note.unlink()
    if content is not None:
        note.write_bytes(content)
    assert keeper.has_checkpoint()
    assert keeper.resume_or_load("")["iteration"] == 29
    assert said in log.text


def test_older_checkpoint_that_the_user_named_is_used(tmp_path: Path) -> None:
    keeper = three_checkpoints(tmp_path)
    keeper.tag_last_checkpoint("model_0000019.pth")
    assert keeper.resume_or_load("")["iteration"] == 19
    (tmp_path / "model_0000019.pth").write_bytes(b"")  # the one before it, not the one after
    assert keeper.resume_or_load("")["iteration"] == 9


def test_best_model_is_the_last_resort_and_other_files_are_none(tmp_path: Path) -> None:
    keeper = three_checkpoints(tmp_path)
    keeper.save("model_best", iteration=39)
    save_torch({"batch": [1]}, tmp_path / "nonfinite_batch_iter3.pth")
    save_torch({"model": keeper.model.state_dict()}, tmp_path / "R-50_final.pth")  # only weights
    (tmp_path / "last_checkpoint").unlink()
    assert keeper.resume_or_load("")["iteration"] == 29
    for path in tmp_path.glob("model_00*.pth"):
        path.unlink()
    assert keeper.resume_or_load("")["iteration"] == 39
    (tmp_path / "model_best.pth").unlink()
    assert not keeper.has_checkpoint()


def test_leftover_temporary_files_are_removed(tmp_path: Path) -> None:
    # a process number may belong to another process by now: the parent's, which runs
    leftovers = [f".model_0000009.pth.{os.getppid()}.tmp", f".last_checkpoint.{os.getpid()}.tmp"]
    for name in leftovers:
        (tmp_path / name).write_bytes(b"half")
    (tmp_path / ".notes.tmp").write_bytes(b"the user's")
    with atomic_file(tmp_path / "model_0000019.pth") as file:
        file.write(b"whole")
        assert sorted(remove_leftovers(tmp_path)) == sorted(leftovers)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"model_0000019.pth", ".notes.tmp"}
    assert remove_leftovers(tmp_path / "none") == []
