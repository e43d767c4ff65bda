"""Work shared out among as many threads as torch is told to use."""

import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache


def in_parallel(work: Callable[[int, int], object], total: int) -> None:
    """Let each thread do one part of 0 ... total: work(first, last), last not included.

    It gains where the work lets go of Python's lock, as C++ does. There is one thread where
    torch is not imported.
    """
    torch = sys.modules.get("torch")
    threads = min(torch.get_num_threads() if torch else 1, total)
    if threads <= 1:
        work(0, total)
        return
    bounds = [total * part // threads for part in range(threads + 1)]
    others = _pool(threads - 1).map(work, bounds[1:-1], bounds[2:])
    work(bounds[0], bounds[1])
    list(others)


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="deconvnet-kernels")


if hasattr(os, "register_at_fork"):  # a forked process has the pool, and not its threads
    os.register_at_fork(after_in_child=_pool.cache_clear)
