"""What is wrong with a data set, found before training starts; and what its classes weigh."""

import random
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from deconvnet.data import open_dataset, recognised
from deconvnet.data.class_statistics import (
    ClassStatistics,
    median_frequency_weights,
    statistics_of,
)
from deconvnet.data.duplicates import Duplicate, Named, find_duplicates
from deconvnet.data.findings import (
    Sizes,
    problems_between,
    problems_of_duplicates,
    problems_of_files,
    problems_of_unlabelled,
    problems_of_whole,
    sizes_of,
)
from deconvnet.data.joined import JOINS, JoinedDataset
from deconvnet.data.look import Look, Problem, counts_of, label_counts, look_at
from deconvnet.data.pairs import PairDataset
from deconvnet.data.sample import Dataset
from deconvnet.data.scenes import Scenes, is_scenes
from deconvnet.errors import DataError, MissingExtraError, UserError
from deconvnet.labels import Classes
from deconvnet.progress import tracked
from deconvnet.shapes import Float32

__all__ = [
    "ClassStatistics",
    "Problem",
    "Report",
    "check_dataset",
    "class_statistics",
    "examine",
    "median_frequency_weights",
    "quick_check",
    "survey",
]

DRAWN_SAMPLE = 200
"""Drawn pictures have no end, so that so many stand for all in the statistics."""

QUICK_SECONDS = 1.0
"""How long the check before a training may look at each of train and val."""

SHOWN = 25
"""Problems printed; the JSON has them all."""

_THREADS = 4
_BATCH = 16


class Survey(NamedTuple):
    """What was found in one split."""

    problems: tuple[Problem, ...]
    statistics: ClassStatistics
    looks: tuple[Look, ...]
    sizes: Sizes | None


@dataclass(frozen=True)
class Report:
    """What check-data found."""

    data: str
    classes: Classes | None
    """None where it could not be found out."""
    splits: dict[str, Dataset]
    """Those that could be opened."""
    statistics: dict[str, ClassStatistics]
    """Of each split."""
    problems: tuple[Problem, ...]
    sizes: dict[str, Sizes]
    """Of the pictures of each split that has files."""
    duplicates: tuple[Duplicate, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """Pictures of each split."""
        return {split: len(dataset) for split, dataset in self.splits.items()}

    @property
    def can_train(self) -> bool:
        """Whether training could start."""
        return not any(problem.severity == "error" for problem in self.problems)

    @property
    def verdict(self) -> str:
        """The whole report in a sentence."""
        counted = [f"{count} in {split}" for split, count in self.counts.items()]
        counted[:1] = [first.replace(" in", " pictures in") for first in counted[:1]]
        errors = sum(problem.severity == "error" for problem in self.problems)
        warnings = len(self.problems) - errors
        look = f"; {_counted(warnings, 'warning')} to look at" if warnings else ""
        verdict = "can be trained on"
        if errors:
            verdict = f"cannot be trained on yet ({_counted(errors, 'error')})"
        return f"{self.data} {verdict}: {', '.join(counted) or 'no pictures'}{look}."

    def to_json(self) -> dict[str, Any]:
        """Everything as plain values."""
        names = self.classes.names if self.classes else ()
        splits: dict[str, Any] = {
            split: {
                "pictures": self.counts[split],
                "ignored_share": statistics.ignored_share,
                "pixels": _by_name(names, statistics.pixels),
                "pictures_with": _by_name(names, statistics.pictures),
                "sizes": self.sizes[split]._asdict() if split in self.sizes else None,
            }
            for split, statistics in self.statistics.items()
        }
        weights = self.weights
        return {
            "data": self.data,
            "can_train": self.can_train,
            "verdict": self.verdict,
            "classes": list(names),
            "splits": splits,
            "median_frequency_weights": None if weights is None else _by_name(names, weights),
            "problems": [problem._asdict() for problem in self.problems],
            "duplicates": [duplicate._asdict() for duplicate in self.duplicates],
        }

    def to_text(self) -> str:
        """A verdict for people, the problems, and a table of the classes."""
        lines = [self.verdict]
        ordered = sorted(self.problems, key=lambda problem: problem.severity)  # errors first
        lines += [f"{problem.severity}: {problem.sentence}" for problem in ordered[:SHOWN]]
        if ordered[SHOWN:]:
            lines.append(f"... and {len(ordered) - SHOWN} more; --json has them all.")
        lines += [f"{split}: {sizes.in_words}" for split, sizes in self.sizes.items()]
        weights = self.weights
        if self.classes and weights is not None:
            statistics = self.statistics["train"]
            total = max(int(statistics.pixels.sum()), 1)
            lines += ["", f"{'class of train':<20} {'pixels':>8} {'pictures':>9} {'weight':>8}"]
            lines += [
                f"{name:<20} {pixels / total:>8.2%} {pictures:>9} {weight:>8.4f}"
                for name, pixels, pictures, weight in zip(
                    self.classes.names,
                    statistics.pixels.tolist(),
                    statistics.pictures.tolist(),
                    weights.tolist(),
                    strict=True,
                )
            ]
            lines += [f"{'ignored':<20} {statistics.ignored_share:>8.2%} of all pixels"]
        return "\n".join(lines)

    @property
    def weights(self) -> Float32[np.ndarray, " k"] | None:
        """What each class would weigh in the loss; None where there is no train."""
        train = self.statistics.get("train")
        return median_frequency_weights(train) if train else None


def examine(
    path: str | Path,
    *,
    format: str | None = None,  # noqa: A002 - the command line's word
    mask_values: Sequence[int] | None = None,
    quiet: bool = True,
) -> Report:
    """Look at all the splits of a data set.

    Args:
        path: As open_dataset takes it.
        format: As open_dataset takes it.
        mask_values: As open_dataset takes them.
        quiet: Show no progress.

    Raises:
        DataError: If there is no such folder, its layout is unknown, or it is several.
        MissingExtraError: If its layout needs a library that is not installed.
    """
    if JOINS in str(path):
        raise DataError(f"{path} are several data sets; check one at a time.")
    if format != "scenes" and not is_scenes(path):
        wanted = "folder" if format is None and mask_values is not None else format
        format = recognised(path, wanted)  # noqa: A001 - as above
    problems: list[Problem] = []
    splits: dict[str, Dataset] = {}
    for split in ("train", "val", "test"):
        try:
            splits[split] = open_dataset(
                path, split, format=format, mask_values=mask_values, check_files=False
            )
        except MissingExtraError:
            raise
        except UserError as error:
            if split == "train":
                problems.append(Problem("error", str(path), str(error)))
            elif split == "val" and "train" in splits:
                problems.append(Problem("warning", str(path), str(error)))
    surveys = {split: survey(dataset, quiet=quiet) for split, dataset in splits.items()}
    statistics = {split: found.statistics for split, found in surveys.items()}
    duplicates = find_duplicates(
        {split: _named(found.looks) for split, found in surveys.items()}
    )
    for found in surveys.values():
        problems += found.problems
    problems += _in_two_splits(splits)
    problems += problems_of_duplicates(duplicates)
    problems += problems_between(splits, statistics)
    return Report(
        str(path),
        next((dataset.classes for dataset in splits.values()), None),
        splits,
        statistics,
        tuple(problems),
        {split: found.sizes for split, found in surveys.items() if found.sizes},
        tuple(duplicates),
    )


def _in_two_splits(splits: dict[str, Dataset]) -> Iterator[Problem]:
    home: dict[str, str] = {}
    for split, dataset in splits.items():
        shared = [name for name in dataset.names if name in home]
        if shared:
            sentence = (
                f"{len(shared)} pictures of {split} are also in {home[shared[0]]}, such as "
                f"{shared[0]}; scores on them say nothing. Take them out of one."
            )
            yield Problem("warning", split, sentence)
        home |= dict.fromkeys(dataset.names, split)


def check_dataset(dataset: Dataset) -> list[Problem]:
    """What is wrong with one split: files, sizes, label values, classes.

    Every mask is decoded, and every picture, JPEG at an eighth of its size, which finds damaged
    files at a third of the time.
    """
    return list(survey(dataset).problems)


def quick_check(dataset: Dataset, *, seconds: float = QUICK_SECONDS) -> list[Problem]:
    """What is wrong with one split, as far as it can be found in a short time.

    Pictures are looked at in an order that mixes the folders, until the time is spent: a small
    data set is looked at wholly. What it finds is so; what it does not find may still be.
    """
    if isinstance(dataset, JoinedDataset):
        share = seconds / len(dataset.parts)
        return [p for part in dataset.parts for p in quick_check(part, seconds=share)]
    if not isinstance(dataset, PairDataset):
        return []
    order = random.Random(0).sample(dataset.pairs, len(dataset))  # the same in every run
    end = time.monotonic() + seconds
    looks: list[Look] = []
    with ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, len(order), _BATCH):
            batch = order[start : start + _BATCH]
            looks += pool.map(lambda pair: look_at(dataset, pair), batch)
            if time.monotonic() > end:
                break
    if len(looks) == len(dataset):
        return list(_survey_of(dataset, looks).problems)
    seen = [problem for look in looks for problem in look.problems]
    return [*problems_of_unlabelled(dataset), *seen]


def class_statistics(dataset: Dataset) -> ClassStatistics:
    """How much of each class a data set holds; masks that cannot be read are left out.

    Of drawn pictures DRAWN_SAMPLE stand for all.
    """
    places = range(len(dataset))
    if isinstance(dataset, PairDataset):
        with ThreadPoolExecutor(_THREADS) as pool:
            counts = list(pool.map(lambda pair: counts_of(dataset, pair), dataset.pairs))
        return statistics_of([c for c in counts if c is not None], len(dataset.classes))
    if isinstance(dataset, Scenes):
        places = places[:DRAWN_SAMPLE]
    return statistics_of(
        [label_counts(dataset[place].label_map) for place in places], len(dataset.classes)
    )


def survey(dataset: Dataset, *, quiet: bool = True) -> Survey:
    """All that is found in one split, in one reading."""
    if not isinstance(dataset, PairDataset):
        return Survey((), class_statistics(dataset), (), None)
    with ThreadPoolExecutor(_THREADS) as pool:
        looks = tracked(
            pool.map(lambda pair: look_at(dataset, pair), dataset.pairs),
            f"check {dataset.split}",
            len(dataset),
            quiet=quiet,
        )
        return _survey_of(dataset, list(looks))


def _survey_of(dataset: PairDataset, looks: list[Look]) -> Survey:
    counts = [look.counts for look in looks if look.counts is not None]
    statistics = statistics_of(counts, len(dataset.classes))
    problems = [problem for look in looks for problem in look.problems]
    problems += problems_of_whole(dataset, statistics)
    problems += problems_of_files(dataset, looks)
    return Survey(tuple(problems), statistics, tuple(looks), sizes_of(looks))


def _named(looks: Iterable[Look]) -> list[Named]:
    return [
        Named(look.pair.name, f"{look.pair.image}:{look.pair.page}", look.fingerprint)
        for look in looks
        if look.fingerprint is not None
    ]


def _by_name(names: Iterable[str], values: np.ndarray) -> dict[str, Any]:
    return dict(zip(names, values.tolist(), strict=True))


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
