"""The rows of an ablation as a table for people, and as a plot of time against mIoU."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from deconvnet.files import write_text, written_whole

HEADS = {
    "mean_iou": "mIoU",
    "small": "small",
    "medium": "medium",
    "large": "large",
    "boundary_f1": "boundary F1",
}
"""The scores of the table and their heads."""

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
MARKERS = {(False, False): "o", (False, True): "s", (True, False): "^", (True, True): "D"}
"""By ensemble and CRF."""


class Line(NamedTuple):
    """Rows that differ by their seed alone, as one line of the table."""

    network: str
    """Recipe or checkpoint, with the settings that differ from it."""
    is_base: bool
    """Whether no setting differs."""
    base: str
    proposals: int
    aggregate: str
    """How the maps of the proposals are joined."""
    ensemble: str | None
    crf: bool
    scores: Mapping[str, list[float]]
    """Of each seed, 0 to 1; NaN where there is none."""
    milliseconds: float
    """Mean over the seeds of the median time a picture."""
    seeds: list[int | None]
    where: tuple[str, str, int]
    """Data set, split, pictures."""


def lines_of(rows: Iterable[Mapping[str, Any]]) -> list[Line]:
    """Gather the rows of each variant over its seeds, in the order of their first rows."""
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        changes = ", ".join(f"{name}={value}" for name, value in row["changes"].items())
        where = (row["data"], row["split"], row["images"])
        way = (row["proposals"], row["aggregate"], row["ensemble"], row["crf"])
        groups.setdefault((row["base"], changes, where, way), []).append(row)
    lines = []
    for (base, changes, where, way), members in groups.items():
        proposals, aggregate, ensemble, crf = way
        scores = {
            name: [math.nan if row[name] is None else row[name] for row in members]
            for name in HEADS
        }
        lines.append(
            Line(
                f"{base}: {changes}" if changes else base,
                not changes,
                base,
                proposals,
                aggregate,
                ensemble,
                crf,
                scores,
                float(np.mean([row["milliseconds"] for row in members])),
                [row["seed"] for row in members],
                where,
            )
        )
    return lines


def markdown(rows: Iterable[Mapping[str, Any]]) -> str:
    """The table, scores in percent: the mean over the seeds ± their standard deviation.

    `less base` is the mIoU less that of the recipe as it is, predicted the same way, seed by
    seed.
    """
    lines = lines_of(rows)
    seeded = max((len(line.seeds) for line in lines), default=1) > 1
    compared = any(_less_base(line, lines) != "–" for line in lines)
    parts = []
    for where in dict.fromkeys(line.where for line in lines):
        here = [line for line in lines if line.where == where]
        head = ["network", "proposals", "ensemble", "CRF", *HEADS.values()]
        head += ["less base"] * compared + ["ms a picture"] + ["seeds"] * seeded
        table = [head, ["---", *["---:"] * (len(head) - 1)]]
        for line in here:
            cells = [line.network, _proposals(line), line.ensemble or "–"]
            cells += ["yes" if line.crf else "–", *(_spread(line.scores[n]) for n in HEADS)]
            cells += [_less_base(line, here)] * compared + [f"{line.milliseconds:.0f}"]
            table.append([*cells, *[str(len(line.seeds))] * seeded])
        data, split, images = where
        parts.append(f"{images} pictures of {data}, split {split}; scores in percent\n")
        parts += [f"| {' | '.join(row)} |" for row in table]
        parts.append("")
    return "\n".join(parts)


def plot(rows: Iterable[Mapping[str, Any]], path: str | Path) -> None:
    """Write time a picture against mIoU as a PNG: a colour a network, a line along proposals.

    Bars are the standard deviation over seeds. Circles are the network alone, triangles the
    ensemble, squares and diamonds the same with the CRF.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    lines = [line for line in lines_of(rows) if np.isfinite(line.scores["mean_iou"]).any()]
    figure = Figure(figsize=(8, 5), dpi=120, layout="constrained")
    axes = figure.subplots()
    names = list(dict.fromkeys(line.network for line in lines))
    for line in lines:
        color = COLORS[names.index(line.network) % len(COLORS)]
        marker = MARKERS[line.ensemble is not None, line.crf]
        mean, spread = _mean(line.scores["mean_iou"])
        place = (line.milliseconds, 100 * mean)
        axes.errorbar(*place, 100 * spread, fmt="none", color=color, capsize=3, alpha=0.4)
        axes.plot(*place, marker, color=color)
        label = _proposals(line) if line.proposals else "whole"
        axes.annotate(label, place, (5, 5), textcoords="offset points", fontsize=8)
    for along in _along_proposals(lines):
        color = COLORS[names.index(along[0].network) % len(COLORS)]
        points = [(one.milliseconds, 100 * _mean(one.scores["mean_iou"])[0]) for one in along]
        axes.plot(*np.transpose(points), color=color, alpha=0.4, linewidth=1)
    axes.set(xlabel="ms a picture", ylabel="mIoU (%)", xscale="log")
    axes.set_title("beside the marks: proposals, or the picture as a whole", fontsize=9)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(visible=True, which="both", alpha=0.25)
    kinds = {(False, False): "alone", (False, True): "CRF", (True, False): "ensemble",
             (True, True): "ensemble, CRF"}  # fmt: skip
    used = {(line.ensemble is not None, line.crf) for line in lines}
    key = [
        Line2D([], [], color=COLORS[i % len(COLORS)], marker="o", linestyle="", label=name)
        for i, name in enumerate(names)
    ] + [
        Line2D([], [], color="grey", marker=MARKERS[kind], linestyle="", label=text)
        for kind, text in kinds.items()
        if kind in used
    ]
    figure.legend(handles=key, loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    with written_whole(path) as temporary:
        figure.savefig(temporary, format="png")


def write_tables(out: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    """Write OUT/table.md and OUT/plot.png; gives the table."""
    text = markdown(rows)
    write_text(out / "table.md", text)
    plot(rows, out / "plot.png")
    return text


def _along_proposals(lines: Sequence[Line]) -> list[list[Line]]:
    """Lines of the table that differ by their number of proposals alone, from few to many.

    The picture as a whole begins them all, however the proposals are joined.
    """
    joinings = dict.fromkeys(line.aggregate for line in lines if line.proposals)
    groups: dict[tuple[Any, ...], list[Line]] = {}
    for line in lines:
        alike = (line.network, line.ensemble, line.crf, line.where)
        for joined in [line.aggregate] if line.proposals else joinings:
            groups.setdefault((*alike, joined), []).append(line)
    return [sorted(group, key=lambda line: line.proposals) for group in groups.values()]


def _less_base(line: Line, lines: Sequence[Line]) -> str:
    """The mIoU less that of the base recipe predicted alike, paired by seed."""
    if line.is_base:
        return "–"
    for other in lines:
        if other.is_base and _way(other) == _way(line):
            theirs = dict(zip(other.seeds, other.scores["mean_iou"], strict=True))
            ours = zip(line.seeds, line.scores["mean_iou"], strict=True)
            return _spread([own - theirs[seed] for seed, own in ours if seed in theirs], "+")
    return "–"


def _way(line: Line) -> tuple[Any, ...]:
    """What lines share that are of one base, predicted alike."""
    predicted = (line.proposals, line.aggregate, line.ensemble, line.crf)
    return (line.base, line.where, *predicted)


def _proposals(line: Line) -> str:
    """Their number, and how they are joined where that is not the paper's way."""
    return str(line.proposals) if line.aggregate == "max" else f"{line.proposals}, mean"


def _mean(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation of what is not NaN; the latter 0 of one value."""
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return math.nan, 0.0
    spread = float(np.std(known, ddof=1)) if len(known) > 1 else 0.0
    return float(np.mean(known)), spread


def _spread(values: Sequence[float], sign: str = "") -> str:
    """Mean ± standard deviation in percent.

    >>> _spread([0.4, 0.42]), _spread([0.123], "+"), _spread([])
    ('41.0 ± 1.4', '+12.3', '–')
    """
    mean, spread = _mean(values)
    if math.isnan(mean):
        return "–"
    several = sum(not math.isnan(value) for value in values) > 1
    return f"{100 * mean:{sign}.1f}" + (f" ± {100 * spread:.1f}" if several else "")
