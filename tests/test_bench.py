"""`lucidet bench`: what it measures, says and writes; the speed itself is for the benchmark."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lucidet.bench.measure import Job, Outcome, Sides, alternate, run_job
from lucidet.bench.report import markdown, update_readme
from lucidet.bench.run import JOBS, run, select
from lucidet.cli.main import main


def job(**changes: Any) -> Job:
    sides = Sides(lambda: None, lambda: None, lambda: "equal")
    options: dict[str, Any] = {"goal": 2.0, "make": lambda quick: sides} | changes
    return Job("a-job", "a job", "another", **options)


@pytest.mark.parametrize(
    ("changes", "ours", "theirs", "ratio", "reached"),
    [
        ({}, [1.0, 1.0, 9.0], [2.0, 2.0, 2.0], 2.0, True),  # medians: one slow round is no matter
        ({}, [1.0], [1.9], 1.9, False),
        ({"lower_is_better": True, "goal": 0.85}, [80.0], [100.0], 0.8, True),
        ({"lower_is_better": True, "goal": 0.85}, [90.0], [100.0], 0.9, False),
    ],
)
def test_ratio(
    changes: dict[str, Any], ours: list[float], theirs: list[float], ratio: float, reached: bool
) -> None:
    outcome = Outcome(job(**changes), ours, theirs)
    assert outcome.ratio == pytest.approx(ratio)
    assert outcome.reached is reached


def test_calls_take_turns() -> None:
    order: list[str] = []
    alternate([lambda: order.append("a"), lambda: order.append("b")], 0, min_rounds=2)
    assert "".join(order) == "ab" + "abab"  # once each untimed


def test_results_are_compared_before_anything_is_timed() -> None:
    called = []

    def differ() -> str:
        raise AssertionError("3 detections, expected 4")

    sides = Sides(lambda: called.append(1), lambda: called.append(2), differ)
    with pytest.raises(AssertionError, match="expected 4"):
        run_job(job(make=lambda quick: sides), quick=True, seconds=0)
    assert called == []


def test_values_are_not_timed() -> None:
    sides = Sides(lambda: 3, lambda: 4, lambda: "", values=True)
    outcome = run_job(job(make=lambda quick: sides, unit="MB"), quick=True, seconds=0)
    assert (outcome.ours, outcome.theirs) == ([3.0], [4.0])


def test_table_says_what_was_not_reached() -> None:
    table = markdown([Outcome(job(), [1.0], [1.5], [0.5])])
    assert "| a job | another | 1 s | 1.5 s | 1.50x (not reached) | 1.50x | >= 2x |" in table
    assert "2.00x their time" in table


def test_readme_keeps_what_others_wrote(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text("# Benchmarks\n\n## Probes\n\ntext\n")
    update_readme(path, "first\n")
    update_readme(path, "second\n")
    text = path.read_text()
    assert "## Probes\n\ntext" in text
    assert "second" in text
    assert "first" not in text
    update_readme(tmp_path / "new" / "README.md", "table\n")
    assert "table" in (tmp_path / "new" / "README.md").read_text()


def test_select() -> None:
    assert select([]) == JOBS
    assert [j.name for j in select(["roi-align"])] == ["roi-align", "roi-align-backward"]
    with pytest.raises(ValueError, match="no job is called 'roialign'; they are faster-rcnn, "):
        select(["roialign"])


def test_names_are_unique() -> None:
    assert len({j.name for j in JOBS}) == len(JOBS)


QUICK = ["roi-align", "postprocessing", "ap", "loading"]


def test_small_jobs_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["roi-align", "ap", "loading"], quick=True, seconds=0, out=tmp_path / "r.json") == 0
    found = json.loads((tmp_path / "r.json").read_text())
    assert [j["job"] for j in found["jobs"]] == ["roi-align", "roi-align-backward", "ap", "loading"]
    assert found["failures"] == {}
    assert "torchvision" in found["machine"]["versions"]
    assert "4 of 4 jobs ran, with the same results" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("name", [j.name for j in JOBS if j.name not in QUICK])
def test_detectors_agree(name: str) -> None:
    assert run([name], quick=True, seconds=0) == 0


def test_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--list", "--jobs", "losses"]) == 0
    assert "losses-atss" in capsys.readouterr().out
    assert main(["bench", "--jobs", "nothing"]) == 2
    assert "no job is called 'nothing'" in capsys.readouterr().err
    assert main(["bench", "--seconds", "-1"]) == 2


@pytest.mark.slow
def test_scaling(tmp_path: Path) -> None:
    assert main(["bench", "--quick", "--scaling", str(tmp_path / "new")]) == 0
    points = json.loads((tmp_path / "new" / "scaling.json").read_text())
    assert {p["curve"] for p in points} == {"FasterRCNN", "RetinaNet", "ATSS", "FCOS"}
    assert (tmp_path / "new" / "scaling.png").stat().st_size > 10_000


def test_quick_gives_no_verdict_and_ends(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [job(goal=1e9), job(goal=1e9)]
    monkeypatch.setattr("lucidet.bench.run.JOBS", jobs)
    assert run(quick=True) == 0
    text = capsys.readouterr().out
    assert "[1/2] a-job" in text
    assert "2 of 2 jobs ran" in text
    assert "goal" not in text
    monkeypatch.setattr("lucidet.bench.run.QUICK_SECONDS", -1.0)
    assert run(quick=True) == 0
    assert "not run, as --quick ends after 30 seconds: a-job, a-job" in capsys.readouterr().out
