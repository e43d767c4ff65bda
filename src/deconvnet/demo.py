"""The first run: two small networks learn drawn pictures, and a page shows what they see."""

import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from deconvnet import draw, page
from deconvnet.data import Dataset, open_dataset
from deconvnet.data.image_files import write_png
from deconvnet.errors import DataError
from deconvnet.evaluate import Evaluation, evaluate
from deconvnet.files import write_text
from deconvnet.predict import Predictor, load
from deconvnet.progress import say
from deconvnet.recipe import Recipe
from deconvnet.shapes import Image
from deconvnet.training.job import prepare
from deconvnet.training.loop import carry_out

SIDE = 193
"""Pixels of the pictures: DeconvNet's least, so that its fc6 sees all of one at once."""

DRAWN = f"scenes:size={SIDE},kinds=ball+leaf+fish,color_hint=1,max_objects=3,min_extent=0.1"
"""Easy pictures: few objects of three kinds, in the colours of their classes."""

SHARED = Recipe(
    data=DRAWN,
    width=0.125,
    fc_channels=256,
    crop_size=SIDE,
    scale_range=(1.0, 1.0),
    color=0.0,
    batch_size=8,
    learning_rate=0.003,
    warmup=10,
    clip=5.0,
    ema=0.97,
    evaluate_every=50,
    val_pictures=30,
    save_every=50,
    log_every=5,
)

RECIPES = {
    "fcn8s": SHARED.with_settings({"model": "fcn8s", "batch_norm": True, "steps": 70}),
    "deconvnet": SHARED.with_settings(
        {
            "model": "deconvnet",
            "init": "he",
            "freeze": "encoder",
            "learning_rate": 0.01,
            "steps": 400,
        }
    ),
}
"""What is trained: the FCN-8s from random numbers, then DeconvNet's decoder on its encoder.

DeconvNet from random numbers was worse with every seed tried (docs/decisions/0019).
"""

TITLES = {"fcn8s": "FCN-8s", "deconvnet": "DeconvNet"}

SHOWN = 8
COLUMNS = 5
SCORED = 60


@dataclass(frozen=True)
class Trained:
    """One of the two networks after its training."""

    title: str
    predictor: Predictor
    evaluation: Evaluation
    run: Path


def demo(out: str | Path, *, seed: int = 0, quiet: bool = False) -> Path:
    """Train, evaluate and compare two small networks on drawn pictures.

    What is there from an earlier call is used again; an interrupted one goes on.

    Args:
        out: Folder of the page, index.html, and of both runs.
        seed: Of the training and the pictures.
        quiet: Show no progress.

    Returns:
        The page, one file that opens in any browser.

    Raises:
        OutputError: If the folder cannot be written.
    """
    out = Path(out)
    started = time.monotonic()
    unseen = open_dataset(f"{DRAWN},count={SCORED}", "val")
    trained = []
    for name, recipe in RECIPES.items():
        run = out / "runs" / name
        say(
            f"{TITLES[name]}: {recipe.steps} steps of {recipe.batch_size} pictures", quiet=quiet
        )
        start = str(out / "runs" / "fcn8s" / "best") if recipe.freeze else None
        job = recipe.with_settings({"seed": seed, "start_from": start})
        evaluation = _train_once(job, run, unseen, quiet=quiet)
        trained.append(Trained(TITLES[name], load(run / "best"), evaluation, run))
    write_png(out / "comparison.png", _sheet(trained, unseen))
    index = out / "index.html"
    write_text(index, page.page("deconvnet: the demo", _body(trained, unseen, started)))
    return index


def _train_once(recipe: Recipe, run: Path, unseen: Dataset, *, quiet: bool) -> Evaluation:
    """Train, go on with what was interrupted, or keep what is done."""
    state_file = run / "state.pt"
    begun = state_file.exists()
    if begun and (run / "curve.png").exists():
        say(f"{run} holds the trained network already", quiet=quiet)
        return evaluate(load(run / "best"), unseen, quiet=quiet)
    job = replace(prepare(recipe, run, device="cpu", quiet=quiet), validation=unseen)
    evaluation = carry_out(job, resume=begun)
    if evaluation is None:
        raise DataError("The demo has no pictures to score; this is a fault of the program.")
    return evaluation


def _body(trained: list[Trained], unseen: Dataset, started: float) -> list[str]:
    classes = unseen.classes
    minutes = (time.monotonic() - started) / 60
    return [
        "<h1>Two networks after a few minutes of training</h1>",
        "<p>Everything here was made on this machine just now, from nothing: the pictures were "
        "drawn by the program, and the FCN started from random numbers; DeconvNet has kept the "
        "FCN's encoder and learned the rest. So their scores are low; look at <em>how</em> "
        "they differ. The FCN sees the picture in one pass and adds up coarse maps; DeconvNet "
        "squeezes it into one small vector per place and builds the shape again with the "
        "switches of its pooling.</p>",
        "<h2>Pictures neither has seen</h2>",
        page.key(classes.names, classes.colors),
        *_pictures(trained, unseen),
        "<h2>Scores in percent</h2>",
        f"<p>On {len(unseen)} unseen pictures. Small objects cover less than 1 % of the "
        "picture, large ones more than 25 %.</p>",
        page.table(["", *(network.title for network in trained)], _scores(trained)),
        "<h2>Training</h2>",
        page.table(["", *(network.title for network in trained)], _costs(trained), unit=""),
        page.row(
            [
                page.figure(net.run / "curve.png", f"{net.title}: loss and mIoU")
                for net in trained
            ],
            "wide",
        ),
        "<h2>Next</h2>",
        "<p>Segment a picture of yours, or train on your own: "
        "<code>deconvnet train recipes/own-data-unet.yaml --data YOUR_FOLDER</code> "
        "takes a folder with <code>images/</code> and <code>masks/</code>.</p>",
        f'<p class="soft">Made in {minutes:.1f} minutes by <code>deconvnet demo</code>.</p>',
    ]


def _pictures(trained: list[Trained], unseen: Dataset) -> list[str]:
    rows = []
    for index in range(SHOWN):
        sample = unseen[index]
        truth = draw.overlay(sample.image, sample.label_map, unseen.classes)
        figures = [page.figure(sample.image, "picture"), page.figure(truth, "truth")]
        for network in trained:
            overlay = np.array(network.predictor(sample.image).overlay())
            figures.append(page.figure(overlay, network.title))
        rows.append(page.row(figures))
    return rows


def _sheet(trained: list[Trained], unseen: Dataset) -> Image:
    """The first pictures as one: a column each, over the truth and what the networks see."""
    samples = [unseen[index] for index in range(COLUMNS)]
    classes = unseen.classes
    rows = [
        [draw.Panel(sample.image, "picture") for sample in samples],
        [draw.Panel(draw.overlay(s.image, s.label_map, classes), "truth") for s in samples],
    ]
    for network in trained:
        rows.append(
            [
                draw.Panel(np.array(network.predictor(sample.image).overlay()), network.title)
                for sample in samples
            ]
        )
    return draw.sheet(rows)


def _scores(trained: list[Trained]) -> list[tuple[str, list[float | None]]]:
    results = [network.evaluation.to_json() for network in trained]
    rows = [
        ("mIoU", [result["mean_iou"] for result in results]),
        ("pixel accuracy", [result["pixel_accuracy"] for result in results]),
        ("boundary F1", [result["boundary_f1"] for result in results]),
    ]
    for group, label in (("iou_by_size", "IoU, {} objects"), ("iou", "IoU, {}")):
        for name in results[0][group]:
            rows.append((label.format(name), [result[group][name] for result in results]))
    return rows


def _costs(trained: list[Trained]) -> list[tuple[str, list[float | None]]]:
    recipes = [network.predictor.config.recipe for network in trained]
    networks = [network.predictor.network for network in trained]
    return [
        ("parameters", [float(sum(p.numel() for p in n.parameters())) for n in networks]),
        ("steps", [float(recipe["steps"]) for recipe in recipes]),
        ("pictures a step", [float(recipe["batch_size"]) for recipe in recipes]),
    ]
