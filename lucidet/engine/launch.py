"""Start one process or several, on GPUs (NCCL) or the CPU (gloo), on one machine or several."""

from __future__ import annotations

import logging
import os
import signal
import socket
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from lucidet.engine.frozen import (
    DEFAULT_TIMEOUT,
    FrozenProcessError,
    chosen_timeout,
    explained_wait,
)
from lucidet.engine.interrupt import SIGNALS, TrainingInterrupted, forwarding
from lucidet.utils import comm
from lucidet.utils.user_modules import import_again

__all__ = ["DEFAULT_TIMEOUT", "launch"]

logger = logging.getLogger(__name__)


class ProcessFailedError(RuntimeError):
    """A process of the run stopped with an error; its traceback is in the message."""


class ProcessKilledError(ProcessFailedError, OSError):
    """A process of the run was killed from outside."""


def launch(
    main_func: Callable[..., Any],
    num_gpus_per_machine: int,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str | None = None,
    args: tuple[Any, ...] = (),
    timeout: timedelta = DEFAULT_TIMEOUT,
) -> Any:
    """Run ``main_func(*args)`` in as many processes as asked for.

    Under torchrun, which has started the processes already (``RANK`` and ``WORLD_SIZE`` are set),
    this process joins their group and the other arguments do not count. Where GPUs are asked for
    and there are none, it says so, and as many processes run on the CPU.

    Args:
        main_func: a function of a module (it is pickled by name when processes are started).
        num_gpus_per_machine: processes on each machine, one a GPU; 0 and 1 need no new process.
        num_machines: machines in all; on each of them the program must be started.
        machine_rank: number of this machine.
        dist_url: where processes meet, ``tcp://HOST:PORT`` of machine 0, the same on all
            machines. "auto" or None: a free port, for one machine.
        args: for `main_func`.
        timeout: how long a process waits for the others, at most; by default the seconds of
            LUCIDET_DIST_TIMEOUT, else 10 minutes.

    Returns:
        What `main_func` returned, where it ran in this process; else None.

    Raises:
        ValueError: arguments that do not fit together.
        RuntimeError: a started process failed; the message has its rank and traceback.
    """
    timeout = chosen_timeout(timeout)
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        return _join_torchrun(main_func, args, timeout)
    if not 0 <= machine_rank < num_machines:
        raise ValueError(f"machine_rank must be in 0..{num_machines - 1}, got {machine_rank}")
    processes = _processes_of_this_machine(num_gpus_per_machine)
    if processes * num_machines == 1:
        return main_func(*args)
    if dist_url in (None, "auto"):
        if num_machines > 1:
            raise ValueError("several machines need --dist-url tcp://HOST:PORT of machine 0")
        dist_url = f"tcp://127.0.0.1:{_free_port()}"
    with tempfile.TemporaryDirectory() as errors:
        plan = (main_func, args, processes, num_machines, machine_rank, dist_url, timeout, errors)
        try:
            context: Any = mp.start_processes(
                _child, args=plan, nprocs=processes, join=False, start_method="spawn"
            )
            with forwarding(context.processes):
                while not context.join():
                    pass
        except (mp.ProcessRaisedException, mp.ProcessExitedException) as error:
            number = (getattr(error, "exit_code", None) or 0) - 128
            if number in SIGNALS and not any(Path(errors).iterdir()):
                raise TrainingInterrupted(number) from None
            raise _first_error(Path(errors), context.processes, error) from None
    return None


def _first_error(folder: Path, started: Sequence[Any], error: Exception) -> ProcessFailedError:
    """Return the error that came first: those of the other processes only follow from it."""
    processes = len(started)
    killed = {rank: -(process.exitcode or 0) for rank, process in enumerate(started)}
    # SIGTERM is what the others are ended with
    killed = {rank: n for rank, n in killed.items() if n > 0 and n != signal.SIGTERM}
    # names are times; a process that was killed has left no file
    written = sorted(folder.iterdir())
    # the frozen process itself had to be killed; others only lost their connection
    waited = [path for path in written if FrozenProcessError.__name__ in path.read_text("utf-8")]
    written = waited or written
    if (killed and not waited) or not written:
        who = [f"process {rank} by {signal.Signals(n).name}" for rank, n in killed.items()]
        what = f"killed: {', '.join(who)} of {processes} processes" if who else str(error)
        return ProcessKilledError(
            f"{what}; no message is left: the system kills processes when memory runs out, "
            "schedulers when time does, NCCL (SIGABRT) when another process froze for longer than "
            "--dist-timeout. lucidet train ... --resume goes on from the last checkpoint"
        )
    rank = written[0].name.rpartition("_")[2]
    text = written[0].read_text(encoding="utf-8").strip()
    last = text.splitlines()[-1]
    return ProcessFailedError(f"process {rank} of {processes} stopped: {last}\n\n{text}")


def _processes_of_this_machine(asked: int) -> int:
    """Return how many processes to run for `asked` GPUs, with a word where those are missing."""
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if there and asked > there:
        raise ValueError(
            f"{asked} GPUs asked for (--num-gpus), but this machine has {there}; "
            f"set CUDA_VISIBLE_DEVICES or ask for {there}"
        )
    if asked > 0 and not there:
        what = "1 process" if asked == 1 else f"{asked} processes"
        logger.warning(f"{asked} GPU(s) asked for, but there is none: running {what} on the CPU")
    return max(asked, 1)


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def _child(
    local_rank: int,
    main_func: Callable[..., Any],
    args: tuple[Any, ...],
    processes: int,
    num_machines: int,
    machine_rank: int,
    dist_url: str,
    timeout: timedelta,
    errors: str,
) -> None:
    import_again()
    if not torch.cuda.is_available() and "OMP_NUM_THREADS" not in os.environ:
        # processes share the cores; each would start a thread for all of them
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // processes))
    _run_in_group(
        main_func,
        args,
        timeout,
        local_rank=local_rank,
        local_size=processes,
        init_method=dist_url,
        world_size=num_machines * processes,
        rank=machine_rank * processes + local_rank,
        errors=Path(errors),
    )


def _join_torchrun(main_func: Callable[..., Any], args: tuple[Any, ...], timeout: timedelta) -> Any:
    world = int(os.environ["WORLD_SIZE"])
    return _run_in_group(
        main_func,
        args,
        timeout,
        local_rank=int(os.environ.get("LOCAL_RANK", 0)),
        local_size=int(os.environ.get("LOCAL_WORLD_SIZE", world)),
        init_method="env://",
        world_size=world,
        rank=int(os.environ["RANK"]),
    )


def _store_of_this_attempt(
    init_method: str, rank: int, world_size: int, timeout: timedelta
) -> dist.Store:
    """Return where the processes of a group exchange addresses.

    After a restart torchrun's store still holds those of the processes that have ended, and the new
    ones would wait for them: each attempt has names of its own.
    """
    store, _, _ = next(dist.rendezvous(init_method, rank, world_size, timeout=timeout))
    store.set_timeout(timeout)
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return dist.PrefixStore(f"lucidet/attempt_{attempt}", store)


def _run_in_group(
    main_func: Callable[..., Any],
    args: tuple[Any, ...],
    timeout: timedelta,
    *,
    local_rank: int,
    local_size: int,
    init_method: str,
    world_size: int,
    rank: int,
    errors: Path | None = None,
) -> Any:
    """Run the function as one process of a new group; an error is also left in a file."""
    on_gpus = torch.cuda.is_available() and torch.cuda.device_count() >= local_size
    if on_gpus:
        torch.cuda.set_device(local_rank)
    try:
        dist.init_process_group(
            backend="nccl" if on_gpus else "gloo",
            store=_store_of_this_attempt(init_method, rank, world_size, timeout),
            world_size=world_size,
            rank=rank,
            timeout=timeout,
        )
    except Exception as error:
        raise RuntimeError(
            f"process {rank} of {world_size} could not join the others at {init_method}: {error}. "
            f"Is the address reachable from every machine, and its port free?"
        ) from error
    try:
        comm.create_local_process_group(local_size)
        comm.synchronize()
        result = main_func(*args)
        # rank 0 keeps the store through which the others still talk: nobody leaves early
        comm.synchronize()
        return result
    except TrainingInterrupted:
        comm.synchronize()  # the others still save
        raise
    except Exception as error:
        said = explained_wait(error, timeout)
        if errors is not None:  # before the others can notice that this process is gone
            name = f"{time.time_ns()}_{local_rank}"
            text = "".join(traceback.format_exception(error))
            if said is not error:
                text += "".join(traceback.format_exception_only(said))
            (errors / name).write_text(text, encoding="utf-8")
        if said is not error:
            raise said from error
        raise
    finally:
        comm.forget_process_groups()
        dist.destroy_process_group()
