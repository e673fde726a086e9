from __future__ import annotations

import socket

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from lucidet.utils import comm


def test_alone():
    assert comm.get_world_size() == comm.get_local_size() == 1
    assert comm.get_rank() == comm.get_local_rank() == 0
    assert comm.is_main_process()
    comm.synchronize()
    assert comm.all_gather("x") == comm.gather("x") == ["x"]
    losses = {"loss": torch.tensor(2.0)}
    assert comm.reduce_dict(losses) is losses
    comm.create_local_process_group(1)
    with pytest.raises(RuntimeError, match="create_local_process_group"):
        comm.get_local_process_group()
    with pytest.raises(ValueError, match="must divide"):
        comm.create_local_process_group(2)


def test_shared_random_seed_leaves_random_states_alone():
    state = torch.get_rng_state()
    assert 0 <= comm.shared_random_seed() < 2**31
    assert torch.equal(torch.get_rng_state(), state)


def _worker(rank: int, port: int) -> None:
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    comm.create_local_process_group(2)
    assert comm.get_world_size() == comm.get_local_size() == 2
    assert comm.get_rank() == comm.get_local_rank() == rank
    assert comm.all_gather({"rank": rank}) == [{"rank": 0}, {"rank": 1}]
    assert comm.gather([rank] * rank) == ([[], [1]] if rank == 0 else [])
    assert comm.gather(rank, dst=1) == ([0, 1] if rank == 1 else [])
    seeds = comm.all_gather(comm.shared_random_seed())
    assert seeds[0] == seeds[1]
    # another order of keys in each process must not mix up the values
    losses = {"b": torch.tensor(10.0 * rank), "a": torch.tensor(float(rank))}
    if rank:
        losses = dict(sorted(losses.items()))
    mean, total = comm.reduce_dict(losses), comm.reduce_dict(losses, average=False)
    if rank == 0:
        assert (mean["a"], mean["b"], total["a"], total["b"]) == (0.5, 5.0, 1.0, 10.0)
    assert comm.reduce_dict({}) == {}
    comm.synchronize()
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(_worker, args=(port,), nprocs=2)
