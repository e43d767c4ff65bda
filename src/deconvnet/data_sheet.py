"""What check-data found as one HTML file, with the suspects to look at."""

import html
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import PIL.Image

from deconvnet import draw, page
from deconvnet.data import Dataset
from deconvnet.data.doctor import Problem, Report
from deconvnet.data.image_files import read_image
from deconvnet.data.pairs import PairDataset
from deconvnet.errors import UserError
from deconvnet.files import write_text
from deconvnet.labels import Classes
from deconvnet.shapes import Image

SHOWN = 8
"""Suspects shown of each problem."""

SIDE = 240
"""Longer side of a suspect in pixels."""


def write_sheet(report: Report, path: str | Path) -> None:
    """Write the page, whole or not at all.

    Raises:
        OutputError: If the place cannot be written.
    """
    write_text(path, data_sheet(report))


def data_sheet(report: Report) -> str:
    """The verdict, each problem with some of its pictures, and the classes."""
    places = {
        split: {name: place for place, name in enumerate(dataset.names)}
        for split, dataset in report.splits.items()
        if isinstance(dataset, PairDataset)
    }
    body = [f"<h1>{html.escape(report.data)}</h1>", f"<p>{html.escape(report.verdict)}</p>"]
    body += [
        f'<p class="soft">{html.escape(split)}: {html.escape(sizes.in_words)}</p>'
        for split, sizes in report.sizes.items()
    ]
    problems = sorted(report.problems, key=lambda problem: problem.severity)  # errors first
    if not problems:
        body.append("<p>Nothing looks wrong.</p>")
    for problem in problems:
        body.append(
            f"<h2>{problem.severity.capitalize()}: {html.escape(problem.sentence)}</h2>"
        )
        shown = list(_suspects(report, problem, places))
        if shown:
            body.append(page.row(shown))
        if len(problem.names) > SHOWN:
            rest = ", ".join(problem.names[SHOWN : SHOWN + 40])
            more = f"Also: {rest}{' ...' * (len(problem.names) > SHOWN + 40)}"
            body.append(f'<p class="soft">{html.escape(more)}</p>')
    return page.page(f"Check of {report.data}", [*body, *_classes(report)])


def _suspects(
    report: Report, problem: Problem, places: Mapping[str, Mapping[str, int]]
) -> Iterator[str]:
    """Pictures of a problem; of duplicates both."""
    for number, name in enumerate(problem.names[:SHOWN]):
        for split, shown in ((problem.split, name), *problem.doubles[number : number + 1]):
            if shown in places.get(split, {}):
                dataset = report.splits[split]
                yield _suspect(dataset, places[split][shown], f"{split}: {shown}")


def _suspect(dataset: Dataset, place: int, caption: str) -> str:
    """A picture with its labels over it, as far as they can be read."""
    try:
        sample = dataset[place]
        shown = draw.overlay(sample.image, sample.label_map, dataset.classes)
    except UserError:
        caption += " (its labels cannot be shown)"
        try:
            pair = dataset.pairs[place] if isinstance(dataset, PairDataset) else None
            shown = read_image(pair.image, page=pair.page) if pair else _blank()
        except UserError:
            shown = _blank()
    return page.figure(_shrunken(shown), caption)


def _shrunken(image: Image) -> Image:
    picture = PIL.Image.fromarray(image)
    picture.thumbnail((SIDE, SIDE))
    return np.array(picture)


def _blank() -> Image:
    return np.full((SIDE // 2, SIDE, 3), 128, np.uint8)


def _classes(report: Report) -> list[str]:
    """The colours of the classes, and how much there is of each."""
    weights = report.weights
    if report.classes is None or weights is None:
        return []
    classes: Classes = report.classes
    statistics = report.statistics["train"]
    total = max(int(statistics.pixels.sum()), 1)
    rows = [
        (name, [100 * pixels / total, float(pictures), float(weight)])
        for name, pixels, pictures, weight in zip(
            classes.names,
            statistics.pixels.tolist(),
            statistics.pictures.tolist(),
            weights.tolist(),
            strict=True,
        )
    ]
    return [
        "<h2>Classes of train</h2>",
        page.key(classes.names, classes.colors),
        page.table(["class", "% of the pixels", "pictures", "suggested weight"], rows, ""),
    ]
