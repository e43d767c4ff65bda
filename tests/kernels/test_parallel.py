import multiprocessing
import sys

import pytest
import torch

from deconvnet.kernels.parallel import in_parallel


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_each_part_is_done_once(threads, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    done = []
    in_parallel(lambda first, last: done.extend(range(first, last)), 5)
    assert sorted(done) == [0, 1, 2, 3, 4]


@pytest.mark.skipif(sys.platform != "linux", reason="there are no forked processes")
def test_a_forked_process_makes_threads_of_its_own(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    in_parallel(lambda _first, _last: None, 2)
    fork = multiprocessing.get_context("fork")
    child = fork.Process(target=in_parallel, args=(lambda _first, _last: None, 2))
    child.start()
    child.join(20)
    hung = child.is_alive()
    child.kill()
    assert not hung
    child.join()
