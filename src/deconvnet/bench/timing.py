"""How calls are timed."""

import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

ROUNDS = 5
"""How often each thing is timed, after once to warm up."""


class Timing(NamedTuple):
    """Seconds a call took: the middle of all rounds, the quickest and the slowest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, seconds: Iterable[float]) -> "Timing":
        """The three, of what each round took."""
        taken = list(seconds)
        return cls(statistics.median(taken), min(taken), max(taken))

    def milliseconds(self, pictures: int = 1) -> tuple[float, float, float]:
        """The three, for each picture of a batch."""
        median, low, high = (round(1e3 * seconds / pictures, 3) for seconds in self)
        return median, low, high


def interleaved(
    calls: Mapping[str, Callable[[], object]], rounds: int = ROUNDS
) -> dict[str, Timing]:
    """Time several things turn by turn, so that a busy moment meets them all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return {name: Timing.of(taken) for name, taken in seconds.items()}
