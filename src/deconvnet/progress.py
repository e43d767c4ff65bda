"""Progress on stderr: a live line in a terminal, plain lines now and then elsewhere."""

import itertools
import statistics
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress_bar import ProgressBar as RichBar
from rich.text import Text

Item = TypeVar("Item")

BLOCKS = "▁▂▃▄▅▆▇█"

WIDE = 110
"""Columns of a terminal from which the live line has all its parts."""

PLAIN_SECONDS = 15.0
"""Time between two lines where there is no terminal."""


class _Bar(BarColumn):
    """A bar that makes room for figures."""

    def render(self, task: Task) -> RichBar | Text:  # type: ignore[override]
        return Text("") if task.fields["figures"] else super().render(task)


class ProgressBar:
    """How far a piece of work is, shown while the `with` block runs.

    Args:
        what: The work, one or two words.
        total: Its steps.
        start: Steps done before.
        quiet: Show nothing.
    """

    def __init__(self, what: str, total: int, *, start: int = 0, quiet: bool = False) -> None:
        self.what, self.total, self.done, self.quiet = what, total, start, quiet
        self._console = Console(stderr=True, quiet=quiet, soft_wrap=True, highlight=False)
        self._live = None
        self._started = time.monotonic()
        self._start = start
        self._last_line = self._started
        if self._console.is_terminal and not quiet:
            self._live = Progress(
                TextColumn("{task.description}"),
                _Bar() if self._is_narrow else BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[figures]}"),
                *([] if self._is_narrow else [TimeElapsedColumn()]),
                TextColumn("left"),
                TimeRemainingColumn(compact=self._is_narrow),
                console=self._console,
            )
            self._task = self._live.add_task(what, total=total, completed=start, figures="")

    def __enter__(self) -> "ProgressBar":
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.stop()
        elif kind is None and self.done > self._start:
            self._line("")

    @property
    def _is_narrow(self) -> bool:
        """Whether not all there is to say fits into a line."""
        return self._console.width < WIDE

    @property
    def course_width(self) -> int:
        """Signs that a sparkline may have: none where no terminal knows them."""
        if self._live is None or not self._console.encoding.startswith("utf"):
            return 0
        return 6 if self._is_narrow else 20

    def advance(self, steps: int = 1, figures: str = "") -> None:
        """Count steps as done and show figures such as a loss beside them."""
        self.done += steps
        if self._live:
            self._live.update(self._task, completed=self.done, figures=figures)
        elif time.monotonic() - self._last_line > PLAIN_SECONDS and self.done < self.total:
            self._line(figures)

    def say(self, line: str) -> None:
        """Print a line above the progress."""
        self._console.print(line, markup=False)

    def _line(self, figures: str) -> None:
        self._last_line = time.monotonic()
        spent = self._last_line - self._started
        left = spent / max(self.done - self._start, 1) * (self.total - self.done)
        rest = f", about {duration(left)} left" if self.done < self.total else ""
        parts = [f"{self.what} {self.done}/{self.total}", figures, f"{duration(spent)}{rest}"]
        self.say("  ".join(part for part in parts if part))


def tracked(
    items: Iterable[Item], what: str, total: int, *, quiet: bool = False
) -> Iterator[Item]:
    """The items, with progress shown while they are gone through."""
    with ProgressBar(what, total, quiet=quiet) as bar:
        for item in items:
            yield item
            bar.advance()


def say(line: str, *, quiet: bool = False) -> None:
    """Print one line of the log to stderr."""
    if not quiet:
        print(line, file=sys.stderr, flush=True)  # noqa: T201 - the one place beside the cli


def sparkline(values: Sequence[float], width: int = 20) -> str:
    """The course of some numbers in a word: each sign the mean of a share of them, in order.

    >>> sparkline([8.0, 4.0, 2.0, 1.0])
    '█▄▂▁'
    >>> sparkline([1.0] * 50, width=3)
    '▁▁▁'
    """
    count = min(width, len(values))
    edges = [round(place * len(values) / count) for place in range(count + 1)] if count else []
    means = [statistics.fmean(values[a:b]) for a, b in itertools.pairwise(edges)]
    low, span = min(means, default=0.0), max(means, default=0.0) - min(means, default=0.0)
    top = len(BLOCKS) - 1
    return "".join(BLOCKS[round(top * (mean - low) / span) if span else 0] for mean in means)


def duration(seconds: float) -> str:
    """Time in the largest two units.

    >>> duration(125.0)
    '2 min 5 s'
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
