"""What each part of a system brings: train variants, predict in variants, and tabulate.

Training is varied by recipe settings (unpooling, stages, any other, seeds), prediction by
proposals, an ensemble and the CRF. Everything is kept in one folder: a run that is there is
used or gone on with, a row that was measured is not measured again.
"""

import hashlib
import itertools
import json
import re
import time
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from deconvnet import crf as dense_crf
from deconvnet.checkpoint import find_checkpoint, load_checkpoint
from deconvnet.data import Dataset, open_dataset
from deconvnet.errors import DataError, OutputError, RecipeError
from deconvnet.evaluate import check_classes
from deconvnet.files import refuse_unwritable_folder, write_text
from deconvnet.instances import Aggregate, instance_scores
from deconvnet.labels import Classes
from deconvnet.metrics import Scores
from deconvnet.models import build_model
from deconvnet.predict import Predictor, combined, load
from deconvnet.progress import say, tracked
from deconvnet.recipe import Recipe, setting_named, setting_types
from deconvnet.shapes import Image
from deconvnet.train import train
from deconvnet.training.job import model_options
from deconvnet.training.loop import check_same_recipe

Row = dict[str, Any]
"""What was measured once: IDENTITY, and the scores."""

VARIANT = (
    *("base", "changes", "data", "split", "images"),
    *("proposals", "aggregate", "ensemble", "crf"),
)
"""What rows share whose networks differ by their seed alone."""

IDENTITY = (*VARIANT, "seed")
"""What tells a row from the others; its weights tell whether it is out of date."""

SCORES = ("mean_iou", "boundary_f1", "pixel_accuracy", "small", "medium", "large")


class Variant(NamedTuple):
    """A network to be measured, trained or to be trained."""

    base: str
    """Name of the recipe or checkpoint that it is a variant of."""
    changes: dict[str, Any]
    """Settings that differ from that recipe."""
    seed: int | None
    """None for a checkpoint that was given."""
    checkpoint: Path
    """Where its network is, or will be."""
    recipe: Recipe | None
    """None for a checkpoint that was given."""
    origin: "Variant | None" = None
    """The network it starts from, where that is of this ablation too."""

    @property
    def run(self) -> Path:
        """The folder of its training run."""
        return self.checkpoint.parent

    @property
    def is_trained(self) -> bool:
        """Whether its network is there and its training came to its end."""
        done = (self.run / "curve.png").is_file()  # the last thing that a training writes
        return self.recipe is None or (done and (self.checkpoint / "config.json").is_file())


@dataclass(frozen=True)
class Grid:
    """What is varied."""

    crossed: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """Values of settings, each combined with each, such as those of unpooling and stages."""
    varied: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """Values of settings, tried one at a time against the recipe."""
    seeds: Sequence[int] = ()
    """None: the recipe's own."""
    proposals: Sequence[int] = (0,)
    aggregate: Sequence[Aggregate] = ("max",)
    """How the maps of the proposals are joined."""
    crf: bool = False
    """Measure everything with the CRF too."""
    ensemble: str | None = None
    """A checkpoint or recipe to measure everything with, too; of a recipe, the same seed's."""


@dataclass(frozen=True)
class Plan:
    """What an ablation will do."""

    variants: tuple[Variant, ...]
    partners: tuple[Variant, ...]
    """The second network of the ensemble, one for each seed; a checkpoint is for all."""
    grid: Grid
    out: Path
    data: str | None
    """The data set to measure on; None: that of each recipe."""
    split: str
    pictures: int | None
    """Measure on so many, evenly spread; None: all."""

    @property
    def to_train(self) -> list[Variant]:
        """Networks that are not there yet, those that others start from first."""
        missing: list[Variant] = []
        for variant in (*self.variants, *self.partners):
            for needed in _with_origins(variant):
                if not needed.is_trained and needed not in missing:
                    missing.append(needed)
        return missing

    @property
    def windows(self) -> list[tuple[int, Aggregate]]:
        """Numbers of proposals and how they are joined; in a picture as a whole nothing is."""
        pairs = itertools.product(self.grid.proposals, self.grid.aggregate)
        return list(dict.fromkeys((count, how if count else "max") for count, how in pairs))

    @property
    def ways(self) -> list[tuple[bool, bool]]:
        """With the ensemble or without, with the CRF or without."""
        pairs = itertools.product((False, True), (False, True))
        return [
            (joined, refined)
            for joined, refined in pairs
            if (self.partners or not joined) and (self.grid.crf or not refined)
        ]

    def partner_of(self, variant: Variant) -> Variant | None:
        """The second network of a variant's ensemble: that of its seed, or else the first."""
        alike = [partner for partner in self.partners if partner.seed == variant.seed]
        return next(iter([*alike, *self.partners]), None)

    def to_text(self) -> str:
        """What would be done."""
        count = len(self.variants) * len(self.windows) * len(self.ways)
        there = len(read_rows(self.out))
        lines = [f"train      {len(self.to_train)} networks"]
        lines += [f"           {variant.run.name}" for variant in self.to_train]
        kept = [v for v in self.variants if v.recipe and v.is_trained]
        lines += [f"reuse      {len(kept)} trained before"] if kept else []
        lines.append(
            f"measure    {count} rows: {len(self.variants)} networks x "
            f"{len(self.windows)} ways with proposals x {len(self.ways)} ways to refine"
        )
        lines += [f"           {there} rows are in the table; those among them are kept"] * (
            there > 0
        )
        return "\n".join([*lines, f"writes     {self.out}"])


def plan(
    sources: Sequence[str],
    grid: Grid,
    out: str | Path,
    *,
    data: str | None = None,
    split: str = "val",
    pictures: int | None = None,
) -> Plan:
    """Say what an ablation will train and measure, and refuse what cannot be.

    Args:
        sources: Recipes (files) and checkpoints.
        grid: What is varied.
        out: Folder of the runs and tables.
        data: Data set to train and measure on instead of the recipes' own.
        split: Of it, to measure on.
        pictures: Measure on so many pictures, evenly spread; none: on all.

    Raises:
        UserError: If a recipe, setting, checkpoint or data set does not do.
    """
    out = Path(out)
    refuse_unwritable_folder(out, "the ablation")
    read_rows(out)  # a table that cannot be read is found now
    for name, low, values in (("proposals", 0, grid.proposals), ("seeds", 0, grid.seeds)):
        if any(value < low for value in values):
            raise RecipeError(f"{name} are {values}; they must not be negative.")
    if pictures is not None and pictures < 1:
        raise RecipeError(f"pictures is {pictures}; it must be at least 1.")
    variants = [
        variant for source in sources for variant in variants_of(source, grid, out, data=data)
    ]
    _refuse_alike(variants)
    trained = all(variant.recipe is None for variant in variants)
    if trained and (grid.crossed or grid.varied or grid.seeds):
        raise RecipeError(
            f"{', '.join(sources)}: trained networks have no settings to vary; give the recipe "
            "to train from, or leave out unpooling, stages, vary and seeds."
        )
    partners: list[Variant] = []
    if grid.ensemble:
        partners = variants_of(grid.ensemble, Grid(seeds=grid.seeds), out, data=data)
    made = Plan(tuple(variants), tuple(partners), grid, out, data, split, pictures)
    for variant in variants:
        classes = open_dataset(_data_of(made, variant), split).classes
        for network in (variant, *partners):
            for needed in _with_origins(network):
                _check_network(needed, classes)
    return made


def ablate(made: Plan, *, device: str = "auto", quiet: bool = False) -> list[Row]:
    """Train what is missing, measure what is missing, and give every row of the table.

    Rows are written to OUT/table.json as they come, so that a stopped ablation goes on.

    Raises:
        UserError: As training and prediction do.
    """
    for variant in made.to_train:
        say(f"training {variant.run.name}", quiet=quiet)
        _train(variant, device=device, quiet=quiet)
    rows = read_rows(made.out)
    for variant in made.variants:
        beside = made.partner_of(variant)
        partner = load(beside.checkpoint, device=device) if beside else None
        dataset = open_dataset(_data_of(made, variant), made.split)
        for windows in made.windows:
            asked = _rows_asked(made, variant, windows, len(_chosen(dataset, made.pictures)))
            missing = [row for row in asked if not any(_same(row, old) for old in rows)]
            if not missing:
                continue
            count, aggregate = windows
            joined = f" by {aggregate}" if count else ""
            say(f"measuring {_name(variant)}, {count} proposals{joined}", quiet=quiet)
            predictor = load(variant.checkpoint, device=device)
            ways = [(partner if row["ensemble"] else None, row["crf"]) for row in missing]
            found = measure(
                predictor, dataset, ways, windows=windows, pictures=made.pictures, quiet=quiet
            )
            new = [{**row, **scores} for row, scores in zip(missing, found, strict=True)]
            kept = [old for old in rows if not any(_replaces(row, old) for row in new)]
            rows = [*kept, *new]
            write_rows(made.out, rows)
    return rows


def measure(
    predictor: Predictor,
    dataset: Dataset,
    ways: Sequence[tuple[Predictor | None, bool]],
    *,
    windows: tuple[int, Aggregate] = (0, "max"),
    pictures: int | None = None,
    quiet: bool = False,
) -> list[dict[str, float | None]]:
    """Score one network refined in several ways, running it once a picture.

    Each way gives what `predictor(image, proposals=, aggregate=, ensemble=, crf=)` gives,
    pictures whole; its time is that of the parts it is made of.

    Args:
        predictor: The network.
        dataset: Pictures and truth.
        ways: The second network of an ensemble, if any, and whether the CRF refines.
        windows: How many object proposals a picture (0: the picture as a whole), and how their
            maps are joined.
        pictures: Evenly spread ones to take; none: all.
        quiet: Show no progress.

    Returns:
        For each way SCORES (0 to 1, None where there is none), and the median milliseconds a
        picture.
    """
    check_classes(predictor.classes, dataset.classes)
    background = dataset.classes.background
    scores = [Scores.empty(len(dataset.classes), background=background) for _ in ways]
    times: list[list[float]] = [[] for _ in ways]
    chosen = _chosen(dataset, pictures)
    for index in tracked(chosen, "measure", len(chosen), quiet=quiet):
        sample = dataset[index]
        for place, (labels, seconds) in enumerate(
            _predictions(predictor, sample.image, ways, windows)
        ):
            scores[place] = scores[place].add(labels, sample.label_map, sample.instance_map)
            times[place].append(seconds)
    found = []
    for reached, taken in zip(scores, times, strict=True):
        values = reached.to_json(dataset.classes.names)
        flat = {**values, **values["iou_by_size"]}
        found.append(
            {name: flat[name] for name in SCORES}
            | {"milliseconds": 1000 * float(np.median(taken))}
        )
    return found


def _predictions(
    predictor: Predictor,
    image: Image,
    ways: Sequence[tuple[Predictor | None, bool]],
    windows: tuple[int, Aggregate],
) -> Iterator[tuple[np.ndarray, float]]:
    """The label map of each way, and the seconds of the parts it is made of."""
    count, aggregate = windows
    began = time.perf_counter()
    scores = (
        torch.from_numpy(instance_scores(predictor, image, count, aggregate=aggregate))
        if count
        else predictor.scores(image).cpu()
    )
    own_seconds = time.perf_counter() - began
    joined: dict[int, tuple[np.ndarray, float]] = {}
    for partner, refined in ways:
        began = time.perf_counter()
        if id(partner) not in joined:
            together = (
                scores.softmax(0)
                if partner is None
                else combined(scores, partner.scores(image).cpu(), "mean")
            )
            joined[id(partner)] = together.numpy(), time.perf_counter() - began
        probabilities, seconds = joined[id(partner)]
        began = time.perf_counter()
        if refined:
            probabilities = dense_crf.refine(image, probabilities)
        labels = probabilities.argmax(0).astype(np.uint8)
        yield labels, own_seconds + seconds + time.perf_counter() - began


def variants_of(
    source: str, grid: Grid, out: Path, *, data: str | None = None
) -> list[Variant]:
    """The variants of a recipe; a checkpoint alone, in which there is nothing to vary.

    Where a recipe's start_from names another recipe (a .yaml beside it), each variant starts
    from the network that this ablation trains by that one, with the same seed.

    Raises:
        RecipeError: If a setting does not exist or cannot hold a value.
        CheckpointError: If it is neither a recipe nor a checkpoint.
    """
    path = Path(source)
    if path.suffix not in {".yaml", ".yml"}:
        folder = find_checkpoint(source)
        load_checkpoint(folder)
        name = folder.parent.name if folder.name in {"best", "last"} else folder.name
        return [Variant(name, {}, None, folder, None)]
    base = Recipe.from_file(path)
    if data is not None:
        base = base.with_settings({"data": data})
    variants = []
    for settings in _settings_of(grid):
        changed = base.with_settings(settings)
        changes = {
            name: value
            for name, value in changed.to_dict().items()
            if value != base.to_dict()[name]
        }
        for seed in grid.seeds or (base.seed,):
            words = [path.stem, *(f"{name}-{value}" for name, value in changes.items())]
            slug = re.sub(r"[^\w.+-]+", "_", ".".join([*words, f"seed-{seed}"]))
            recipe = changed.with_settings({"seed": seed})
            checkpoint = out / "runs" / slug / "best"
            origin = _origin_of(recipe, path, out, data)
            if origin is not None:
                recipe = recipe.with_settings({"start_from": str(origin.checkpoint)})
            variant = Variant(path.stem, changes, seed, checkpoint, recipe, origin)
            if variant not in variants:
                variants.append(variant)
    return variants


def _origin_of(recipe: Recipe, path: Path, out: Path, data: str | None) -> Variant | None:
    """The network that a recipe starts from, if it names a recipe for it.

    Raises:
        RecipeError: If there is no such recipe, or one starts from itself in the end.
    """
    if recipe.start_from is None or Path(recipe.start_from).suffix not in {".yaml", ".yml"}:
        return None
    beside = path.parent / recipe.start_from
    seen = [path.resolve()]
    while beside.resolve() not in seen:
        seen.append(beside.resolve())
        further = Recipe.from_file(beside).start_from
        if further is None or Path(further).suffix not in {".yaml", ".yml"}:
            alone = Grid(seeds=(recipe.seed,))
            return variants_of(str(path.parent / recipe.start_from), alone, out, data=data)[0]
        beside = beside.parent / further
    raise RecipeError(
        f"{path} starts from {recipe.start_from}, which starts from {path} again in the end; "
        "let one of them start from a checkpoint, or from nothing."
    )


def _with_origins(variant: Variant) -> list[Variant]:
    """A network after the one it starts from, and that after its own."""
    before = _with_origins(variant.origin) if variant.origin is not None else []
    return [*before, variant]


def values_of(text: str) -> tuple[str, list[Any]]:
    """A setting and its values from text such as unpooling=switches,nails.

    Values that hold a comma themselves (scale_range) are parted by a slash.

    >>> values_of("ema=0,0.99")
    ('ema', [0.0, 0.99])
    >>> values_of("scale-range=0.6,1.6/1,1")
    ('scale_range', [(0.6, 1.6), (1.0, 1.0)])

    Raises:
        RecipeError: If there is no such setting, or it cannot hold a value.
    """
    key, equals, values = text.partition("=")
    if not equals or not values:
        raise RecipeError(f"'{text}' varies nothing; write such as --vary ema=0,0.99.")
    name = setting_named(key)
    is_pair = typing.get_origin(setting_types()[name]) is tuple
    parts = values.split("/" if is_pair else ",")
    return name, [getattr(Recipe().with_settings({name: part}), name) for part in parts]


def read_rows(out: Path) -> list[Row]:
    """The rows measured before.

    Raises:
        OutputError: If there is a table that is none of ours.
    """
    file = out / "table.json"
    if not file.exists():
        return []
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))["rows"]
        rows = [{"aggregate": "max", **row} for row in kept]  # older tables do not say it
        if all({*IDENTITY, *SCORES, "milliseconds", "weights"} <= set(row) for row in rows):
            return rows
    except (OSError, ValueError, TypeError, KeyError):
        pass
    raise OutputError(
        f"{file} is no table of an ablation; move it away, or name another --out."
    )


def write_rows(out: Path, rows: Sequence[Row]) -> None:
    """Write OUT/table.json whole."""
    text = json.dumps({"made_by": "deconvnet ablate", "rows": list(rows)}, indent=1)
    write_text(out / "table.json", text + "\n")


def _settings_of(grid: Grid) -> Iterator[dict[str, Any]]:
    """Settings of each variant: what is crossed, and what is varied one at a time."""
    alone: list[dict[str, Any]] = [{}]
    alone += [{name: value} for name, values in grid.varied.items() for value in values]
    for combination in itertools.product(*grid.crossed.values()):
        crossed = dict(zip(grid.crossed, combination, strict=True))
        for change in alone:
            yield {**crossed, **change}


def _refuse_alike(variants: Sequence[Variant]) -> None:
    """Refuse two sources that would be one line of the table, or one run."""
    for one, other in itertools.combinations(variants, 2):
        alike = (one.base, one.changes, one.seed) == (other.base, other.changes, other.seed)
        if alike:
            raise DataError(
                f"{one.checkpoint} and {other.checkpoint} would both be named {_name(one)} in "
                "the table; rename one of their files or folders."
            )


def _check_network(variant: Variant, classes: Classes) -> None:
    """Refuse a network that cannot be built, has other classes, or is no run of its recipe.

    Raises:
        UserError: If so.
    """
    if variant.recipe is None:
        check_classes(load_checkpoint(variant.checkpoint).config.classes, classes)
        return
    _check_run(variant)
    with torch.device("meta"):
        build_model(variant.recipe.model, len(classes), **model_options(variant.recipe))


def _check_run(variant: Variant) -> bool:
    """Whether a variant's training was begun; refuses a run of other settings in its place.

    Raises:
        RecipeError: If so, as when the recipe file was changed since.
    """
    written = variant.run / "recipe.yaml"
    if variant.recipe is None or not written.exists():
        return False
    check_same_recipe(variant.recipe, Recipe.from_file(written).to_dict(), variant.run)
    return True


def _train(variant: Variant, *, device: str, quiet: bool) -> None:
    """Train a variant, or go on with it."""
    if variant.recipe is None:
        return
    resume = _check_run(variant)
    train(variant.recipe, out=variant.run, resume=resume, device=device, quiet=quiet)


def _rows_asked(
    made: Plan, variant: Variant, windows: tuple[int, Aggregate], images: int
) -> list[Row]:
    """The rows of a network and a number of proposals, without scores."""
    rows = []
    for joined, refined in made.ways:
        partner = made.partner_of(variant) if joined else None
        places = [variant.checkpoint, *([partner.checkpoint] if partner else [])]
        rows.append(
            {
                "base": variant.base,
                "changes": variant.changes,
                "seed": variant.seed,
                "data": _data_of(made, variant),
                "split": made.split,
                "images": images,
                "proposals": windows[0],
                "aggregate": windows[1],
                "ensemble": _name(partner._replace(seed=None)) if partner else None,
                "crf": refined,
                "weights": [_fingerprint(place) for place in places],
            }
        )
    return rows


def _same(row: Row, old: Row) -> bool:
    return _replaces(row, old) and row["weights"] == old["weights"]


def _replaces(row: Row, old: Row) -> bool:
    return all(row[name] == old[name] for name in IDENTITY)


def _name(variant: Variant) -> str:
    """The variant in words."""
    changes = [f"{name}={value}" for name, value in variant.changes.items()]
    seed = [] if variant.seed is None else [f"seed {variant.seed}"]
    return ", ".join([variant.base, *changes, *seed])


def _data_of(made: Plan, variant: Variant) -> str:
    """The data set to measure a variant on.

    Raises:
        DataError: If a checkpoint does not say and none was given.
    """
    if made.data is not None:
        return made.data
    if variant.recipe is not None:
        return variant.recipe.data
    named = load_checkpoint(variant.checkpoint).config.recipe.get("data")
    if not named:
        raise DataError(
            f"{variant.checkpoint} does not say what it was trained on; name the data set by "
            "--data."
        )
    return str(named)


def _chosen(dataset: Dataset, pictures: int | None) -> list[int]:
    """Evenly spread pictures of a data set."""
    count = min(len(dataset), pictures or len(dataset))
    return [int(index) for index in np.linspace(0, len(dataset) - 1, count).round()]


def _fingerprint(checkpoint: Path) -> str:
    """Short digest of a network's weights."""
    with (checkpoint / "model.safetensors").open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]
