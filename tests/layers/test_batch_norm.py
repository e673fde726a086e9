from __future__ import annotations

import copy
import multiprocessing
import socket

import pytest
import torch
import torch.distributed as dist
from torch import nn

from lucidet.layers import (
    CycleBatchNormList,
    FrozenBatchNorm2d,
    LayerNorm,
    NaiveSyncBatchNorm,
    get_norm,
)


def trained_batch_norm(channels: int = 4) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels, eps=1e-3)
    for tensor in (norm.weight, norm.running_var):
        tensor.data.uniform_(0.5, 2)
    for tensor in (norm.bias, norm.running_mean):
        tensor.data.normal_()
    return norm.eval()


def test_frozen_norm_equals_batch_norm_in_evaluation():
    norm = trained_batch_norm()
    frozen = FrozenBatchNorm2d.convert_frozen_batchnorm(norm)
    assert frozen.eps == 1e-3
    assert not list(frozen.parameters())
    x = torch.randn(2, 4, 3, 3)
    torch.testing.assert_close(frozen.train()(x), norm(x))
    x.requires_grad_()
    torch.testing.assert_close(frozen(x), norm(x))
    scale, shift = frozen.scale_and_shift()
    torch.testing.assert_close(x * scale.view(-1, 1, 1) + shift.view(-1, 1, 1), norm(x))
    assert frozen(torch.zeros(0, 4, 3, 3)).shape == (0, 4, 3, 3)
    assert frozen(x.bfloat16()).dtype == torch.bfloat16


def test_a_new_frozen_norm_is_the_identity():
    x = torch.randn(2, 4, 3, 3)
    torch.testing.assert_close(FrozenBatchNorm2d(4)(x), x)


def test_conversion_there_and_back_inside_a_model():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(trained_batch_norm(), nn.ReLU())).eval()
    x = torch.randn(1, 3, 5, 5)
    expected, state = model(x), copy.deepcopy(model.state_dict())
    assert FrozenBatchNorm2d.convert_frozen_batchnorm(model) is model
    assert isinstance(model[1][0], FrozenBatchNorm2d)
    torch.testing.assert_close(model(x), expected)
    model = FrozenBatchNorm2d.convert_frozenbatchnorm2d_to_batchnorm2d(model)
    assert isinstance(model[1][0], nn.BatchNorm2d)
    for name, value in model.state_dict().items():
        assert value.equal(state[name])


@pytest.mark.parametrize(
    ("version", "present", "var"),
    [
        (None, {}, 1.0),  # statistics folded away: never stored
        (1, {}, 1.0 - 1e-5),
        (None, {"running_mean": 0.0, "running_var": 2.0}, 2.0),
        (2, {"running_mean": 0.0, "running_var": 2.0}, 2.0 - 1e-5),
        (3, {"running_mean": 0.0, "running_var": 2.0}, 2.0),
        # 2 is also the version of torch's BatchNorm2d, whose variance needs no correction
        (2, {"running_mean": 0.0, "running_var": 2.0, "num_batches_tracked": 5.0}, 2.0),
    ],
)
def test_versions_of_the_state_dict(version, present, var):
    state = {name: torch.full((3,), value) for name, value in present.items()}
    state |= {"weight": torch.ones(3), "bias": torch.zeros(3)}
    state = nn.modules.module.OrderedDict(state)
    if version is not None:
        state._metadata = {"": {"version": version}}
    before = {name: value.clone() for name, value in state.items()}
    frozen = FrozenBatchNorm2d(3)
    frozen.load_state_dict(state)
    torch.testing.assert_close(frozen.running_var, torch.full((3,), var), rtol=0, atol=1e-7)
    assert all(state[name].equal(value) for name, value in before.items())


def test_missing_statistics_are_an_error_in_version_3():
    state = FrozenBatchNorm2d(3).state_dict()
    del state["running_var"]
    with pytest.raises(RuntimeError, match="running_var"):
        FrozenBatchNorm2d(3).load_state_dict(state)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("BN", nn.BatchNorm2d),
        ("SyncBN", nn.SyncBatchNorm),
        ("FrozenBN", FrozenBatchNorm2d),
        ("GN", nn.GroupNorm),
        ("nnSyncBN", nn.SyncBatchNorm),
        ("naiveSyncBN", NaiveSyncBatchNorm),
        ("naiveSyncBN_N", NaiveSyncBatchNorm),
        ("LN", LayerNorm),
    ],
)
def test_get_norm(name, kind):
    assert isinstance(get_norm(name, 64), kind)
    norm = get_norm(name, 64, eps=0.25)
    assert norm.eps == 0.25
    assert norm(torch.randn(2, 64, 3, 3)).shape == (2, 64, 3, 3)


def test_get_norm_without_a_name():
    assert get_norm("", 8) is None
    assert get_norm(None, 8) is None
    assert isinstance(get_norm(lambda channels: nn.InstanceNorm2d(channels), 8), nn.InstanceNorm2d)
    with pytest.raises(ValueError, match="unknown normalisation 'BatchNorm'; known: BN, SyncBN"):
        get_norm("BatchNorm", 8)


def test_layer_norm_is_over_channels():
    x = torch.randn(2, 6, 3, 4)
    y = LayerNorm(6)(x)
    torch.testing.assert_close(y.mean(dim=1), torch.zeros(2, 3, 4), atol=1e-5, rtol=0)
    torch.testing.assert_close(y.var(dim=1, unbiased=False), torch.ones(2, 3, 4), atol=1e-4, rtol=0)


def test_cycle_list_takes_turns():
    norms = CycleBatchNormList(2, num_features=3, momentum=1.0)
    assert {"weight", "bias", "0.running_mean", "1.running_mean"} <= set(norms.state_dict())
    norms(torch.zeros(4, 3, 2, 2))
    norms(torch.full((4, 3, 2, 2), 5.0))
    norms(torch.ones(4, 3, 2, 2))
    assert norms[0].running_mean.tolist() == [1, 1, 1]
    assert norms[1].running_mean.tolist() == [5, 5, 5]
    assert not list(CycleBatchNormList(2, num_features=3, affine=False).parameters())


def test_naive_sync_norm_alone_is_batch_norm():
    x = torch.randn(4, 3, 2, 2)
    one, two = NaiveSyncBatchNorm(3), nn.BatchNorm2d(3)
    torch.testing.assert_close(one(x), two(x))
    torch.testing.assert_close(one.running_var, two.running_var)
    with pytest.raises(ValueError, match=r"stats_mode must be .* got 'M'"):
        NaiveSyncBatchNorm(3, stats_mode="M")


# stats_mode, images of each process
SHARES = [("", [2, 2]), ("N", [1, 3]), ("N", [0, 2])]


def _images(sizes: list[int]) -> torch.Tensor:
    return torch.randn(sum(sizes), 3, 4, 4, generator=torch.Generator().manual_seed(3))


def _run_rank(rank: int, port: int, results: multiprocessing.Queue) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    for case, (mode, sizes) in enumerate(SHARES):
        x = _images(sizes).split(sizes)[rank].clone().requires_grad_()
        norm = NaiveSyncBatchNorm(3, stats_mode=mode)
        y = norm(x)
        (y**3).sum().backward()
        results.put((case, rank, y.detach().numpy(), x.grad.numpy(), norm.running_mean.numpy()))
    dist.destroy_process_group()


@pytest.mark.slow
def test_naive_sync_norm_over_two_processes_is_batch_norm_of_all():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    workers = [context.Process(target=_run_rank, args=(rank, port, results)) for rank in range(2)]
    for worker in workers:
        worker.start()
    got = [results.get(timeout=120) for _ in workers for _ in SHARES]
    for worker in workers:
        worker.join()
    for case, (_, sizes) in enumerate(SHARES):
        x = _images(sizes).requires_grad_()
        norm = nn.BatchNorm2d(3)
        y = norm(x)
        (y**3).sum().backward()
        mine = sorted((r for r in got if r[0] == case), key=lambda r: r[1])
        outputs, grads = (torch.cat([torch.from_numpy(r[i]) for r in mine]) for i in (2, 3))
        torch.testing.assert_close(outputs, y.detach(), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(grads, x.grad, rtol=1e-3, atol=1e-3)
        for result in mine:
            torch.testing.assert_close(torch.from_numpy(result[4]), norm.running_mean)
