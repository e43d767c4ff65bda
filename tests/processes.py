"""Trainings in processes of their own, which a test may kill or let train side by side."""

import multiprocessing
import os
import signal
import socket
import traceback
from pathlib import Path

import torch

from deconvnet.train import train

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["deconvnet.train"])  # and torch with it, once


def start(recipe, out, *, resume=False, environment=(), kill_at_sync=0, signal_at_step=0):
    """Start a training; gives the process.

    Args:
        recipe: What to train.
        out: Folder of the run; what goes wrong is told in its name + .trouble.
        resume: Go on with it.
        environment: Pairs to set.
        kill_at_sync: Die by SIGKILL in place of the n-th fsync. Every file is synced before it
            takes its place, and its folder after.
        signal_at_step: Get Ctrl-C in the n-th step.
    """
    process = CONTEXT.Process(
        target=_train,
        args=(recipe, str(out), resume, dict(environment), kill_at_sync, signal_at_step),
    )
    process.start()
    return process


def side_by_side(recipe, out, count=2, *, resume=False, signalled=None, signal_at_step=2):
    """Train in several processes, as torchrun starts them; gives their exit codes."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    common = {
        "TORCHELASTIC_RUN_ID": "test",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "GROUP_RANK": "0",
    }
    processes = [
        start(
            recipe,
            out,
            resume=resume,
            environment={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            signal_at_step=signal_at_step if rank == signalled else 0,
        )
        for rank in range(count)
    ]
    for process in processes:
        process.join(timeout=240)
    for process in processes:
        process.kill()
    return [process.exitcode for process in processes]


def _train(recipe, out, resume, environment, kill_at_sync, signal_at_step):
    torch.set_num_threads(1)
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if kill_at_sync:
        _die_at_sync(kill_at_sync)
    if signal_at_step:
        _interrupt_at_step(signal_at_step)
    try:
        train(recipe, out=out, resume=resume, device="cpu", quiet=True)
    except KeyboardInterrupt:
        os._exit(130)
    except BaseException:
        Path(f"{out}.trouble").parent.mkdir(parents=True, exist_ok=True)
        Path(f"{out}.trouble").write_text(traceback.format_exc())
        os._exit(3)


def _die_at_sync(number):
    real, calls = os.fsync, []

    def counted(handle):
        calls.append(1)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        real(handle)

    os.fsync = counted


def _interrupt_at_step(number):
    import deconvnet.training.loop as module

    real, calls = module.take_step, []

    def counted(*arguments):
        calls.append(1)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGINT)
        return real(*arguments)

    module.take_step = counted
