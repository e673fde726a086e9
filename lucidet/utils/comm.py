"""Talking between the processes of one training run; every call also works in a lone process.

Python objects travel through torch.distributed's own object collectives, which pickle them: safe as
far as the members of the process group trust each other, and nothing else is ever unpickled here.
"""

from __future__ import annotations

import atexit
import os
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

# processes of this machine; made by the launcher, once per run
_LOCAL_PROCESS_GROUP: Any = None
# (world group, gloo group over the same processes): objects must not go through GPU memory
_GLOO_GROUP: tuple[Any, Any] | None = None


def _initialized() -> bool:
    return dist.is_available() and dist.is_initialized()


def get_world_size() -> int:
    """Number of processes in the run, 1 without torch.distributed."""
    return dist.get_world_size() if _initialized() else 1


def get_rank() -> int:
    """Number of this process in the run, 0 without torch.distributed."""
    return dist.get_rank() if _initialized() else 0


@atexit.register  # while Python shuts down, a group that it still holds would join its threads
def forget_process_groups() -> None:
    """Let go of the groups of the run; `launch` does so before it destroys them."""
    global _LOCAL_PROCESS_GROUP, _GLOO_GROUP
    _LOCAL_PROCESS_GROUP = _GLOO_GROUP = None


def create_local_process_group(num_workers_per_machine: int) -> None:
    """Make one process group for each machine; every process of the run must call this.

    Args:
        num_workers_per_machine: processes on each machine, the same number everywhere; ranks are
            consecutive on a machine.

    Raises:
        ValueError: the world is not a multiple of that number.
    """
    global _LOCAL_PROCESS_GROUP
    world = get_world_size()
    if num_workers_per_machine < 1 or world % num_workers_per_machine:
        raise ValueError(
            f"num_workers_per_machine must divide the world of {world} processes, "
            f"got {num_workers_per_machine}"
        )
    if not _initialized():
        return
    if num_workers_per_machine == world:
        # after torchrun has restarted the processes, new groups wait for members that are gone
        _LOCAL_PROCESS_GROUP = dist.group.WORLD
        return
    machine = get_rank() // num_workers_per_machine
    for i in range(world // num_workers_per_machine):
        first = i * num_workers_per_machine
        group = dist.new_group(list(range(first, first + num_workers_per_machine)))
        if i == machine:
            _LOCAL_PROCESS_GROUP = group


def was_restarted() -> bool:
    """Return whether torchrun has started this process again after another one had failed."""
    return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") not in ("", "0")


def get_local_process_group() -> dist.ProcessGroup:
    """Return the group of this machine's processes.

    Raises:
        RuntimeError: `create_local_process_group` has not been called.
    """
    if _LOCAL_PROCESS_GROUP is None:
        raise RuntimeError(
            "there is no local process group: start through lucidet.engine.launch, or call "
            "lucidet.utils.comm.create_local_process_group in every process"
        )
    return _LOCAL_PROCESS_GROUP


def get_local_rank() -> int:
    """Number of this process on its machine (torchrun's ``LOCAL_RANK`` where no group was made)."""
    if not _initialized():
        return 0
    if _LOCAL_PROCESS_GROUP is None and "LOCAL_RANK" in os.environ:
        return int(os.environ["LOCAL_RANK"])
    return dist.get_rank(group=get_local_process_group())


def get_local_size() -> int:
    """Number of processes on this machine."""
    if not _initialized():
        return 1
    if _LOCAL_PROCESS_GROUP is None and "LOCAL_WORLD_SIZE" in os.environ:
        return int(os.environ["LOCAL_WORLD_SIZE"])
    return dist.get_world_size(group=get_local_process_group())


def is_main_process() -> bool:
    """Return whether this process is rank 0: the one that writes files and logs."""
    return get_rank() == 0


def synchronize() -> None:
    """Wait until every process of the run has come here."""
    if get_world_size() == 1:
        return
    if dist.get_backend() == dist.Backend.NCCL:
        # without the device, NCCL guesses one from the rank and may take another's GPU
        dist.barrier(device_ids=[torch.cuda.current_device()])
    else:
        dist.barrier()


def _object_group() -> Any:
    """Return a group over all processes that keeps objects on the CPU."""
    global _GLOO_GROUP
    world = dist.group.WORLD
    if dist.get_backend() != dist.Backend.NCCL or was_restarted():
        return world
    if _GLOO_GROUP is None or _GLOO_GROUP[0] is not world:
        _GLOO_GROUP = (world, dist.new_group(backend="gloo"))
    return _GLOO_GROUP[1]


_get_global_gloo_group = _object_group  # detectron2's name


def all_gather(data: Any, group: dist.ProcessGroup | None = None) -> list[Any]:
    """Return every process's `data` (any picklable object), in order of rank.

    >>> all_gather({"boxes": 3})
    [{'boxes': 3}]
    """
    if get_world_size() == 1:
        return [data]
    group = _object_group() if group is None else group
    size = dist.get_world_size(group)
    if size == 1:
        return [data]
    gathered: list[Any] = [None] * size
    dist.all_gather_object(gathered, data, group=group)
    return gathered


def gather(data: Any, dst: int = 0, group: dist.ProcessGroup | None = None) -> list[Any]:
    """Return every process's `data` in order of rank at rank `dst`, an empty list elsewhere."""
    if get_world_size() == 1:
        return [data]
    group = _object_group() if group is None else group
    size = dist.get_world_size(group)
    if size == 1:
        return [data]
    at_destination = dist.get_rank() == dst
    gathered: list[Any] | None = [None] * size if at_destination else None
    dist.gather_object(data, gathered, dst=dst, group=group)
    return gathered or []


def shared_random_seed() -> int:
    """Return one random number in [0, 2**31), the same in every process.

    Drawn from NumPy's global generator on rank 0, as detectron2 does: after the same seeding it is
    the same. Every process must call it.
    """
    seed = int(np.random.randint(2**31))
    return all_gather(seed)[0]


def reduce_dict(
    input_dict: dict[str, torch.Tensor], average: bool = True
) -> dict[str, torch.Tensor]:
    """Sum (or average) equally named scalar tensors over the processes.

    Args:
        input_dict: name -> scalar tensor, the same names in each process.
        average: divide by the number of processes.

    Returns:
        The reduced values, valid at rank 0 only; in a lone process `input_dict` itself.
    """
    world = get_world_size()
    if world == 1 or not input_dict:
        return input_dict
    with torch.no_grad():
        names = sorted(input_dict)  # the same order in every process
        values = torch.stack([input_dict[name].detach() for name in names])
        dist.reduce(values, dst=0)
        if average and get_rank() == 0:
            values = values / world
        return dict(zip(names, values.unbind(), strict=True))
