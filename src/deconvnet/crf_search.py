"""Find settings of the CRF for a network and its data: the published ones were found for VOC.

The first half of the pictures is searched on, and the second half, which the search never sees,
gives the scores that are reported. The halves are not mixed, since neighbouring pictures of a
list are often neighbouring frames of a film.
"""

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deconvnet.crf import CrfSettings, refine
from deconvnet.data import Dataset
from deconvnet.errors import DataError, RecipeError
from deconvnet.evaluate import check_classes
from deconvnet.files import write_text
from deconvnet.metrics import Scores
from deconvnet.predict import Predictor
from deconvnet.progress import ProgressBar, tracked

FACTORS = (0.5, 2.0)
"""Each number is tried at so many times its present value."""

NUMBERS = (
    ("bilateral", 2),
    ("bilateral", 0),
    ("bilateral", 1),
    ("gaussian", 1),
    ("gaussian", 0),
)
"""What is searched, what matters most first: weights and sigmas; iterations come last."""

ITERATIONS = (3, 5)
"""Fewer rounds than the published 10, which cost less time."""

STARTS = (CrfSettings(), CrfSettings(gaussian=(3.0, 0.3), bilateral=(20.0, 3.0, 0.5)))
"""The published settings, and a tenth of their strength."""

PICTURES = 40
"""Taken from the list unless more are asked for: half to search on, half to report."""


@dataclass(frozen=True)
class Search:
    """What a search found."""

    best: CrfSettings | None
    """None: without the CRF the network does better, on the half searched on."""
    tried: int
    pictures: tuple[int, int]
    """Searched on, reported on."""
    searched: dict[str, float]
    """mIoU on the half searched on, by settings as text; "none" without the CRF."""
    reported: dict[str, dict[str, float | None]]
    """Scores on the other half: none, published, and best, if there is one."""

    def to_json(self) -> dict[str, Any]:
        """Everything found."""
        return {
            "made_by": "deconvnet ablate --search crf",
            "best": None if self.best is None else str(self.best),
            "tried": self.tried,
            "pictures": {"searched": self.pictures[0], "reported": self.pictures[1]},
            "searched": self.searched,
            "reported": self.reported,
        }

    def to_text(self) -> str:
        """The scores on the unseen half, and how to use what was found."""
        lines = [
            f"{self.tried} settings tried on {self.pictures[0]} pictures; scores in percent on "
            f"{self.pictures[1]} others:",
            "",
            f"{'CRF':<12}{'mIoU':>8}{'boundary F1':>14}",
        ]
        for name, scores in self.reported.items():
            cells = [
                "–" if value is None else f"{100 * value:.1f}"
                for value in (scores["mean_iou"], scores["boundary_f1"])
            ]
            lines.append(f"{name:<12}{cells[0]:>8}{cells[1]:>14}")
        lines.append("")
        if self.best is None:
            lines.append("No settings did better than the network alone: leave --crf out.")
        elif _better(self.reported["best"], self.reported["none"]):
            lines.append(f"Use the best by: --crf-settings {self.best}")
        else:
            lines.append(
                "What was best on the pictures searched on did not help on the others: leave "
                f"--crf out, or search on more pictures. It was --crf-settings {self.best}"
            )
        return "\n".join(lines)


def search_crf(
    predictor: Predictor,
    dataset: Dataset,
    *,
    pictures: int = PICTURES,
    rounds: int = 2,
    quiet: bool = False,
) -> Search:
    """Search the settings of the CRF that give the highest mIoU, coordinate by coordinate.

    The network runs once on each picture; its probabilities wait on the disk as float16.

    Args:
        predictor: The network.
        dataset: Pictures and truth; a list that the network was not trained on.
        pictures: How many of them to take, the first half and the last half of these apart.
        rounds: At most so many times over all coordinates.
        quiet: Show no progress.

    Raises:
        DataError: If there are fewer than two pictures, or the classes do not fit.
        RecipeError: If fewer than two pictures are asked for.
    """
    check_search(predictor, dataset, pictures)
    count = min(pictures, len(dataset))
    chosen = [int(index) for index in np.linspace(0, len(dataset) - 1, count).round()]
    halves = chosen[: count // 2], chosen[count // 2 :]
    with tempfile.TemporaryDirectory(prefix="deconvnet-crf-") as folder:
        kept = _Kept(Path(folder), dataset)
        for index in tracked(chosen, "predict", count, quiet=quiet):
            kept.save(index, predictor.probabilities(dataset[index].image))
        most = len(STARTS) + 1 + rounds * (2 * len(NUMBERS) + len(ITERATIONS))
        with ProgressBar("search", most, quiet=quiet) as bar:

            def score(settings: CrfSettings | None) -> float:
                value = kept.scores(halves[0], settings).confusion.mean_iou
                bar.advance(1, f"mIoU {100 * value:.1f}")
                return value

            searched = _searched(score, rounds)
        best_text = max(searched, key=searched.__getitem__)
        best = None if best_text == "none" else CrfSettings.from_text(best_text)
        told: dict[str, CrfSettings | None] = {"none": None, "published": CrfSettings()}
        if best is not None:
            told["best"] = best
        reported = {name: _summary(kept.scores(halves[1], one)) for name, one in told.items()}
    sizes = len(halves[0]), len(halves[1])
    return Search(best, len(searched) - 1, sizes, searched, reported)


def check_search(predictor: Predictor, dataset: Dataset, pictures: int) -> None:
    """Refuse a search that there are not the pictures for.

    Raises:
        DataError: If there are fewer than two pictures, or the classes do not fit.
        RecipeError: If fewer than two pictures are asked for.
    """
    check_classes(predictor.classes, dataset.classes)
    if pictures < 2:
        raise RecipeError(
            f"pictures is {pictures}; a search needs 2, one to search, one to report."
        )
    if len(dataset) < 2:
        raise DataError(
            f"The split {dataset.split} has one picture; a search needs two or more."
        )


def write_search(found: Search, out: str | Path) -> Path:
    """Write OUT/crf.json; gives its path."""
    path = Path(out) / "crf.json"
    write_text(path, json.dumps(found.to_json(), indent=2) + "\n")
    return path


@dataclass(frozen=True)
class _Kept:
    """Probabilities of pictures, waiting on the disk."""

    folder: Path
    dataset: Dataset

    def save(self, index: int, probabilities: np.ndarray) -> None:
        np.save(self.folder / f"{index}.npy", probabilities.astype(np.float16))

    def scores(self, indices: Sequence[int], settings: CrfSettings | None) -> Scores:
        """Scores on these pictures, one in memory at a time."""
        classes = self.dataset.classes
        total = Scores.empty(len(classes), background=classes.background)
        for index in indices:
            sample = self.dataset[index]
            refined = np.load(self.folder / f"{index}.npy").astype(np.float32)
            if settings is not None:
                refined = refine(sample.image, refined, **settings._asdict())
            labels = refined.argmax(0).astype(np.uint8)
            total = total.add(labels, sample.label_map, sample.instance_map)
        return total


def _searched(score: Callable[[CrfSettings | None], float], rounds: int) -> dict[str, float]:
    """The mIoU of everything tried; from the better start, one coordinate at a time."""
    searched = {"none": score(None), **{str(start): score(start) for start in STARTS}}
    best = max(STARTS, key=lambda start: searched[str(start)])
    for _ in range(rounds):
        before = best
        for number in (*NUMBERS, None):
            for trial in _neighbours(best, number):
                if str(trial) not in searched:
                    searched[str(trial)] = score(trial)
            known = [best, *_neighbours(best, number)]
            best = max(known, key=lambda one: searched[str(one)])
        if best == before:
            break
    return searched


def _neighbours(settings: CrfSettings, number: tuple[str, int] | None) -> Iterator[CrfSettings]:
    """Settings that differ in one number, or in the iterations."""
    if number is None:
        for iterations in ITERATIONS:
            yield settings._replace(iterations=iterations)
        return
    name, place = number
    values = list(getattr(settings, name))
    for factor in FACTORS:
        changed = [v * factor if i == place else v for i, v in enumerate(values)]
        numbers: dict[str, Any] = {name: tuple(changed)}
        yield settings._replace(**numbers)


def _summary(scores: Scores) -> dict[str, float | None]:
    values = scores.to_json([str(number) for number in range(len(scores.confusion.counts))])
    return {name: values[name] for name in ("mean_iou", "boundary_f1", "pixel_accuracy")}


def _better(one: dict[str, float | None], other: dict[str, float | None]) -> bool:
    first, second = one["mean_iou"], other["mean_iou"]
    return first is not None and second is not None and first > second
