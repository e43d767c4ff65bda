"""A comparison to look at: one page that needs nothing else, a sheet of pictures, figures."""

import html
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL.Image
from jaxtyping import UInt8

from deconvnet import draw, page
from deconvnet.compare import DRAWS, VERDICTS, Comparison, Picture, in_percent, signed
from deconvnet.data.image_files import write_png
from deconvnet.errors import OutputError
from deconvnet.files import refuse_unwritable_folder, write_text
from deconvnet.labels import IGNORED
from deconvnet.metrics.bootstrap import Interval
from deconvnet.metrics.object_size import BANDS
from deconvnet.shapes import Image, LabelMap

WIDTH = 360
"""Pixels of a picture on the page and the sheet; larger ones are made smaller."""

FIRST, SECOND, NEITHER = (0, 114, 178), (230, 159, 0), (204, 121, 167)
"""Where only the first network is right, only the second, none: Okabe and Ito's colours."""

STYLE = """
:root { --first: #0072b2; --second: #b87a00; --neither: #b0568c; --both: #d9dcd6; }
@media (prefers-color-scheme: dark) { :root { --first: #56b4e9; --second: #e69f00;
  --neither: #cc79a7; --both: #3a4048; } }
.lead { font-size: 1.25rem; line-height: 1.5; max-width: 50rem; margin: 0 0 1.5rem; }
.nets { display: grid; gap: .75rem;
  grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr)); }
.net { background: var(--card); border: 1px solid var(--line); border-radius: .375rem;
  border-top: .25rem solid var(--line); padding: 1rem 1.25rem; }
.net.first { border-top-color: var(--first); } .net.second { border-top-color: var(--second); }
.net h3 { margin: 0; font-size: 1.05rem; overflow-wrap: anywhere; }
.net .big { font-size: 2.25rem; font-weight: 650; line-height: 1.2; margin: .5rem 0 0;
  font-variant-numeric: tabular-nums; } .net .big small { font-size: 1rem; font-weight: 400; }
.net p { margin: 0; } .net dl { display: grid; grid-template-columns: 1fr auto; gap: .1rem 1rem;
  margin: .75rem 0 0; font-variant-numeric: tabular-nums; } .net dd { margin: 0;
  text-align: right; }
.net dt { color: var(--soft); }
.scores td, .scores th { white-space: nowrap; } .scores .group td { font-weight: 600;
  padding-top: 1.1rem; border-top: 0; color: var(--soft); }
.scores { width: 100%; }
.scores th:first-child, .scores td:first-child { position: sticky; left: 0; z-index: 1;
  background: var(--card); }
.scores .range { color: var(--soft); font-size: .8125rem; font-weight: 400;
  margin-left: .4rem; }
.scores td.plot { padding-left: 1.25rem; min-width: 12rem; width: 30%; }
.plot .cell { display: flex; gap: .75rem; align-items: center; }
.plot .delta { flex: 0 0 3rem; }
.plot .track { position: relative; display: block; height: 1.25rem; flex: 1; }
.plot .zero { position: absolute; left: 50%; top: -.4rem; bottom: -.4rem; width: 1px;
  background: var(--soft); opacity: .6; }
.plot .span { position: absolute; top: .55rem; height: .15rem; border-radius: .1rem; }
.plot .dot { position: absolute; top: .35rem; width: .55rem; height: .55rem;
  margin-left: -.275rem; border-radius: 50%; }
.up { background: var(--second); } .down { background: var(--first); }
.even { background: var(--soft); } .even.span { opacity: .5; }
.stack { display: flex; height: 1.5rem; border-radius: .375rem; overflow: hidden;
  margin: .75rem 0; gap: 2px; }
.both { background: var(--both); } .only-first { background: var(--first); }
.only-second { background: var(--second); } .neither { background: var(--neither); }
ul.key.large { gap: .25rem 1.5rem; }
.pair { margin: 1.75rem 0; } .pair h4 { font-size: 1rem; margin: 0 0 .25rem; }
h3 { font-size: 1.1rem; margin: 2rem 0 0; }
.pair .row { grid-template-columns: repeat(auto-fit, minmax(min(10rem, 45%), 1fr)); }
@media (max-width: 30rem) { body { padding-top: 1.5rem; } h1 { font-size: 1.5rem; }
  .lead { font-size: 1.1rem; } th, td { padding: .375rem .6rem; } }
"""


def check_out(out: str | Path) -> Path:
    """The folder to write into; one that holds an earlier comparison is written over.

    Raises:
        OutputError: If it is a file, or holds a page that is no comparison's.
    """
    out = Path(out)
    refuse_unwritable_folder(out, "the comparison")
    if (out / "index.html").exists() and not _is_ours(out / "scores.json"):
        raise OutputError(
            f"{out} holds an index.html that no comparison wrote; name another folder."
        )
    return out


def write_comparison(comparison: Comparison, out: str | Path, *, shown: int = 4) -> Path:
    """Write index.html, sheet.png and scores.json into a folder; gives the page.

    Args:
        comparison: What was measured.
        out: The folder; made if it is missing.
        shown: Pictures on the sheet from either end of the order.

    Raises:
        OutputError: If the folder cannot be written.
    """
    out = check_out(out)
    chosen = _ends(comparison.order(), shown)
    panels = {index: _panels(comparison, index) for index in chosen}
    write_text(out / "scores.json", json.dumps(comparison.to_json(), indent=2) + "\n")
    write_png(out / "sheet.png", draw.sheet(list(panels.values())))
    index = out / "index.html"
    title = " against ".join(contender.name for contender in comparison.contenders)
    write_text(index, page.page(title, _body(comparison, title, panels), style=STYLE))
    return index


def difference_map(
    picture: Picture, first: LabelMap, second: LabelMap
) -> UInt8[np.ndarray, "rows columns 3"]:
    """The picture in pale grey, with colour where two networks disagree.

    FIRST where only the first is right, SECOND where only the second, NEITHER where both are
    wrong, and wherever they differ if the truth is not known.
    """
    grey = picture.image.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    pale = np.repeat((150 + 0.4 * grey)[..., None], 3, axis=2)
    drawn = pale.copy()
    apart = first != second
    truth = picture.label_map
    parts = [(apart, NEITHER)]
    if truth is not None:
        known = apart & (truth != IGNORED)
        parts += [(known & (first == truth), FIRST), (known & (second == truth), SECOND)]
    for mask, color in parts:
        drawn[mask] = 0.25 * pale[mask] + 0.75 * np.array(color, np.float32)
    return np.rint(drawn).astype(np.uint8)


def _panels(comparison: Comparison, index: int) -> list[draw.Panel]:
    """Picture, truth, what each network says, and where the first two differ."""
    picture = comparison.source.read(index)
    shape, classes = picture.image.shape[:2], comparison.classes
    maps = [
        comparison.label_map(index, number, shape)
        for number in range(len(comparison.contenders))
    ]
    panels = [draw.Panel(_small(picture.image), picture.name)]
    if picture.label_map is not None:
        truth = draw.overlay(picture.image, picture.label_map, classes)
        panels.append(draw.Panel(_small(truth), "truth"))
    for number, (contender, label_map) in enumerate(
        zip(comparison.contenders, maps, strict=True)
    ):
        caption = contender.name
        if comparison.counts:
            reached = comparison.counts[number].each_mean_iou[index]
            caption += f", mIoU {100 * reached:.1f}" if np.isfinite(reached) else ""
        drawn = draw.overlay(picture.image, label_map, classes)
        panels.append(draw.Panel(_small(drawn), caption))
    share = 100 * comparison.apart[index, 0]
    apart = difference_map(picture, maps[0], maps[1])
    return [*panels, draw.Panel(_small(apart), f"they differ on {share:.1f} %")]


def _body(comparison: Comparison, title: str, panels: dict[int, list[draw.Panel]]) -> list[str]:
    about = f"{len(comparison.pictures)} pictures of {comparison.source.title}"
    if not comparison.counts:
        about = f"{comparison.source.title}. Without truth there are no scores."
    return [
        f"<h1>{html.escape(title)}</h1>",
        f'<p class="soft">{html.escape(about)}</p>',
        f'<p class="lead">{html.escape(verdict(comparison))}</p>',
        _networks(comparison),
        *(_score_table(comparison) if comparison.counts else ()),
        *_disagreements(comparison),
        *_pictures(comparison, panels),
        *_method(comparison),
    ]


def verdict(comparison: Comparison) -> str:
    """What came out, in a sentence or two."""
    first, *others = (contender.name for contender in comparison.contenders)
    said = []
    for index, name in enumerate(others):
        share = 100 * comparison.disagreements[index].share
        if not comparison.counts:
            said.append(f"{name} and {first} disagree on {share:.1f} % of the pixels.")
            continue
        value, low, high = (
            100 * number for number in comparison.differences[index]["mean_iou"]
        )
        if math.isnan(value):
            said.append(f"No pixel of {name} and {first} counts: the truth ignores them all.")
            continue
        how = "above" if value >= 0 else "below"
        sure = comparison.differences[index]["mean_iou"].is_beside_zero
        ends = sorted((abs(low), abs(high)))
        said.append(
            f"{name} is {abs(value):.1f} points of mIoU {how} {first} "
            + (
                "on this one picture, which says nothing of others."
                if math.isnan(low)
                else f"(95 % interval {ends[0]:.1f} to {ends[1]:.1f})."
                if sure
                else f"(95 % interval {low:+.1f} to {high:+.1f}): these pictures cannot tell "
                "which is better."
            )
            + f" They disagree on {share:.1f} % of the pixels."
        )
    return " ".join(said)


def _networks(comparison: Comparison) -> str:
    """A card for each network."""
    cards = []
    for index, contender in enumerate(comparison.contenders):
        kind = ("first", "second")[index] if index < 2 else ""
        options = contender.config.options
        about = contender.config.model + (
            f", width {options['width']:g}" if "width" in options else ""
        )
        facts = [
            ("a picture", f"{comparison.milliseconds[index]:,.0f} ms"),
            ("parameters", f"{contender.parameters / 1e6:,.2f} M"),
        ]
        big = ""
        if comparison.counts:
            scores = comparison.scores[index]
            value, low, high = (100 * number for number in scores["mean_iou"])
            shown = "–" if math.isnan(value) else f"{value:.1f}"
            big = f'<p class="big">{shown} <small>mIoU</small></p>'
            if not math.isnan(low):
                big += f'<p class="soft">{low:.1f} to {high:.1f}, 95 % interval</p>'
            facts.insert(0, ("boundary F1", _percent(scores["boundary_f1"])))
        rows = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in facts)
        cards.append(
            f'<section class="net {kind}"><h3>{html.escape(contender.name)}</h3>'
            f'<p class="soft">{html.escape(about)}</p>{big}<dl>{rows}</dl></section>'
        )
    return f'<div class="nets">{"".join(cards)}</div>'


def _score_table(comparison: Comparison) -> list[str]:
    """Every score with its interval, and the differences drawn beside them."""
    first, *others = (contender.name for contender in comparison.contenders)
    classes = comparison.classes.names
    groups = [
        (
            "Overall",
            [
                ("mIoU", "mean_iou"),
                ("pixel accuracy", "pixel_accuracy"),
                ("boundary F1", "boundary_f1"),
            ],
        ),
        ("IoU by object size", [(band, f"iou_by_size.{band}") for band in BANDS]),
        ("IoU by class", [(name.replace("_", " "), f"iou.{name}") for name in classes]),
    ]
    keys = [key for _, rows in groups for _, key in rows]
    reach = _reach([scores[key] for scores in comparison.differences for key in keys])
    header = ["", first, *others, *(f"{name} less {first}" for name in others)]
    lines = ["<tr>" + "".join(f"<th>{html.escape(name)}</th>" for name in header) + "</tr>"]
    for title, rows in groups:
        lines.append(f'<tr class="group"><td colspan="{len(header)}">{title}</td></tr>')
        lines += [_score_row(comparison, name, key, reach) for name, key in rows]
    return [
        "<h2>Scores</h2>",
        "<p>In percent, with the interval that 95 % of redrawn sets of pictures fall into. Dot "
        "right of the line: the later network is better; grey: the interval holds 0, so chance "
        "may have done it. Small objects cover less than 1 % of the picture, large ones more "
        "than 25 %.</p>",
        f'<div class="scroll"><table class="scores">{"".join(lines)}</table></div>',
    ]


def _score_row(comparison: Comparison, name: str, key: str, reach: float) -> str:
    cells = []
    found = [scores[key] for scores in comparison.scores]
    known = sorted(score.value for score in found if np.isfinite(score.value))
    is_won = len(known) > 1 and known[-1] > known[-2]
    for score in found:
        mark = ' class="best"' if is_won and score.value == known[-1] else ""
        cells.append(f"<td{mark}>{_with_range(in_percent(score))}</td>")
    for scores in comparison.differences:
        cells.append(f'<td class="plot">{_span(scores[key], reach)}</td>')
    return f"<tr><td>{html.escape(name)}</td>{''.join(cells)}</tr>"


def _span(difference: Interval, reach: float) -> str:
    """A difference as a number and as a dot on a line, with its interval in words."""
    if not np.isfinite(difference.value):
        return '<span class="soft">–</span>'
    value, low, high = (50 + 50 * number / reach for number in difference)
    kind = "even"
    if difference.is_beside_zero:
        kind = "up" if difference.value > 0 else "down"
    words = signed(difference).strip()
    if not np.isfinite(low):
        low = high = value  # no interval: the dot alone
    return (
        f'<span class="cell"><span class="delta">{100 * difference.value:+.1f}</span>'
        f'<span class="track" role="img" aria-label="{words}" title="{words}">'
        '<span class="zero"></span>'
        f'<span class="span {kind}" style="left:{low:.2f}%;width:{high - low:.2f}%"></span>'
        f'<span class="dot {kind}" style="left:{value:.2f}%"></span></span></span>'
    )


def _reach(differences: Sequence[Interval]) -> float:
    """The largest size of a difference or of an end of its interval; above 0."""
    sizes = [abs(number) for found in differences for number in found if np.isfinite(number)]
    return 1.05 * max([*sizes, 1e-6])


def _disagreements(comparison: Comparison) -> list[str]:
    """Who is right where two networks differ, and what they take for what."""
    first = comparison.contenders[0].name
    parts = ["<h2>Where they disagree</h2>"]
    names = [name.replace("_", " ") for name in comparison.classes.names]
    for contender, found in zip(
        comparison.contenders[1:], comparison.disagreements, strict=True
    ):
        parts.append(
            f"<p>{html.escape(contender.name)} and {html.escape(first)} give different classes "
            f"on {100 * found.share:.1f} % of the pixels.</p>"
        )
        if comparison.counts:
            parts.append(_who_is_right(found.verdicts, first, contender.name))
        top = found.top(names)
        if top:
            header = (f"{first} says", f"{contender.name} says", "% of the pixels")
            cells = "".join(f"<th>{html.escape(name)}</th>" for name in header)
            rows = "".join(
                f"<tr><td>{html.escape(one)}</td><td>{html.escape(other)}</td>"
                f"<td>{100 * share:.1f}</td></tr>"
                for one, other, share in top
            )
            parts.append(f'<div class="scroll"><table><tr>{cells}</tr>{rows}</table></div>')
    return parts


def _who_is_right(verdicts: np.ndarray, first: str, second: str) -> str:
    """The shares of VERDICTS as a bar of four parts and its key."""
    shares = verdicts / max(int(verdicts.sum()), 1)
    kinds = ("both", "only-first", "only-second", "neither")
    words = [
        text.replace("the first", first).replace("the second", second) for text in VERDICTS
    ]
    bar = "".join(
        f'<span class="{kind}" style="flex:{share:.4f}"></span>'
        for kind, share in zip(kinds, shares, strict=True)
    )
    items = "".join(
        f'<li><span class="{kind}"></span>{html.escape(text)} {100 * share:.1f} %</li>'
        for kind, text, share in zip(kinds, words, shares, strict=True)
    )
    return (
        f'<div class="stack" aria-hidden="true">{bar}</div><ul class="key large">{items}</ul>'
    )


def _pictures(comparison: Comparison, panels: dict[int, list[draw.Panel]]) -> list[str]:
    """The pictures of the sheet, under headings, with the colours they are drawn in."""
    first, second = (contender.name for contender in comparison.contenders[:2])
    parts = ["<h2>Pictures</h2>"]
    classes = comparison.classes
    words = "<p>From where {1} gains most over {0} to where it loses most.</p>"
    colors = [FIRST, SECOND, NEITHER]
    meanings = [f"only {first} is right", f"only {second} is right", "they differ, both wrong"]
    gains = comparison.gains() if comparison.counts else None
    if gains is None:
        words = "<p>From where {0} and {1} disagree most.</p>"
        colors, meanings = [NEITHER], ["they differ"]
    parts.append(words.format(html.escape(first), html.escape(second)))
    parts.append(page.key([n.replace("_", " ") for n in classes.names], classes.colors))
    parts.append("<p>In the last picture of a row:</p>" + page.key(meanings, colors))
    for place, (index, row) in enumerate(panels.items()):
        if gains is not None and len(panels) < len(comparison.pictures):
            half = {0: "gains", len(panels) // 2: "loses"}.get(place)
            parts += [f"<h3>Where {html.escape(second)} {half} most</h3>"] if half else []
        title = comparison.pictures[index]
        if gains is not None and np.isfinite(gains[index]):
            title += f": {100 * gains[index]:+.1f} points for {second}"
        figures = [page.figure(panel.image, panel.caption, kind="jpeg") for panel in row]
        parts.append(
            f'<section class="pair"><h4>{html.escape(title)}</h4>{page.row(figures)}</section>'
        )
    return parts


def _method(comparison: Comparison) -> list[str]:
    """How it was measured, and which checkpoints."""
    rows = "".join(
        f"<li>{html.escape(one.name)}: <code>{html.escape(one.checkpoint)}</code></li>"
        for one in comparison.contenders
    )
    said = "<p>The time of a picture is the median over the pictures, each network in turn.</p>"
    if comparison.counts:
        said += (
            f"<p>Intervals come from {DRAWS:,} sets of pictures drawn with replacement from "
            "these, the same sets for every network (paired bootstrap, percentiles). They tell "
            "how much the choice of pictures matters, not what another training would give.</p>"
        )
    return ["<h2>How it was measured</h2>", said, f"<ul>{rows}</ul>"]


def _ends(order: Sequence[int], shown: int) -> list[int]:
    """The first and the last of an order, all of it if it is short."""
    if len(order) <= 2 * shown:
        return list(order)
    return [*order[:shown], *order[-shown:]]


def _small(image: Image) -> Image:
    """The picture at most WIDTH wide."""
    height, width = image.shape[:2]
    if width <= WIDTH:
        return image
    size = WIDTH, max(1, round(height * WIDTH / width))
    return np.array(PIL.Image.fromarray(image).resize(size, PIL.Image.Resampling.LANCZOS))


def _with_range(text: str) -> str:
    """A score with its range set small."""
    value, _, ends = text.partition(" (")
    return f'{value}<span class="range">{ends.rstrip(")")}</span>' if ends else value


def _percent(score: Interval) -> str:
    return f"{100 * score.value:.1f}" if np.isfinite(score.value) else "–"


def _is_ours(path: Path) -> bool:
    """Whether a file holds the scores of a comparison."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(values, dict) and values.get("made_by") == "deconvnet compare"
