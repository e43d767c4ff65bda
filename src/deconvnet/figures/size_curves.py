"""IoU against object size over receptive field: what skips cure, and what proposals cure."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64
from matplotlib.figure import Figure
from scipy import ndimage

from deconvnet.data import Dataset, Sample
from deconvnet.errors import CheckpointError, DataError
from deconvnet.evaluate import check_classes
from deconvnet.figures import style
from deconvnet.figures.failure_pictures import AROUND, receptive_field
from deconvnet.figures.picture_parts import TITLES
from deconvnet.instances import instance_scores
from deconvnet.labels import IGNORED
from deconvnet.metrics.confusion import mean_of_present, ratio
from deconvnet.predict import Predictor, combined
from deconvnet.progress import tracked
from deconvnet.shapes import Image, LabelMap

EDGES = (0.15, 0.25, 0.4, 0.6, 0.8, 1.0)
"""Between the bands: the longer side of an object's box over the receptive field."""

FCNS = ("fcn8s", "fcn8s-at-once", "fcn16s", "fcn32s")
"""Finest first; the finest one is the ensemble's second network."""

COLORS = (
    style.SKY, style.BLUE, style.INK, style.GREEN, style.VERMILION, style.PURPLE, style.ORANGE,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class ExtentCounts:
    """Pixels found, missed and made up, by class and extent of the object they belong to.

    As IoU by object size (metrics.object_size), but for the bands: hits and misses count in the
    band of the true object, a wrong pixel in that of the predicted component it lies in.
    """

    edges: tuple[float, ...]
    """Pixels between the bands."""
    hits: Int64[np.ndarray, "k b"]
    misses: Int64[np.ndarray, "k b"]
    wrong: Int64[np.ndarray, "k b"]
    objects: Int64[np.ndarray, " b"]
    """True objects of each band, of all classes."""

    @classmethod
    def empty(cls, num_classes: int, edges: Sequence[float]) -> "ExtentCounts":
        """Nothing counted yet; edges in pixels."""
        nothing = np.zeros((num_classes, len(edges) + 1), np.int64)
        return cls(tuple(edges), nothing, nothing, nothing, nothing[0])

    def add(
        self, predicted: LabelMap, sample: Sample, background: int | None
    ) -> "ExtentCounts":
        """These counts and those of one more picture."""
        hits, misses, wrong = self.hits.copy(), self.misses.copy(), self.wrong.copy()
        objects = self.objects.copy()
        truth, counted = sample.label_map, sample.label_map != IGNORED
        for label in range(len(hits)):
            if label == background:
                continue
            mine, guessed = truth == label, predicted == label
            for mask in _objects(mine, sample.instance_map):
                band = self._band(mask)
                found = int((mask & guessed).sum())
                hits[label, band] += found
                misses[label, band] += int(mask.sum()) - found
                objects[band] += 1
            false = guessed & counted & ~mine
            for mask in _objects(guessed, None) if false.any() else ():
                wrong[label, self._band(mask)] += int((mask & false).sum())
        return ExtentCounts(self.edges, hits, misses, wrong, objects)

    @property
    def iou(self) -> Float64[np.ndarray, " b"]:
        """IoU of each band, 0 to 1: the mean over classes with a true object in it, or NaN."""
        there = self.hits + self.misses
        iou = np.where(there > 0, ratio(self.hits, there + self.wrong), np.nan)
        return np.array([mean_of_present(column) for column in iou.T], np.float64)

    def _band(self, mask: Bool[np.ndarray, "h w"]) -> int:
        ((rows, columns),) = ndimage.find_objects(mask.astype(np.uint8))
        side = max(rows.stop - rows.start, columns.stop - columns.start)
        return int(np.searchsorted(self.edges, side, side="right"))


def _objects(
    area: Bool[np.ndarray, "h w"], numbered: np.ndarray | None
) -> Iterator[Bool[np.ndarray, "h w"]]:
    """Masks of the objects in the area of a class: by their number, else by connection."""
    numbers = np.zeros(area.shape, np.int64) if numbered is None else numbered * area
    loose = ndimage.label(area & (numbers == 0), structure=AROUND)[0]
    for parts in (numbers, loose):
        for number in np.unique(parts[parts > 0]):
            yield parts == number


@dataclass(frozen=True)
class Curve:
    """One way to segment, over the networks that differ by their seed."""

    name: str
    counts: list[ExtentCounts] = field(default_factory=list)
    """Of each network."""

    @property
    def iou(self) -> Float64[np.ndarray, "n b"]:
        """0 to 1, of each network and band."""
        return np.stack([counts.iou for counts in self.counts])


def size_curves(
    networks: Sequence[Predictor],
    dataset: Dataset,
    *,
    among: int | None = None,
    proposals: int = 50,
    quiet: bool = True,
) -> list[Curve]:
    """Count by object size for each network, for DeconvNet by proposals and in an ensemble too.

    Args:
        networks: FCNs and DeconvNets; several of one model are taken for seeds of it. The
            ensemble is that of a DeconvNet with the finest FCN of its seed, or of any.
        dataset: Pictures and truth.
        among: How many of its pictures, from the first; none: all.
        proposals: For DeconvNet; 0: whole pictures alone.
        quiet: Show no progress.

    Raises:
        DataError: If networks and data set do not have the same classes.
    """
    for network in networks:
        check_classes(network.classes, dataset.classes)
    edges = [share * receptive_field(networks[0]) for share in EDGES]
    curves: dict[str, Curve] = {}
    count = min(among or len(dataset), len(dataset))
    for place, network in enumerate(networks):
        partner = _partner(network, networks)
        counts: dict[str, ExtentCounts] = {}
        what = f"network {place + 1} of {len(networks)}"
        for index in tracked(range(count), what, count, quiet=quiet):
            sample = dataset[index]
            for name, labels in _ways(network, partner, sample.image, proposals):
                known = counts.get(name, ExtentCounts.empty(len(dataset.classes), edges))
                counts[name] = known.add(labels, sample, dataset.classes.background)
        for name, found in counts.items():
            curves.setdefault(name, Curve(name)).counts.append(found)
    return list(curves.values())


def _ways(
    network: Predictor, partner: Predictor | None, image: Image, proposals: int
) -> Iterator[tuple[str, LabelMap]]:
    """Label maps of a network by what made them."""
    title = TITLES.get(network.config.model, network.config.model)
    yield f"{title}, whole picture", _labels(network.scores(image))
    if network.config.model != "deconvnet" or not proposals:
        return
    scores = torch.from_numpy(instance_scores(network, image, proposals))
    yield f"{title}, {proposals} proposals", _labels(scores)
    if partner is not None:
        beside = TITLES.get(partner.config.model, partner.config.model)
        joined = combined(scores, partner.scores(image).cpu(), "mean")
        yield f"both: {proposals} proposals and {beside}", _labels(joined)


def _labels(scores: torch.Tensor) -> LabelMap:
    return scores.argmax(0).to(torch.uint8).cpu().numpy()


def _partner(network: Predictor, networks: Sequence[Predictor]) -> Predictor | None:
    """The finest FCN, of the same seed where there is one."""
    found = [other for other in networks if other.config.model in FCNS]
    seed = network.config.recipe.get("seed")
    return min(
        found,
        key=lambda other: (
            FCNS.index(other.config.model),
            other.config.recipe.get("seed") != seed,
        ),
        default=None,
    )


def sizes(
    networks: Sequence[Predictor],
    dataset: Dataset,
    *,
    among: int | None = None,
    proposals: int = 50,
    quiet: bool = True,
) -> Figure:
    """Draw IoU against object size over the receptive field, the numbers below it.

    Args:
        networks: As for size_curves.
        dataset: Pictures and truth.
        among: As for size_curves.
        proposals: As for size_curves.
        quiet: Show no progress.

    Raises:
        CheckpointError: If there is no network.
        DataError: If networks and data set do not have the same classes, or no object is found.

    Source: the claim of Noh, Hong & Han 2015, section 1 and figure 1, as a measurement.
    """
    if not networks:
        raise CheckpointError("The figure 'sizes' needs a network or more; none was given.")
    curves = size_curves(networks, dataset, among=among, proposals=proposals, quiet=quiet)
    objects = curves[0].counts[0].objects
    if not objects.any():
        raise DataError(
            f"The pictures of {dataset.split} hold no object to look at; give pictures with "
            "labelled objects."
        )
    side = receptive_field(networks[0])
    most = max(len(curve.counts) for curve in curves)
    sheet = style.board(
        "IoU against the size of the object",
        f"Longer side of the object's box over the receptive field ({side:.0f} pixels); "
        f"{objects.sum()} objects of {min(among or len(dataset), len(dataset))} pictures"
        + (f"; mean and range of {most} seeds." if most > 1 else "; one network each."),
    )
    height = style.HEIGHT
    left, right, top = 3.6, style.WIDTH - style.MARGIN, 1.4
    low = min(4.75, height - 1.58 - 0.27 * (len(curves) - 1))  # room for a row each, and below
    axes = sheet.figure.add_axes(
        (
            left / style.WIDTH,
            1 - low / height,
            (right - left) / style.WIDTH,
            (low - top) / height,
        )
    )
    bands = np.arange(len(objects))
    step = (right - left) / len(objects)
    for row, (curve, color) in enumerate(zip(curves, COLORS * len(curves), strict=False)):
        iou = 100 * curve.iou
        mean = iou.mean(0)
        spread = np.stack([mean - iou.min(0), iou.max(0) - mean])
        axes.errorbar(
            bands, mean, spread if len(iou) > 1 else None, color=color, marker="o", capsize=3
        )
        y = low + 0.98 + 0.27 * row
        sheet.text(style.MARGIN, y, curve.name, color=color, bold=True)
        for place, value in zip(bands, mean / 100, strict=True):
            sheet.text(left + step * (place + 0.5), y, style.percent(value), ha="center")
    for band, (name, count) in enumerate(zip(_band_names(), objects, strict=True)):
        x = left + step * (band + 0.5)
        sheet.text(x, low + 0.28, name, ha="center", bold=True)
        sheet.text(x, low + 0.5, f"{count} objects", ha="center", size=10, color=style.SOFT)
    axes.set_xlim(-0.5, len(objects) - 0.5)
    axes.set_ylim(0, None)
    axes.set_xticks([])
    axes.axvline(len(EDGES) - 0.5, color=style.SOFT, linestyle=(0, (4, 2)), linewidth=1)
    axes.set_ylabel("IoU (%)")
    axes.grid(visible=True, axis="y", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    style.footnote(sheet, "Right of the broken line: objects larger than the receptive field.")
    return sheet.figure


def _band_names() -> list[str]:
    """The bands in words.

    >>> _band_names()[0], _band_names()[1], _band_names()[-1]
    ('under 0.15', '0.15 to 0.25', 'over 1')
    """
    inner = [f"{low:g} to {high:g}" for low, high in itertools.pairwise(EDGES)]
    return [f"under {EDGES[0]:g}", *inner, f"over {EDGES[-1]:g}"]
