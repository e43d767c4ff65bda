"""What is wrong with a data set, found before training starts; and what its classes weigh."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from deconvnet.data import open_dataset, recognised
from deconvnet.data.image_files import image_size, opened
from deconvnet.data.mask_files import read_mask
from deconvnet.data.pairs import PairDataset, PairFiles, check_sizes
from deconvnet.data.sample import Dataset
from deconvnet.data.scenes import Scenes, is_scenes
from deconvnet.errors import UserError
from deconvnet.labels import IGNORED, Classes
from deconvnet.progress import tracked
from deconvnet.shapes import Float32, Int64

DRAWN_SAMPLE = 200
"""Drawn pictures have no end, so that so many stand for all in the statistics."""

_THREADS = 4
_MUCH_IGNORED = 0.5


class Problem(NamedTuple):
    """Something that stops training (error) or may spoil it (warning)."""

    severity: Literal["error", "warning"]
    path: str
    """The file or folder, or the split."""
    sentence: str


@dataclass(frozen=True)
class ClassStatistics:
    """How much of each class a data set holds; the arrays have an entry for each class."""

    pixels: Int64[np.ndarray, " k"]
    """Pixels of the class."""
    pictures: Int64[np.ndarray, " k"]
    """Pictures that contain it."""
    pixels_around: Int64[np.ndarray, " k"]
    """All pixels of these pictures, ignored ones too."""
    ignored: int
    """Pixels that count nowhere."""

    @property
    def ignored_share(self) -> float:
        """Share of all pixels that counts nowhere."""
        return self.ignored / max(self.ignored + int(self.pixels.sum()), 1)


@dataclass(frozen=True)
class Report:
    """What check-data found."""

    data: str
    classes: Classes | None
    """None where it could not be found out."""
    statistics: dict[str, ClassStatistics]
    """Of each split that could be opened."""
    counts: dict[str, int]
    """Pictures of each split."""
    problems: tuple[Problem, ...]

    @property
    def can_train(self) -> bool:
        """Whether training could start."""
        return not any(problem.severity == "error" for problem in self.problems)

    def to_json(self) -> dict[str, Any]:
        """Everything as plain values."""
        names = self.classes.names if self.classes else ()
        splits: dict[str, Any] = {
            split: {
                "pictures": self.counts[split],
                "ignored_share": statistics.ignored_share,
                "pixels": _by_name(names, statistics.pixels),
                "pictures_with": _by_name(names, statistics.pictures),
            }
            for split, statistics in self.statistics.items()
        }
        weights = self._weights()
        return {
            "data": self.data,
            "can_train": self.can_train,
            "classes": list(names),
            "splits": splits,
            "median_frequency_weights": None if weights is None else _by_name(names, weights),
            "problems": [problem._asdict() for problem in self.problems],
        }

    def to_text(self) -> str:
        """A verdict for people, the problems, and a table of the classes."""
        counted = ", ".join(f"{count} in {split}" for split, count in self.counts.items())
        verdict = "can be trained on" if self.can_train else "cannot be trained on yet"
        lines = [f"{self.data} {verdict}: {counted or 'no'} pictures."]
        lines += [f"{problem.severity}: {problem.sentence}" for problem in self.problems]
        weights = self._weights()
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

    def _weights(self) -> Float32[np.ndarray, " k"] | None:
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
        DataError: If there is no such folder or its layout is unknown.
    """
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
        except UserError as error:
            if split == "train":
                problems.append(Problem("error", str(path), str(error)))
            elif split == "val" and "train" in splits:
                problems.append(Problem("warning", str(path), str(error)))
    statistics: dict[str, ClassStatistics] = {}
    for split, dataset in splits.items():
        found, statistics[split] = survey(dataset, quiet=quiet)
        problems += found
    problems += _in_two_splits(splits)
    return Report(
        str(path),
        next((dataset.classes for dataset in splits.values()), None),
        statistics,
        {split: len(dataset) for split, dataset in splits.items()},
        tuple(problems),
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
    return survey(dataset)[0]


def class_statistics(dataset: Dataset) -> ClassStatistics:
    """How much of each class a data set holds; masks that cannot be read are left out.

    Of drawn pictures DRAWN_SAMPLE stand for all.
    """
    places = range(len(dataset))
    if isinstance(dataset, PairDataset):
        with ThreadPoolExecutor(_THREADS) as pool:
            counts = list(pool.map(lambda pair: _counts_in(dataset, pair), dataset.pairs))
        return _statistics([c for c in counts if c is not None], len(dataset.classes))
    if isinstance(dataset, Scenes):
        places = places[:DRAWN_SAMPLE]
    return _statistics(
        [_label_counts(dataset[place].label_map) for place in places], len(dataset.classes)
    )


def median_frequency_weights(statistics: ClassStatistics) -> Float32[np.ndarray, " k"]:
    """Weights that make rare classes count: median frequency over the class's frequency.

    The frequency of a class is its share of the pixels of the pictures that contain it, ignored
    pixels among them. A class that never occurs gets 1.

    Source: Eigen & Fergus 2015, section 6.3.2, as SegNet uses it.
    """
    seen = statistics.pixels > 0
    frequency = statistics.pixels[seen] / statistics.pixels_around[seen]
    weights = np.ones(len(seen), np.float32)
    weights[seen] = np.median(frequency) / frequency
    return weights


def survey(dataset: Dataset, *, quiet: bool = True) -> tuple[list[Problem], ClassStatistics]:
    """The problems of one split and its statistics, in one reading."""
    if not isinstance(dataset, PairDataset):
        return [], class_statistics(dataset)
    with ThreadPoolExecutor(_THREADS) as pool:
        looks = tracked(
            pool.map(lambda pair: _look_at(dataset, pair), dataset.pairs),
            f"check {dataset.split}",
            len(dataset),
            quiet=quiet,
        )
        seen = list(looks)
    problems = [problem for look in seen for problem in look.problems]
    counts = [look.counts for look in seen if look.counts is not None]
    statistics = _statistics(counts, len(dataset.classes))
    return problems + _problems_of_whole(dataset, statistics), statistics


class _Look(NamedTuple):
    problems: list[Problem]
    counts: Int64[np.ndarray, "256"] | None


def _look_at(dataset: PairDataset, pair: PairFiles) -> _Look:
    """One picture and its masks."""
    problems: list[Problem] = []
    counts = None
    size = None
    try:
        size = image_size(pair.image)
        _decode(pair.image)
    except UserError as error:
        problems.append(Problem("error", str(pair.image), str(error)))
    try:
        label_map = read_mask(pair.mask, dataset.coding)
        counts = _label_counts(label_map)
        if size is not None:
            check_sizes(pair.image, size, pair.mask, label_map.shape)
            if pair.instances is not None:
                instances = image_size(pair.instances)
                check_sizes(pair.image, size, pair.instances, instances)
    except UserError as error:
        problems.append(Problem("error", str(pair.mask), str(error)))
    if counts is not None and counts[IGNORED] == counts.sum():
        sentence = f"{pair.mask} labels nothing: all its pixels are ignored."
        problems.append(Problem("warning", str(pair.mask), sentence))
    return _Look(problems, counts)


def _decode(path: Path) -> None:
    with opened(path) as picture:
        picture.draft("RGB", (picture.width // 8, picture.height // 8))
        picture.load()


def _problems_of_whole(dataset: PairDataset, statistics: ClassStatistics) -> list[Problem]:
    split = dataset.split
    if not dataset.pairs:
        return [Problem("error", split, f"The split {split} has no picture; add some.")]
    problems = []
    present = [
        name
        for name, pixels in zip(dataset.classes.names, statistics.pixels, strict=True)
        if pixels
    ]
    absent = [name for name in dataset.classes.names if name not in present]
    if len(present) < 2:
        sentence = (
            f"The masks of {split} hold {present[0] if present else 'no class'} alone; there "
            "is nothing to tell apart. Label at least two classes."
        )
        problems.append(Problem("error", split, sentence))
    elif absent:
        some = ", ".join(absent[:6]) + (", ..." if absent[6:] else "")
        sentence = f"{len(absent)} classes never occur in {split}: {some}."
        problems.append(Problem("warning", split, sentence))
    if statistics.ignored_share > _MUCH_IGNORED:
        sentence = f"{statistics.ignored_share:.0%} of the pixels of {split} are ignored."
        problems.append(Problem("warning", split, sentence))
    return problems


def _counts_in(dataset: PairDataset, pair: PairFiles) -> Int64[np.ndarray, "256"] | None:
    try:
        return _label_counts(read_mask(pair.mask, dataset.coding))
    except UserError:
        return None


def _label_counts(label_map: np.ndarray) -> Int64[np.ndarray, "256"]:
    return np.bincount(label_map.ravel(), minlength=256)


def _statistics(counts: list[np.ndarray], num_classes: int) -> ClassStatistics:
    table = np.array(counts, np.int64).reshape(-1, 256)
    pixels = table[:, :num_classes]
    whole = table.sum(axis=1, keepdims=True)
    return ClassStatistics(
        pixels=pixels.sum(axis=0),
        pictures=(pixels > 0).sum(axis=0),
        pixels_around=((pixels > 0) * whole).sum(axis=0),
        ignored=int(table[:, IGNORED].sum()),
    )


def _by_name(names: Iterable[str], values: np.ndarray) -> dict[str, Any]:
    return dict(zip(names, values.tolist(), strict=True))
