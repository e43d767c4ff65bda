"""Networks against each other: scores with intervals, and where they disagree.

The first network is the one that the others are measured against.
"""

import glob
import itertools
import math
import re
import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float64, Int64

from deconvnet.checkpoint import Config, build_network, bundled_names, find_checkpoint
from deconvnet.data import Dataset, open_dataset, recognised
from deconvnet.data.image_files import IMAGE_SUFFIXES, image_size, read_image
from deconvnet.data.scenes import is_scenes
from deconvnet.errors import DataError
from deconvnet.evaluate import check_classes
from deconvnet.labels import IGNORED, Classes
from deconvnet.metrics import Scores
from deconvnet.metrics.bootstrap import (
    LEVEL,
    Interval,
    PictureCounts,
    intervals,
    resampled,
    score_names,
)
from deconvnet.predict import Predictor, Segmentation
from deconvnet.predict_files import PictureFile, find_pictures
from deconvnet.progress import tracked
from deconvnet.shapes import Image, InstanceMap, LabelMap

DRAWS = 2000
"""Data sets drawn from the pictures for the intervals."""

VERDICTS = ("both right", "only the first right", "only the second right", "both wrong")
"""How two networks can stand to the truth at a pixel."""


class Picture(NamedTuple):
    """A picture to compare on, and what is in it where that is known."""

    image: Image
    name: str
    label_map: LabelMap | None = None
    instance_map: InstanceMap | None = None


@dataclass(frozen=True)
class Source:
    """Where the pictures come from."""

    title: str
    """In words, such as `camvid, split val`."""
    count: int
    read: Callable[[int], Picture] = field(repr=False)
    classes: Classes | None = field(default=None, repr=False)
    """None where there is no truth."""

    @classmethod
    def of_data(cls, dataset: Dataset, title: str) -> "Source":
        """The pictures and the truth of a data set."""

        def read(index: int) -> Picture:
            sample = dataset[index]
            return Picture(sample.image, sample.name, sample.label_map, sample.instance_map)

        return cls(f"{title}, split {dataset.split}", len(dataset), read, dataset.classes)

    @classmethod
    def of_pictures(cls, files: Sequence[PictureFile]) -> "Source":
        """Pictures without truth.

        Raises:
            ImageFileError: If a file is no picture.
        """
        for file in files:
            image_size(file.path)
        title = (
            files[0].path.name if len(files) == 1 else f"{len(files)} pictures without truth"
        )
        return cls(
            title,
            len(files),
            lambda index: Picture(read_image(files[index].path), files[index].name),
        )


@dataclass(frozen=True)
class Contender:
    """One of the networks."""

    name: str
    """Short, and different from the others'."""
    checkpoint: str
    config: Config = field(repr=False)
    segment: Callable[[Image], Segmentation] = field(repr=False)

    @property
    def parameters(self) -> int:
        """Numbers that training sets, counted before an engine rewrites the network."""
        with torch.device("meta"):
            return sum(p.numel() for p in build_network(self.config).parameters())


@dataclass(frozen=True, eq=False)
class Disagreement:
    """Where a network disagrees with the first one."""

    pairs: Int64[np.ndarray, "k k"]
    """Pixels by the first network's class (row) and this one's (column)."""
    verdicts: Int64[np.ndarray, " 4"]
    """Counted pixels by VERDICTS; zeros where there is no truth."""

    @property
    def share(self) -> float:
        """Of all pixels, 0 to 1."""
        return float(1 - np.trace(self.pairs) / self.pairs.sum())

    def top(self, names: Sequence[str], count: int = 6) -> list[tuple[str, str, float]]:
        """The most frequent different answers: the first's, this one's, share of all pixels."""
        apart = np.where(np.eye(len(self.pairs), dtype=bool), 0, self.pairs)
        best = np.argsort(-apart, axis=None, kind="stable")[:count]
        places = zip(*np.unravel_index(best, apart.shape), strict=True)
        total = self.pairs.sum()
        return [
            (names[row], names[column], float(apart[row, column] / total))
            for row, column in places
            if apart[row, column]
        ]


@dataclass(frozen=True, eq=False)
class Comparison:
    """What networks reached on the same pictures."""

    contenders: tuple[Contender, ...]
    source: Source
    counts: tuple[PictureCounts, ...]
    """Of each network; empty where there is no truth."""
    disagreements: tuple[Disagreement, ...]
    """Of each network but the first, with the first."""
    pictures: tuple[str, ...]
    """Names of the pictures."""
    apart: Float64[np.ndarray, "n others"]
    """Share of each picture where a network disagrees with the first, 0 to 1."""
    seconds: Float64[np.ndarray, "n networks"]
    """Taken for each picture by each network."""
    packed: tuple[tuple[bytes, ...], ...] = field(repr=False)
    """Label maps, compressed, by picture and network."""
    seed: int = 0

    @property
    def classes(self) -> Classes:
        """What the networks tell apart, in the data set's words where there is one."""
        return self.source.classes or self.contenders[0].config.classes

    @property
    def milliseconds(self) -> list[float]:
        """The median time a picture takes each network."""
        return [1000 * float(value) for value in np.median(self.seconds, axis=0)]

    @cached_property
    def scores(self) -> list[dict[str, Interval]]:
        """Every score of each network by name (score_names), with its interval."""
        return [self._named(value, draws) for value, draws in self._values_and_draws]

    @cached_property
    def differences(self) -> list[dict[str, Interval]]:
        """The same less the first network's, for each but the first; paired over pictures."""
        (first, first_draws), *others = self._values_and_draws or [(np.empty(0), np.empty(0))]
        return [self._named(value - first, draws - first_draws) for value, draws in others]

    def order(self) -> list[int]:
        """The pictures from where the second network wins most to where it loses most.

        Without truth: from where the two disagree most.
        """
        if not self.counts:
            return [int(index) for index in np.argsort(-self.apart[:, 0], kind="stable")]
        return [int(i) for i in np.argsort(-np.nan_to_num(self.gains()), kind="stable")]

    def gains(self) -> Float64[np.ndarray, " n"]:
        """Mean IoU of the second network less the first's, in each picture alone."""
        gains: Float64[np.ndarray, " n"] = (
            self.counts[1].each_mean_iou - self.counts[0].each_mean_iou
        )
        return gains

    def label_map(self, picture: int, network: int, shape: tuple[int, int]) -> LabelMap:
        """What a network said about a picture of this (height, width)."""
        labels = zlib.decompress(self.packed[picture][network])
        return np.frombuffer(labels, np.uint8).reshape(shape)

    @cached_property
    def _values_and_draws(
        self,
    ) -> list[tuple[Float64[np.ndarray, " s"], Float64[np.ndarray, "d s"]]]:
        """Every score of each network, and the same for each draw of the pictures."""
        once = np.ones((1, len(self.pictures)), dtype=np.int64)
        times = resampled(len(self.pictures), DRAWS, self.seed)
        return [(counts.scores(once)[0], counts.scores(times)) for counts in self.counts]

    def _named(
        self, values: Float64[np.ndarray, " s"], draws: Float64[np.ndarray, "d s"]
    ) -> dict[str, Interval]:
        found = intervals(values, draws)
        if len(self.pictures) < 2:  # drawn again, one picture is always itself
            found = [Interval(score.value, math.nan, math.nan) for score in found]
        return dict(zip(score_names(self.classes.names), found, strict=True))

    def to_json(self) -> dict[str, Any]:
        """Everything measured, 0 to 1; none where a score does not exist."""
        networks = []
        for index, contender in enumerate(self.contenders):
            networks.append(
                {
                    "name": contender.name,
                    "checkpoint": contender.checkpoint,
                    "model": contender.config.model,
                    "parameters": contender.parameters,
                    "milliseconds": self.milliseconds[index],
                    "scores": _plain(self.scores[index]) if self.counts else None,
                    "less_the_first": _plain(self.differences[index - 1])
                    if self.counts and index
                    else None,
                }
            )
        each = np.stack([c.each_mean_iou for c in self.counts], 1) if self.counts else None
        return {
            "made_by": "deconvnet compare",
            "source": self.source.title,
            "images": len(self.pictures),
            "interval": {"level": LEVEL, "draws": DRAWS, "seed": self.seed, "over": "pictures"},
            "networks": networks,
            "disagreement": [self._disagreement(i) for i in range(len(self.disagreements))],
            "pictures": [
                {
                    "name": name,
                    "mean_iou": None if each is None else [_or_none(v) for v in each[index]],
                    "disagreement": [float(value) for value in self.apart[index]],
                }
                for index, name in enumerate(self.pictures)
            ],
        }

    def _disagreement(self, index: int) -> dict[str, Any]:
        found, counted = self.disagreements[index], self.disagreements[index].verdicts.sum()
        verdicts = zip(VERDICTS, found.verdicts, strict=True)
        return {
            "first": self.contenders[0].name,
            "second": self.contenders[index + 1].name,
            "share": found.share,
            "verdicts": {name: float(pixels / counted) for name, pixels in verdicts}
            if counted
            else None,
            "top": [list(pair) for pair in found.top(self.classes.names)],
        }

    def to_text(self) -> str:
        """A short table for people, scores in percent."""
        names = [contender.name for contender in self.contenders]
        rows = [["", *names]]
        if self.counts:
            rows[0] += [f"{name} less {names[0]}" for name in names[1:]]
            for key, label in SHOWN:
                found = [in_percent(scores[key]) for scores in self.scores]
                rows.append(
                    [label, *found, *(signed(scores[key]) for scores in self.differences)]
                )
        rows.append(["ms a picture", *(f"{value:.0f}" for value in self.milliseconds)])
        rows.append(["parameters", *(f"{c.parameters:,}" for c in self.contenders)])
        about = self.source.title
        if self.counts:
            about = (
                f"{len(self.pictures)} pictures of {about}; percent, with 95 % intervals over "
                "pictures\n* marks a difference whose interval leaves out 0"
                if len(self.pictures) > 1
                else f"1 picture of {about}; percent; there are intervals from 2 pictures on"
            )
        apart = [
            f"{name} and {names[0]} disagree on {100 * found.share:.1f} % of the pixels."
            for name, found in zip(names[1:], self.disagreements, strict=True)
        ]
        return "\n".join([about, "", *_aligned(rows), "", *apart])


SHOWN = (
    ("mean_iou", "mIoU"),
    ("pixel_accuracy", "pixel accuracy"),
    ("boundary_f1", "boundary F1"),
    ("iou_by_size.small", "IoU, small objects"),
    ("iou_by_size.medium", "IoU, medium objects"),
    ("iou_by_size.large", "IoU, large objects"),
)
"""The scores of the short table, and their names in it."""


def told_apart(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Which words name networks, and which a data set or pictures.

    Args:
        words: Checkpoints, and then a data set, or pictures (files, folders, patterns).

    Raises:
        CheckpointError: If there is nothing at a place where a network is due.
        DataError: If fewer than two networks, or nothing to compare them on, are among them.
    """
    run = next(
        (word for word in words if (Path(word) / "best" / "config.json").is_file()), None
    )
    if run is not None:
        raise DataError(
            f"{run} is the folder of a training run; name the network in it, {run}/best."
        )
    networks = list(itertools.takewhile(_is_checkpoint, words))
    rest = list(words[len(networks) :])
    late = next((word for word in rest if _is_checkpoint(word)), None)
    missing = rest and not (is_scenes(rest[0]) or Path(rest[0]).exists())
    if missing and (late or len(networks) < 2) and not glob.has_magic(rest[0]):
        find_checkpoint(rest[0])  # says that there is none
    if late is not None:
        raise DataError(
            f"{late} is a network, and {rest[0]}, before it, is none; name all networks first, "
            "then the data set or pictures."
        )
    if len(networks) < 2:
        given = f"{networks[0]} alone is" if networks else "none is"
        raise DataError(
            f"A comparison takes two networks or more, and {given} given; name two checkpoints "
            "(folders such as RUN/best, or bundled names), then a data set or pictures."
        )
    if not rest:
        last = networks[-1]
        here = Path(last).exists() or last in bundled_names()
        taken = "" if here else f"; {last} is not here, so it was taken for one on the Hub"
        raise DataError(
            "There is nothing to compare the networks on; name a data set, `scenes`, or "
            f"pictures after them{taken}."
        )
    return networks, rest


def open_source(
    words: Sequence[str],
    split: str = "val",
    *,
    format: str | None = None,  # noqa: A002 - the command line's word
    mask_values: Sequence[int] | None = None,
) -> Source:
    """A data set, or pictures, from what the command line names.

    A folder is a data set where its layout is known, and else a folder of pictures.

    Raises:
        DataError: If there is no such data set, split or picture.
    """
    first = Path(words[0])
    layouts = format is not None or is_scenes(words[0])
    if not layouts and first.is_dir():
        with suppress(DataError):
            layouts = bool(recognised(first))
    if not layouts:
        return Source.of_pictures(find_pictures(words))
    if len(words) > 1:
        raise DataError(
            f"{words[0]} is a data set, and {words[1]} came after it; compare on one data set, "
            "or on pictures alone."
        )
    dataset = open_dataset(words[0], split, format=format, mask_values=mask_values)
    return Source.of_data(
        dataset, "drawn scenes" if is_scenes(words[0]) else first.resolve().name
    )


def open_contenders(
    checkpoints: Sequence[str], load: Callable[[str], Predictor], **options: Any
) -> tuple[Contender, ...]:
    """Load the networks, each under a short name of its own.

    Args:
        checkpoints: As everywhere: bundled names, folders, Hub ids.
        load: Makes a predictor of one.
        options: Of the predictors' calls.

    Raises:
        CheckpointError: If there is no such network.
        DataError: If they do not tell apart the same classes.
    """
    made = []
    for name, checkpoint in zip(short_names(checkpoints), checkpoints, strict=True):
        predictor = load(checkpoint)
        made.append(
            Contender(name, checkpoint, predictor.config, partial(predictor, **options))
        )
        ours, theirs = made[0].config.classes.names, predictor.classes.names
        if ours != theirs:
            strange = [n for n in (*theirs, *ours) if (n in ours) != (n in theirs)]
            raise DataError(
                f"{made[0].checkpoint} and {checkpoint} tell apart different classes "
                f"({len(ours)} and {len(theirs)}"
                + (
                    f"; {', '.join(strange[:4])} in one of them only"
                    if strange
                    else ", in another order"
                )
                + "); compare networks that were trained on the same classes."
            )
    return tuple(made)


def compare(
    contenders: Sequence[Contender], source: Source, *, seed: int = 0, quiet: bool = False
) -> Comparison:
    """Let every network segment every picture, picture by picture, and count.

    Memory grows by some kilobytes a picture: label maps are kept compressed.

    Args:
        contenders: Two networks or more.
        source: The pictures.
        seed: Of the draws behind the intervals.
        quiet: Show no progress.

    Raises:
        DataError: If the data set has other classes than the networks.
    """
    classes = contenders[0].config.classes
    if source.classes is not None:
        check_classes(classes, source.classes)
        classes = source.classes
    number = len(classes)
    empty = Scores.empty(number, background=classes.background)
    scores: list[list[Scores]] = [[] for _ in contenders]
    pairs = np.zeros((len(contenders) - 1, number, number), np.int64)
    verdicts = np.zeros((len(contenders) - 1, len(VERDICTS)), np.int64)
    names, apart, seconds, packed = [], [], [], []
    for index in tracked(range(source.count), "compare", source.count, quiet=quiet):
        picture = source.read(index)
        maps, times = [], []
        for contender in contenders:
            began = time.perf_counter()
            maps.append(contender.segment(picture.image).label_map)
            times.append(time.perf_counter() - began)
        for other, label_map in enumerate(maps[1:]):
            pairs[other] += _pairs(maps[0], label_map, number)
            if picture.label_map is not None:
                verdicts[other] += _verdicts(maps[0], label_map, picture.label_map)
        if picture.label_map is not None:
            for kept, label_map in zip(scores, maps, strict=True):
                kept.append(empty.add(label_map, picture.label_map, picture.instance_map))
        names.append(picture.name)
        seconds.append(times)
        apart.append([float(np.mean(label_map != maps[0])) for label_map in maps[1:]])
        packed.append(tuple(zlib.compress(m.tobytes(), 1) for m in maps))
    return Comparison(
        tuple(contenders),
        source,
        tuple(map(PictureCounts.of, scores)) if source.classes is not None else (),
        tuple(Disagreement(*found) for found in zip(pairs, verdicts, strict=True)),
        tuple(names),
        np.array(apart),
        np.array(seconds),
        tuple(packed),
        seed,
    )


def short_names(checkpoints: Sequence[str]) -> list[str]:
    """A short name for each network that tells it from the others.

    >>> short_names(["runs/unet/best", "runs/segnet/best"])
    ['unet', 'segnet']
    >>> short_names(["a/net/best", "b/net/best", "b/net/best"])
    ['a/net', 'b/net', 'b/net 2']
    """
    parts = []
    for checkpoint in checkpoints:
        words = [word for word in Path(checkpoint).parts if word not in {"/", ".", ".."}]
        if not words or ".." in Path(checkpoint).parts:
            words = [word for word in Path(checkpoint).resolve().parts if word != "/"]
        parts.append(words[:-1] if len(words) > 1 and words[-1] in {"best", "last"} else words)
    distinct = len({tuple(words) for words in parts})
    if distinct < len(
        {str(checkpoint) for checkpoint in checkpoints}
    ):  # best and last of one run
        parts = [list(Path(checkpoint).resolve().parts) for checkpoint in checkpoints]
        distinct = len({tuple(words) for words in parts})
    longest = max(map(len, parts))
    depth = next(
        n for n in range(1, longest + 1) if len({tuple(p[-n:]) for p in parts}) == distinct
    )
    names = ["/".join(words[-depth:]) for words in parts]
    return [
        name if names[:index].count(name) == 0 else f"{name} {names[:index].count(name) + 1}"
        for index, name in enumerate(names)
    ]


def in_percent(score: Interval) -> str:
    """Score and interval, in percent.

    >>> in_percent(Interval(0.4256, 0.4012, 0.4501))
    '42.6 (40.1 to 45.0)'
    """
    if math.isnan(score.value):
        return "–"
    value, low, high = (100 * number for number in score)
    return f"{value:.1f}" + ("" if math.isnan(low) else f" ({low:.1f} to {high:.1f})")


def signed(score: Interval) -> str:
    """A difference in points of percent; starred where its interval leaves out 0.

    >>> signed(Interval(0.031, 0.012, 0.05))
    '+3.1 (+1.2 to +5.0) *'
    """
    if math.isnan(score.value):
        return "–"
    value, low, high = (100 * number for number in score)
    if math.isnan(low):
        return f"{value:+.1f}  "
    return f"{value:+.1f} ({low:+.1f} to {high:+.1f})" + (
        " *" if score.is_beside_zero else "  "
    )


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """The rows of a table as lines, all columns but the first to the right."""
    wide = [max(len(row[i]) for row in rows if i < len(row)) for i in range(len(rows[0]))]
    return [
        "  ".join(
            cell.rjust(wide[column]) if column else cell.ljust(wide[0])
            for column, cell in enumerate(row)
        ).rstrip()
        for row in rows
    ]


def _is_checkpoint(word: str) -> bool:
    """Whether a word names a network rather than a data set or pictures."""
    path = Path(word)
    if (path / "config.json").is_file() or word in bundled_names():
        return True
    is_hub_id = (
        re.fullmatch(r"[\w-]+/[\w.-]+", word) and path.suffix.lower() not in IMAGE_SUFFIXES
    )
    return bool(is_hub_id) and not path.exists() and not path.parent.exists()


def _pairs(first: LabelMap, second: LabelMap, number: int) -> Int64[np.ndarray, "k k"]:
    cells = first.astype(np.int64) * number + second
    return np.bincount(cells.ravel(), minlength=number**2).reshape(number, number)


def _verdicts(first: LabelMap, second: LabelMap, truth: LabelMap) -> Int64[np.ndarray, " 4"]:
    counted = truth != IGNORED
    code = 2 * (first != truth) + (second != truth)  # 0 both right, 1 only the first, ...
    return np.bincount(code[counted], minlength=len(VERDICTS))


def _plain(scores: dict[str, Interval]) -> dict[str, Any]:
    return {
        name: None if math.isnan(score.value) else [_or_none(value) for value in score]
        for name, score in scores.items()
    }


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
