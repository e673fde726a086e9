"""colormap, env, collect_env, memory, file_io, serialize, analysis, testing."""

from __future__ import annotations

import pickle
import random

import numpy as np
import pytest
import torch
from torch import nn

from lucidet.structures import Boxes, Instances
from lucidet.utils import env, memory
from lucidet.utils.analysis import FlopCountAnalysis, flop_count, parameter_count_table
from lucidet.utils.collect_env import collect_env_info
from lucidet.utils.colormap import colormap, random_color, random_colors
from lucidet.utils.file_io import PathHandler, PathManager, PathManagerBase
from lucidet.utils.serialize import PicklableWrapper
from lucidet.utils.testing import assert_instances_allclose, random_boxes


def test_colormap():
    colors = colormap(rgb=True, maximum=255)
    assert colors.shape == (80, 3)
    assert colors.min() >= 0
    assert 250 <= colors.max() <= 255
    assert len({tuple(c) for c in colors.round()}) == 80
    assert np.array_equal(colormap()[:, ::-1], colors)
    assert colormap(maximum=1).max() <= 1
    # neighbours look unlike each other
    assert np.abs(np.diff(colors, axis=0)).sum(axis=1).min() > 100
    assert random_color(rgb=True).shape == (3,)
    assert len(random_colors(80)) == 80
    assert random_colors(0) == []
    with pytest.raises(ValueError, match=r"0\.\.80"):
        random_colors(81)
    with pytest.raises(ValueError, match="1 or 255, got 100"):
        colormap(maximum=100)


def test_colormap_does_not_hand_out_its_own_array():
    colormap(rgb=True)[:] = 0
    assert colormap(rgb=True).any()


def _draw() -> tuple[float, float, float]:
    return random.random(), np.random.rand(), torch.rand(1).item()


def test_seed():
    assert env.seed_all_rng(7) == 7
    first = _draw()
    env.seed_all_rng(7)
    assert _draw() == first
    drawn = env.seed_all_rng(None)
    second = _draw()
    assert second != first
    env.seed_all_rng(drawn)
    assert _draw() == second
    assert env.seed_all_rng(2**40) == 2**40
    assert env.seed_all_rng(-1) >= 0


def test_environment(monkeypatch):
    monkeypatch.setenv("OPENCV_FOR_THREADS_NUM", "4")
    monkeypatch.setattr(env, "_configured", False)
    env.setup_environment()
    env.setup_environment()
    import os

    assert os.environ["OPENCV_FOR_THREADS_NUM"] == "4"
    assert env.TORCH_VERSION >= (2, 6)
    info = collect_env_info()
    assert "torchvision" in info
    assert "cores" in info


def test_retry_out_of_memory():
    calls = []

    @memory.retry_if_cuda_oom
    def area(boxes: torch.Tensor, times: int) -> torch.Tensor:
        calls.append(boxes.device.type)
        if len(calls) < 3:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return boxes * times

    assert area(torch.ones(1), times=2).item() == 2
    assert len(calls) == 3
    with pytest.raises(ZeroDivisionError):
        memory.retry_if_cuda_oom(lambda: 1 / 0)()


def test_local_files(tmp_path):
    folder = tmp_path / "a" / "b"
    PathManager.mkdirs(folder)
    PathManager.mkdirs(folder)
    file = folder / "x.txt"
    with PathManager.open(file, "w") as f:
        f.write("text")
    assert PathManager.open(f"file://{file}").read() == "text"
    assert PathManager.isfile(str(file))
    assert PathManager.isdir(folder)
    assert PathManager.exists(file)
    assert PathManager.ls(folder) == ["x.txt"]
    assert PathManager.get_local_path(file) == str(file)
    assert PathManager.copy(file, folder / "y.txt")
    assert not PathManager.copy(file, folder / "y.txt")
    PathManager.rm(file)
    assert not PathManager.exists(file)


def test_registered_scheme(tmp_path):
    (tmp_path / "w.pth").write_text("weights")

    class Zoo(PathHandler):
        def get_supported_prefixes(self):
            return ["zoo://"]

        def get_local_path(self, path, **kwargs):
            return str(tmp_path / path.removeprefix("zoo://"))

    class Other(Zoo): ...

    manager = PathManagerBase()
    with pytest.raises(ValueError, match=r"no handler for 'zoo://w\.pth': known are local paths"):
        manager.exists("zoo://w.pth")
    manager.register_handler(Zoo())
    assert manager.isfile("zoo://w.pth")
    assert manager.open("zoo://w.pth").read() == "weights"
    with pytest.raises(ValueError, match="can only be read"):
        manager.open("zoo://w.pth", "w")
    with pytest.raises(ValueError, match="can only be read"):
        manager.rm("zoo://w.pth")
    manager.register_handler(Zoo())
    with pytest.raises(ValueError, match="'zoo://' is handled by Zoo already"):
        manager.register_handler(Other())
    manager.register_handler(Other(), allow_override=True)


def test_picklable_wrapper():
    wrapped = PicklableWrapper(PicklableWrapper(max))
    assert wrapped._obj is max
    copy = pickle.loads(pickle.dumps(wrapped))
    assert copy(1, 5) == 5
    assert copy.__name__ == "max"


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.relu = nn.ReLU()
        self.fc = nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.relu(self.conv(x)).mean(dim=(2, 3)))


def test_parameters_and_flops():
    net = Net()
    assert "(8, 3, 3, 3)" in parameter_count_table(net)
    assert "relu" not in parameter_count_table(net)
    assert "(8, 3, 3, 3)" not in parameter_count_table(net, max_depth=1)
    images = torch.zeros(1, 3, 10, 10)
    conv = 2 * 8 * 3 * 9 * 100
    analysis = FlopCountAnalysis(net, images)
    assert analysis.total() == flop_count(net, images) == conv + 2 * 8 * 2
    assert analysis.by_operator()["convolution"] == conv
    assert analysis.by_module()["conv"] == conv
    assert analysis.by_module()[""] == analysis.total()
    assert parameter_count_table(nn.ReLU()).count("\n") == 1  # only the head


def test_random_boxes():
    assert random_boxes(0).shape == (0, 4)
    boxes = random_boxes(100, max_coord=30)
    assert (boxes[:, 2:] - boxes[:, :2] >= 1).all()
    assert boxes.max() <= 30
    assert boxes.min() >= 0


def test_assert_instances_allclose():

    def make(x: float = 1.0, size: tuple[int, int] = (10, 20), label: int = 3):
        instances = Instances(size)
        instances.pred_boxes = Boxes(torch.tensor([[0.0, 0.0, x, 5.0]]))
        instances.pred_classes = torch.tensor([label])
        return instances

    assert_instances_allclose(make(), make(1.00001))
    for other, message in (
        (make(2.0), "batch: field 'pred_boxes' differs, by up to 1"),
        (make(label=4), "batch: field 'pred_classes' differs"),
        (make(size=(1, 2)), "batch: image sizes"),
    ):
        with pytest.raises(AssertionError, match=message):
            assert_instances_allclose(make(), other, msg="batch")
