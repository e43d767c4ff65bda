"""The room where requests are worked on: so many places, a short queue, and an end to patience.

Networks run in threads, which nothing can kill; so each piece of work holds a `Stop` and asks
it between two batches whether it is still wanted. A place is free again when its thread has
really ended, not when the client has gone.
"""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

from torch import Tensor, nn

from deconvnet.predict import Predictor
from deconvnet.web.limits import Limits
from deconvnet.web.problems import WebError

Result = TypeVar("Result")


class StoppedError(Exception):
    """Nobody wants this work any more."""


class Stop:
    """Whether a piece of work is still wanted, and has time left."""

    def __init__(self, seconds: float) -> None:
        self.until = time.monotonic() + seconds
        self._asked = threading.Event()

    def ask(self) -> None:
        """Ask the work to stop at its next check."""
        self._asked.set()

    @property
    def asked(self) -> bool:
        """Whether it was asked to."""
        return self._asked.is_set()

    def check(self) -> None:
        """Raise StoppedError if the work is to stop.

        Raises:
            StoppedError: When it is not wanted any more, or its time is over.
        """
        if self.asked or time.monotonic() > self.until:
            raise StoppedError


class Stoppable(nn.Module):
    """A network that looks at a `Stop` before each batch."""

    def __init__(self, network: nn.Module, stop: Stop) -> None:
        super().__init__()
        self.network = network
        self.stop = stop
        self.training = False

    def forward(self, images: Tensor) -> Tensor:
        """Give the network's logits, unless the work is to stop."""
        self.stop.check()
        logits: Tensor = self.network(images)
        return logits


def stoppable(predictor: Predictor, stop: Stop) -> Predictor:
    """The same predictor, which stops between two batches when it is asked to."""
    return replace(predictor, network=Stoppable(predictor.network, stop))


class Workroom:
    """Runs work in threads, `limits.workers` at a time, with `limits.queue` waiting."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.inside = 0
        """Requests at work or waiting."""
        self.closing = False
        self._free = asyncio.Semaphore(limits.workers)
        self._threads = ThreadPoolExecutor(limits.workers, thread_name_prefix="work")
        self._stops: set[Stop] = set()
        self._recent = 1.0

    @property
    def waiting(self) -> int:
        """Requests that wait for a place."""
        return max(0, self.inside - self.limits.workers)

    def refuse_if_full(self) -> None:
        """Refuse a request that there is no place for.

        Raises:
            WebError: 503 with Retry-After, when the queue is full or the server is ending.
        """
        if self.closing:
            raise WebError(
                503, "The server is being stopped; ask again when it runs.", retry_after=5
            )
        if self.inside >= self.limits.workers + self.limits.queue:
            seconds = max(1, round(self._recent * (self.limits.queue + 1)))
            raise WebError(
                503,
                f"{self.inside} requests are being worked on or wait, as many as this server "
                f"takes; ask again in {seconds} s.",
                code="busy",
                retry_after=min(seconds, 60),
            )

    async def run(self, work: Callable[[Stop], Result]) -> Result:
        """Run work in a thread as soon as there is a place.

        If the caller is cancelled, the work is asked to stop.

        Raises:
            WebError: 503, when there is no place or the time is over.
        """
        stop = Stop(self.limits.seconds)
        future = await self._begin(stop, work)
        try:
            left = max(0.0, stop.until - time.monotonic())
            return await asyncio.wait_for(asyncio.shield(future), left)
        except (TimeoutError, StoppedError):
            if self.closing:
                self.refuse_if_full()
            raise self._too_long() from None
        finally:
            stop.ask()

    async def stream(
        self, work: Callable[[Stop, Callable[[Any], None]], None]
    ) -> AsyncIterator[Any]:
        """Run work that gives something again and again; gives each thing as it comes.

        Closing the iterator asks the work to stop.

        Raises:
            WebError: 503, when there is no place or the time is over.
        """
        stop = Stop(self.limits.seconds)
        given: asyncio.Queue[Any] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        ended = object()

        def give(thing: Any) -> None:
            loop.call_soon_threadsafe(given.put_nowait, thing)

        try:
            future = await self._begin(stop, lambda stop: work(stop, give))
            future.add_done_callback(lambda _: given.put_nowait(ended))
            while (thing := await given.get()) is not ended:
                yield thing
            await future
        except StoppedError:
            if self.closing:
                self.refuse_if_full()
            raise self._too_long() from None
        finally:
            stop.ask()

    def close(self) -> None:
        """Take nothing new, and send those away who wait; work in hand goes on."""
        self.closing = True

    async def empty(self) -> None:
        """Ask all work to stop, and wait until its threads have ended."""
        self.close()
        for stop in list(self._stops):
            stop.ask()
        await asyncio.to_thread(self._threads.shutdown)

    async def _begin(
        self, stop: Stop, work: Callable[[Stop], Result]
    ) -> "asyncio.Future[Result]":
        """Wait for a place, and start the work in it."""
        self.refuse_if_full()
        self.inside += 1
        try:
            left = max(0.0, stop.until - time.monotonic())
            await asyncio.wait_for(self._free.acquire(), left)
        except TimeoutError:
            self.inside -= 1
            raise self._too_long() from None
        except BaseException:
            self.inside -= 1
            raise
        if self.closing:
            self._leave(stop, None, time.monotonic())
            self.refuse_if_full()
        self._stops.add(stop)
        began = time.monotonic()
        future = asyncio.get_running_loop().run_in_executor(self._threads, work, stop)
        future.add_done_callback(lambda done: self._leave(stop, done, began))
        return future

    def _leave(self, stop: Stop, done: "asyncio.Future[Any] | None", began: float) -> None:
        self.inside -= 1
        self._stops.discard(stop)
        self._free.release()
        self._recent = 0.7 * self._recent + 0.3 * (time.monotonic() - began)
        if done is not None and not done.cancelled():
            done.exception()  # looked at, so that asyncio does not complain where nobody waits

    def _too_long(self) -> WebError:
        return WebError(
            503,
            f"The request took more than {self.limits.seconds:g} s, the most this server gives "
            "to one; send a smaller picture, ask for fewer proposals, or come back later.",
            code="time",
            retry_after=max(1, min(60, round(self._recent))),
        )
