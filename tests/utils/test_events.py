from __future__ import annotations

import json
import math

import pytest
import torch

from lucidet.utils.events import (
    CommonMetricPrinter,
    EventStorage,
    HistoryBuffer,
    JSONWriter,
    ProgressWriter,
    TensorboardXWriter,
    get_event_storage,
    has_event_storage,
)


def test_history_of_nothing():
    empty = HistoryBuffer()
    assert math.isnan(empty.median(20))
    assert math.isnan(empty.avg(20))
    assert math.isnan(empty.global_avg())
    assert empty.values() == []


def test_history_forgets_old_values_but_not_their_mean():
    history = HistoryBuffer(max_length=2)
    for value in (9.0, 1.0, 2.0):
        history.update(value)
    assert history.values() == [(1.0, 1), (2.0, 2)]
    assert history.global_avg() == 4.0
    assert history.median(10) == 1.5


def test_storage_is_a_stack():
    assert not has_event_storage()
    with pytest.raises(RuntimeError, match="with EventStorage"):
        get_event_storage()
    with EventStorage() as outer:
        with EventStorage(7) as inner:
            assert get_event_storage() is inner
            assert inner.iter == inner.iteration == 7
        assert get_event_storage() is outer


def test_scalars_scopes_and_smoothing():
    with EventStorage() as storage:
        for value in (1.0, 5.0, 2.0):
            with storage.name_scope("rpn"), storage.name_scope("inner"):
                storage.put_scalar("pos", value)
            storage.put_scalars(lr=torch.tensor(value), smoothing_hint=False)
            storage.step()
    assert storage.iter == 3
    assert storage.latest() == {"inner/pos": (2.0, 2), "lr": (2.0, 2)}
    assert storage.latest_with_smoothing_hint(20) == {"inner/pos": (2.0, 2), "lr": (2.0, 2)}
    assert storage.latest_with_smoothing_hint(2)["inner/pos"] == (3.5, 2)
    assert storage.history("lr").values() == [(1.0, 0), (5.0, 1), (2.0, 2)]
    assert storage.smoothing_hints() == {"inner/pos": True, "lr": False}
    with pytest.raises(ValueError, match=r"'lr' was put with smoothing_hint=False"):
        storage.put_scalar("lr", 1.0)
    with pytest.raises(KeyError, match="no scalar 'loss'"):
        storage.history("loss")


@pytest.mark.parametrize(("every", "expected"), [(1, 20), (10, 2), (50, 1)])
def test_count_samples(every, expected):
    storage = EventStorage()
    for i in range(100):
        if i % every == 0:
            storage.put_scalar("x", i)
        storage.step()
    assert storage.count_samples("x", 20) == expected


def test_json_lines(tmp_path):
    path = tmp_path / "out" / "metrics.json"
    writer = JSONWriter(path, window_size=2)
    with EventStorage(10) as storage:
        writer.write()  # nothing yet, nothing written
        for value in (1.0, 3.0, 5.0):
            storage.put_scalar("loss", value)
            storage.step()
        storage.put_scalar("bbox/AP", 37.5, smoothing_hint=False)
        writer.write()
        writer.write()  # nothing new
    writer.close()
    lines = path.read_text().splitlines()
    assert lines == ['{"iteration": 12, "loss": 4.0}', '{"bbox/AP": 37.5, "iteration": 13}']
    resumed = JSONWriter(path)
    with EventStorage(14) as storage:
        storage.put_scalar("loss", 0.5)
        resumed.write()
    resumed.close()
    assert [json.loads(line)["iteration"] for line in path.read_text().splitlines()] == [12, 13, 14]


def test_tensorboard(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    writer = TensorboardXWriter(tmp_path, window_size=1)
    with EventStorage(3) as storage:
        storage.put_scalar("loss", 0.5)
        storage.put_image("image", torch.zeros(3, 4, 5, dtype=torch.uint8))
        storage.put_histogram("logits", torch.tensor([0.0, 1.0, 1.0]), bins=2)
        writer.write()
        storage.step()
        storage.put_scalar("loss", 0.25)
        writer.write()
    writer.close()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(3, 0.5), (4, 0.25)]
    assert len(events.Images("image")) == 1  # cleared once written
    (histogram,) = events.Histograms("logits")
    assert histogram.histogram_value.num == 3


def test_histogram_of_nothing():
    with pytest.raises(ValueError, match="empty"):
        EventStorage().put_histogram("logits", torch.zeros(0))


# the model's own order; the printer puts the total first
LOSSES = {
    "loss_cls": 0.168,
    "loss_box_reg": 0.210,
    "loss_rpn_cls": 0.020,
    "loss_rpn_loc": 0.043,
    "total_loss": 0.5,
}


def test_console_line(monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 2771 * 2**20)
    printer = CommonMetricPrinter(max_iter=720000)
    with EventStorage(719999) as storage, caplog.at_level("INFO"):
        storage.put_scalars(time=0.2855, data_time=0.0029)
        storage.put_scalar("lr", 0.000025, smoothing_hint=False)
        storage.put_scalars(**LOSSES)
        printer.write()
        storage.step()
        printer.write()  # after the last iteration: nothing
    assert caplog.messages == [
        "eta: 0:00:00  iter: 719999  total_loss: 0.500  loss_cls: 0.168  loss_box_reg: 0.210  "
        "loss_rpn_cls: 0.020  loss_rpn_loc: 0.043  time: 0.2855  data_time: 0.0029  "
        "lr: 0.000025  max_mem: 2771M"
    ]


def test_console_line_without_gpu_and_with_validation(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    storage = EventStorage()
    printer = CommonMetricPrinter(max_iter=100)
    assert printer.line(storage) == "iter: 0"
    storage.put_scalars(validation_loss=0.75)
    for value in (1.0, 2.0, 9.0):
        storage.put_scalars(total_loss=value, time=2.0, lr=1e-6)
        storage.step()
    storage.iter -= 1
    assert printer.line(storage) == (
        "eta: 0:03:14  iter: 2  total_loss: 2.000  validation_loss: 0.750  time: 2.0000  "
        "lr: 1.00e-06"
    )
    assert storage.latest()["eta_seconds"] == (194.0, 2)


def test_eta_without_measured_time(monkeypatch):
    from lucidet.utils import events

    clock = iter([100.0, 110.0])
    monkeypatch.setattr(events.time, "perf_counter", lambda: next(clock))
    storage = EventStorage()
    printer = CommonMetricPrinter(max_iter=31)
    assert printer.line(storage).startswith("iter: 0")
    storage.iter = 10
    assert printer.line(storage).startswith("eta: 0:00:20")


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0.000"), (1e-5, "1.00e-05"), (float("nan"), "nan"), (12.3, "12.300")],
)
def test_loss_format(value, shown):
    storage = EventStorage()
    storage.put_scalar("loss_cls", value)
    assert f"loss_cls: {shown}" in CommonMetricPrinter().line(storage)


def test_progress_bar_only_on_a_terminal(monkeypatch, capsys):
    writer = ProgressWriter(max_iter=2)
    with EventStorage() as storage:
        storage.put_scalars(total_loss=0.5)
        writer.write()
        assert capsys.readouterr().out == ""
        monkeypatch.setattr(ProgressWriter, "available", staticmethod(lambda: True))
        monkeypatch.setenv("COLUMNS", "120")
        writer.write()
        storage.step()
        writer.write()
        writer.close()
    shown = capsys.readouterr().out
    assert "total_loss 0.500" in shown
    assert "2/2" in shown
