"""Figure 7 of the paper: two networks, what they make together, and the CRF, side by side."""

from typing import NamedTuple

from matplotlib.figure import Figure

from deconvnet.data import Dataset, Sample
from deconvnet.errors import RecipeError
from deconvnet.evaluate import check_classes
from deconvnet.figures import style
from deconvnet.figures.picture_parts import (
    GAP,
    Networks,
    check_networks,
    draw_key,
    fitting_side,
    mean_iou,
    overlay,
)
from deconvnet.progress import tracked
from deconvnet.shapes import LabelMap

AMONG = 40
"""Pictures that are looked through."""

LEAST_CELL = 1.45
LINE = 0.27


class Match(NamedTuple):
    """How two networks did on one picture."""

    picture: int
    """Its number in the data set."""
    first: float
    """Mean IoU, 0 to 1."""
    second: float

    @property
    def margin(self) -> float:
        """By how much the second is better."""
        return self.second - self.first


def matches(
    networks: Networks, dataset: Dataset, *, among: int = AMONG, quiet: bool = True
) -> list[Match]:
    """Compare two networks picture by picture: where the second wins most comes first.

    Args:
        networks: The two.
        dataset: Pictures and truth; pictures without a scored pixel are left out.
        among: How many of its pictures, from the first.
        quiet: Show no progress.
    """
    found = []
    count = min(among, len(dataset))
    for index in tracked(range(count), "compare", count, quiet=quiet):
        sample = dataset[index]
        scores = [
            mean_iou(network(sample.image).label_map, sample.label_map, len(dataset.classes))
            for network in networks.values()
        ]
        found.append(Match(index, *scores))
    scored = [match for match in found if match.margin == match.margin]  # NaN is not itself
    return sorted(scored, key=lambda match: -match.margin)


def both_ends(ranked: list[Match], pictures: int) -> tuple[list[Match], list[Match]]:
    """The first of a ranking and the last of it, together so many; none of them twice.

    >>> both_ends([Match(i, 0.0, -float(i)) for i in range(5)], 3)[1]
    [Match(picture=4, first=0.0, second=-4.0)]
    """
    chosen = min(pictures, len(ranked))
    wins = (chosen + 1) // 2
    return ranked[:wins], ranked[len(ranked) - (chosen - wins) :]


def comparison(
    networks: Networks,
    dataset: Dataset,
    *,
    pictures: int = 4,
    among: int = AMONG,
    quiet: bool = True,
) -> Figure:
    """Draw pictures where the second of two networks wins most, and where it loses most.

    Columns: picture, truth, both networks, the mean of their probabilities, and that refined
    by the dense CRF; each with its mean IoU on that picture.

    Args:
        networks: Two, by title; the first is the one to beat.
        dataset: Pictures and truth.
        pictures: Rows.
        among: How many pictures are looked through, from the first of the data set.
        quiet: Show no progress.

    Raises:
        CheckpointError: If there are not two networks.
        DataError: If networks and data set do not have the same classes.
        RecipeError: If no picture is asked for.

    Source: Noh, Hong & Han 2015, figure 7.
    """
    check_networks(networks, 2, "comparison", most=2)
    check_classes(next(iter(networks.values())).classes, dataset.classes)
    if pictures < 1 or among < 1:
        raise RecipeError(f"{pictures} of {among} pictures were asked for; take 1 or more.")
    ranked = matches(networks, dataset, among=among, quiet=quiet)
    if not ranked:
        raise RecipeError(f"None of the first {among} pictures of {dataset.split} has a truth.")
    return _drawn(networks, dataset, ranked, pictures)


def _drawn(networks: Networks, dataset: Dataset, ranked: list[Match], pictures: int) -> Figure:
    groups = both_ends(ranked, pictures)
    rows = sum(map(len, groups))
    columns = ["picture", "truth", *networks, "both", "both + CRF"]
    height, width = dataset[groups[0][0].picture].image.shape[:2]
    left, top = style.MARGIN + 0.56, 1.75
    room = style.WIDTH - left - style.MARGIN, style.HEIGHT - top - 0.7
    cell = fitting_side(len(columns), rows, height / width, room, LINE)
    widest = (room[0] - GAP * (len(columns) - 1)) / len(columns)
    cell = min(max(cell, LEAST_CELL), widest)
    pitch = cell * height / width + LINE
    first, second = networks
    wins = sum(match.margin > 0 for match in ranked)
    sheet = style.board(
        f"{second} against {first}",
        f"Of {len(ranked)} pictures of {dataset.split}, {second} is better in {wins}; here are "
        "the ends of that row. Below each, its mIoU in percent.",
        height=top + rows * pitch + 0.75,
    )
    gap = min(0.45, (room[0] - len(columns) * cell) / (len(columns) - 1))
    for column, title in enumerate(columns):
        x = left + column * (cell + gap) + cell / 2
        sheet.text(x, top - 0.14, title, size=style.HEADING, bold=True, ha="center")
    shown: list[LabelMap] = []
    y = top
    for best, group in zip((True, False), groups, strict=True):
        if group:
            words = verdict([match.margin for match in group], best=best)
            _draw_group_name(sheet, second, words, (y, len(group) * pitch - LINE))
        for match in group:
            shown += _draw_row(sheet, networks, dataset[match.picture], (left, y), (cell, gap))
            y += pitch
    draw_key(sheet, dataset.classes, shown, y + 0.3)
    return sheet.figure


def verdict(margins: list[float], *, best: bool) -> str:
    """How one end of the ranking went for the second network; what the numbers say.

    >>> verdict([0.2, 0.1], best=True), verdict([0.1, 0.05], best=False)
    ('wins most', 'wins least')
    """
    if min(margins) > 0:
        return "wins most" if best else "wins least"
    if max(margins) < 0:
        return "loses least" if best else "loses most"
    return "at its best" if best else "at its worst"


def _draw_group_name(
    sheet: style.Board, name: str, words: str, span: tuple[float, float]
) -> None:
    """Say beside the rows how they went for the network of that name."""
    top, height = span
    color = {"wins": style.BLUE, "lose": style.VERMILION}.get(words[:4], style.SOFT)
    x = style.MARGIN + 0.4
    sheet.box(x - 0.01, top, 0.035, height, fill=color, edge="none", gid="group")
    sheet.text(
        x - 0.1, top + height / 2, f"{name}\n{words}", size=style.TEXT, color=color, bold=True,
        rotation=90, ha="right", va="center", multialignment="center",
    )  # fmt: skip


def _draw_row(
    sheet: style.Board,
    networks: Networks,
    sample: Sample,
    corner: tuple[float, float],
    sizes: tuple[float, float],
) -> list[LabelMap]:
    """Draw the panels of one picture; gives the label maps shown."""
    first, second = networks.values()
    image, truth, classes = sample.image, sample.label_map, first.classes
    predicted = [
        first(image).label_map,
        second(image).label_map,
        second(image, ensemble=first).label_map,
        second(image, ensemble=first, crf=True).label_map,
    ]
    panels = [image] + [overlay(image, labels, classes) for labels in (truth, *predicted)]
    scores = [mean_iou(labels, truth, len(classes)) for labels in predicted]
    cell, gap = sizes
    for column, panel in enumerate(panels):
        x = corner[0] + column * (cell + gap)
        frame = sheet.picture(panel, x, corner[1], cell)
        below = frame.top + frame.height + 0.19
        if column >= 2:
            score = scores[column - 2]
            sheet.text(x + cell / 2, below, style.percent(score), ha="center",
                       bold=score == max(scores), size=style.TEXT)  # fmt: skip
        elif column == 0:
            sheet.text(x + cell / 2, below, sample.name, ha="center", size=9.5,
                       color=style.SOFT)  # fmt: skip
    return [truth, *predicted]
