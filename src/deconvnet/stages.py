"""Two-stage training: first objects alone, then windows as instance-wise prediction meets them.

Stage 1 sees crops around one annotated object each, in which all else is background: an easy
task with little to choose from. Stage 2 starts from its weights and sees windows around object
proposals, with everything in them labelled. Last, the statistics of batch normalisation are
taken anew over stage 2's list.

    RUN/stage1, RUN/stage2   a run each: best/, last/, state.pt, log.csv, curve.png;
                             train_windows.npz and val_windows.npz, the lists of windows;
                             crops.png, a sheet of some of them
    RUN/best, RUN/last       stage 2's, with the statistics of batch normalisation taken anew

Source: Noh, Hong & Han 2015, section 4; lists and solvers of the release (SPEC, 1.2 to 1.4).
"""

import csv
import filecmp
import hashlib
import zipfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL.Image
import torch
from scipy import ndimage
from torch import Tensor, nn

from deconvnet import draw, proposals
from deconvnet.checkpoint import load_checkpoint, load_state, save_checkpoint
from deconvnet.data import Dataset, Sample
from deconvnet.data.augment import center_crop, mirrored
from deconvnet.data.joined import short_name
from deconvnet.errors import CheckpointError, DataError, OutputError, RecipeError
from deconvnet.evaluate import Evaluation, evaluate, remember
from deconvnet.familiarity import LEAST_PICTURES
from deconvnet.files import remove_partial_files, write_text, written_whole
from deconvnet.instances import CONTEXT
from deconvnet.kernels.training import native_operations
from deconvnet.labels import IGNORED, Classes
from deconvnet.predict import Predictor
from deconvnet.progress import say, tracked
from deconvnet.recipe import Recipe
from deconvnet.shapes import BoxArray, Float32, InstanceMap, Int32, UInt8
from deconvnet.training.job import Job
from deconvnet.training.loop import carry_out, check_same_recipe
from deconvnet.training.records import model_card, write_table
from deconvnet.training.solver import freeze
from deconvnet.training.trials import plan_job

RESIZED = 250 / 224
"""Side of the stored crops over that of the random crops taken from them, as published."""

LEAST_PIXELS = 64
"""Objects of fewer pixels are left out: enlarged to 224 pixels they are a few smooth blots."""

VAL_EXAMPLES = 200
"""At most so many crops or windows of val, evenly spread, score a stage."""

BN_BATCHES, BN_BATCH = 501, 28
"""The release's pass over the training list: 501 batches of 28."""


@dataclass(frozen=True, eq=False)
class Windows:
    """Squares of pictures around one object each."""

    pictures: Int32[np.ndarray, " n"]
    """Which picture of the data set."""
    boxes: Float32[np.ndarray, "n 4"]
    """x0 y0 x1 y1 in its pixels; may run past the border."""
    objects: Int32[np.ndarray, " n"]
    """Which object of the picture: its id in the instance map."""
    labels: UInt8[np.ndarray, " n"]
    """The object's class."""

    def __len__(self) -> int:
        return len(self.pictures)

    def taken(self, rows: np.ndarray) -> "Windows":
        """Those of the given rows, in their order."""
        return Windows(
            self.pictures[rows], self.boxes[rows], self.objects[rows], self.labels[rows]
        )

    def balanced(self) -> "Windows":
        """Windows of rare classes repeated: `repeats` times each, one after another."""
        return self.taken(np.repeat(np.arange(len(self)), repeats(self.labels)))

    def spread(self, count: int) -> "Windows":
        """At most `count` of them, evenly spread."""
        rows = np.linspace(0, len(self) - 1, min(count, len(self))).round().astype(int)
        return self.taken(rows)


def repeats(labels: UInt8[np.ndarray, " n"]) -> Int32[np.ndarray, " n"]:
    """How often each example is to occur so that rare classes are not drowned by common ones.

    A class k times rarer than the most frequent one is repeated root of k times, rounded:
    between leaving it rare and showing the same few objects again and again.

    Source: "rare classes repeated" is all that is known of the authors' rule; the root is that
    of Gupta, Dollár & Girshick 2019 (LVIS, repeat factor sampling).

    >>> repeats(np.array([1, 1, 1, 1, 2], np.uint8))
    array([1, 1, 1, 1, 2], dtype=int32)
    """
    counts = np.bincount(labels, minlength=256)
    return np.rint(np.sqrt(counts.max(initial=0) / counts[labels])).astype(np.int32)


@dataclass(frozen=True, eq=False)
class Crops:
    """Windows of pictures as examples to train on: a Dataset; each is cut when asked for."""

    pictures: Dataset
    windows: Windows
    side: int
    """Pixels to which the squares are resized."""
    alone: bool
    """Only the object in the middle keeps its class, all else is background (stage 1); or
    everything is labelled (stage 2)."""

    @property
    def classes(self) -> Classes:
        """Those of the pictures."""
        return self.pictures.classes

    @property
    def split(self) -> str:
        """That of the pictures."""
        return self.pictures.split

    @property
    def names(self) -> tuple[str, ...]:
        """The picture's name and the place in the list of windows: 2007_000032@0."""
        names = self.pictures.names
        return tuple(
            f"{names[picture]}@{row}" for row, picture in enumerate(self.windows.pictures)
        )

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> Sample:
        """Cut out a window: black and void past the border; void stays void inside, too."""
        row = range(len(self))[index]
        sample = self.pictures[int(self.windows.pictures[row])]
        if self.alone:
            sample = only_object(
                sample,
                int(self.windows.objects[row]),
                int(self.windows.labels[row]),
                background_of(self.classes),
            )
        image, label_map, instance_map, name = sample
        box, side = self.windows.boxes[row], self.side
        if instance_map is not None:
            instance_map = proposals.crop_label_map(instance_map, box, side, outside=0)
        return Sample(
            proposals.crop(image, box, side),
            proposals.crop_label_map(label_map, box, side),
            instance_map,
            f"{name}@{row}",
        )


def only_object(sample: Sample, number: int, label: int, background: int) -> Sample:
    """The sample with one of its objects alone; void pixels stay void.

    Args:
        sample: Stays as it is.
        number: The object's id in `instances_of` the sample.
        label: Its class.
        background: What all else becomes.
    """
    mine = instances_of(sample, background) == number
    label_map = np.where(mine, np.uint8(label), np.uint8(background))
    label_map[sample.label_map == IGNORED] = IGNORED
    return sample._replace(label_map=label_map, instance_map=mine.astype(np.int32))


class Objects(NamedTuple):
    """The objects of one picture."""

    boxes: BoxArray
    """Tight."""
    ids: Int32[np.ndarray, " b"]
    labels: UInt8[np.ndarray, " b"]
    """The class of most of its pixels."""


def find_objects(sample: Sample, background: int) -> Objects:
    """The annotated objects of a class that is not background, of at least LEAST_PIXELS.

    Void pixels inside an object count for neither its class nor its size.
    """
    numbered = instances_of(sample, background)
    boxes, ids = proposals.boxes_of(numbered)
    if len(ids) == 0:
        return Objects(boxes, ids, np.zeros(0, np.uint8))
    counted = (numbered > 0) & (sample.label_map != IGNORED)
    place = np.searchsorted(ids, numbered[counted])
    pairs = place * 256 + sample.label_map[counted]
    pixels = np.bincount(pairs, minlength=256 * len(ids)).reshape(len(ids), 256)
    labels = pixels.argmax(1).astype(np.uint8)
    kept = (pixels.sum(1) >= LEAST_PIXELS) & (labels != background)
    return Objects(boxes[kept], ids[kept], labels[kept])


def instances_of(sample: Sample, background: int) -> InstanceMap:
    """The instance map; where there is none, the 8-connected components of each class."""
    if sample.instance_map is not None:
        return sample.instance_map
    numbered = np.zeros(sample.label_map.shape, np.int32)
    for label in np.unique(sample.label_map):
        if label not in (background, IGNORED):
            found, _ = ndimage.label(sample.label_map == label, structure=np.ones((3, 3)))
            numbered[found > 0] = found[found > 0] + numbered.max()
    return numbered


def list_objects(dataset: Dataset, *, quiet: bool = False) -> Windows:
    """A window around each annotated object: its tight box, enlarged 1.2 times, made square.

    Raises:
        DataError: If there is no object, or no class is background.
    """
    background = background_of(dataset.classes)
    _say_what_objects_are(dataset, quiet=quiet)

    def find(index: int) -> Windows:
        return _windows(index, *find_objects(dataset[index], background))

    found = _joined(dataset, find, f"objects of {dataset.split}", quiet=quiet)
    if len(found) == 0:
        raise DataError(
            f"No object was found in the {len(dataset)} pictures of {dataset.split}: every "
            f"pixel is background or void, or each object is under {LEAST_PIXELS} pixels; "
            "label some, or set stages to one."
        )
    return found


def list_windows(dataset: Dataset, overlap: float, *, quiet: bool = False) -> Windows:
    """A window around each proposal that overlaps an annotated object's box well enough.

    Proposals are compared as they are, then enlarged 1.2 times and made square, as prediction
    does. Each belongs to the object it overlaps most.

    Args:
        dataset: The pictures.
        overlap: Least intersection over union, 0 to 1.
        quiet: Show no progress.

    Raises:
        DataError: If there is no such proposal, or no class is background.
        RecipeError: If overlap is out of its range.

    Source: SPEC, 1.4; differs: overlap with the object's box, which is cheaper than with its
    segment.
    """
    if not 0 <= overlap <= 1:
        raise RecipeError(f"overlap is {overlap}; it must lie in 0 to 1.")
    background = background_of(dataset.classes)
    method = proposals.default_method()

    def find(index: int) -> Windows:
        sample = dataset[index]
        objects = find_objects(sample, background)
        if len(objects.ids) == 0:
            return _windows(index, *objects)
        proposed, _ = proposals.propose(sample.image, method)
        overlaps = proposals.iou(proposed, objects.boxes)
        kept = np.flatnonzero(overlaps.max(axis=1) >= max(overlap, 1e-6))
        best = overlaps[kept].argmax(axis=1)
        return _windows(index, proposed[kept], objects.ids[best], objects.labels[best])

    found = _joined(dataset, find, f"proposals of {dataset.split}", quiet=quiet)
    if len(found) == 0:
        raise DataError(
            f"No proposal ({method}) overlaps an object of {dataset.split} by {overlap:g}; "
            "lower overlap."
        )
    return found


def background_of(classes: Classes) -> int:
    """The class that is no object.

    Raises:
        DataError: If there is none.
    """
    if classes.background is None:
        raise DataError(
            f"None of the classes {', '.join(classes.names[:4])}, ... is background, so there "
            "are no objects to crop; name one class background, or set stages to one."
        )
    return classes.background


@torch.no_grad()
def reestimate_batch_norm(network: nn.Module, batches: Iterable[Tensor]) -> int:
    """Put the mean of the batches' means and variances in the place of running averages.

    Each batch is normalised by its own statistics on its way, as in training; dropout is off.
    Variances are biased (divided by the number of values): the release means to correct them,
    but its integer division makes the factor 1. A layer that sees a single value of each
    channel in a batch learns nothing from it. A layer that is frozen, its scale without a
    gradient, keeps and uses the statistics it has, as it did in training.

    Args:
        network: Changed in place; comes back in the mode it was in.
        batches: Images as the network takes them.

    Returns:
        The batches seen.

    Source: SPEC, 1.2, "Conversion".
    """
    modes = [(module, module.training) for module in network.modules()]
    norms = _trained_norms(network)
    averages: dict[nn.Module, tuple[Tensor, Tensor]] = {
        norm: (norm.running_mean, norm.running_var)
        for norm in norms
        if norm.running_mean is not None and norm.running_var is not None
    }
    before = {norm: torch.stack(pair) for norm, pair in averages.items()}
    momenta = [(norm, norm.momentum) for norm in norms]
    moments: dict[nn.Module, list[Tensor]] = {norm: [] for norm in averages}

    def note(norm: nn.Module, inputs: tuple[Tensor, ...], _output: Tensor) -> None:
        values = inputs[0].numel() // inputs[0].shape[1]
        if values > 1:
            mean, unbiased = averages[norm]
            moments[norm].append(torch.stack([mean, unbiased * ((values - 1) / values)]))
            _copy_rows(before[norm], averages[norm])

    handles = [norm.register_forward_hook(note) for norm in averages]
    network.eval()
    seen = 0
    try:
        for norm in norms:
            norm.train()
            norm.momentum = 1.0  # its averages are then those of the batch alone
        for batch in batches:
            network(batch)
            seen += 1
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes:
            module.training = mode
        for norm, momentum in momenta:
            norm.momentum = momentum
        for kept, pair in averages.items():
            _copy_rows(before[kept], pair)
    for measured, pair in averages.items():
        if moments[measured]:
            _copy_rows(torch.stack(moments[measured]).double().mean(0), pair)
    return seen


def _copy_rows(rows: Tensor, averages: tuple[Tensor, Tensor]) -> None:
    """Put a mean and a variance in the place of those a layer keeps."""
    for average, row in zip(averages, rows, strict=True):
        average.copy_(row)


def _trained_norms(network: nn.Module) -> list[nn.BatchNorm2d]:
    """The layers of batch norm that are not frozen."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    return [norm for norm in norms if not norm.affine or norm.weight.requires_grad]


def carry_out_two_stages(job: Job, *, resume: bool) -> Evaluation | None:
    """Train on object crops, then on proposal windows, and take batch norm's statistics anew.

    Args:
        job: Over whole pictures, of a recipe of two stages.
        resume: Go on with the run in its folder, in the stage that it was stopped in.

    Returns:
        The scores of best/ on whole pictures of val; none where the data set has no val.

    Raises:
        UserError: If the data or the folder does not do, before any training.
        KeyboardInterrupt: On Ctrl-C, after the state was saved.
    """
    background_of(job.training.classes)
    _check_folder(job, resume=resume)
    if job.fabric.is_global_zero:
        for folder in (job.out, job.out / "best", job.out / "last"):
            remove_partial_files(folder)
    last = job.out / "stage1" / "last"
    if not (job.out / "stage2" / "state.pt").exists():
        first = _stage(job, 1)
        job.by_first(lambda: write_text(job.out / "recipe.yaml", job.recipe.to_yaml()))
        _run_stage(first, resume=resume)
        if not (last / "model.safetensors").is_file():
            raise CheckpointError(
                f"Stage 1 is done, but {last}, from which stage 2 starts, is missing; put it "
                "back, or train anew in another folder."
            )
    second = _stage(job, 2)
    _run_stage(second, resume=resume)
    return _finish(job, second) if job.fabric.is_global_zero else None


def plan_two_stages(job: Job) -> str:
    """What training in two stages would do and take, from three steps that are thrown away.

    Raises:
        DataError: If there is nothing to crop.
    """
    first = first_stage(job)
    return (
        f"stage 1    crops around {len(first.training)} objects, rare classes repeated\n"
        f"{plan_job(first)}\n"
        f"stage 2    windows around proposals: {job.recipe.steps} steps, as long as above,\n"
        f"           after their list is made in one pass over {len(job.training)} pictures"
    )


def first_stage(job: Job) -> Job:
    """Stage 1 as a job of its own, without scores on val; writes nothing.

    Raises:
        DataError: If there is nothing to crop.
    """
    crops = list_objects(job.training, quiet=job.quiet).balanced()
    examples = Crops(job.training, crops, stored_side(job.recipe.crop_size), alone=True)
    return replace(
        job,
        recipe=stage_recipe(job, 1),
        training=examples,
        validation=None,
        out=job.out / "stage1",
    )


def stage_recipe(job: Job, number: int) -> Recipe:
    """The recipe of stage 1 or 2 alone."""
    recipe = replace(job.recipe, stages="one")
    if number == 2:
        return replace(recipe, start_from=str(job.out / "stage1" / "last"))
    every = recipe.stage1_step_every or recipe.step_every
    return replace(recipe, steps=recipe.stage1_steps, step_every=every)


def stored_side(crop_size: int) -> int:
    """Side of the windows from which training crops of this size are taken.

    >>> stored_side(224)
    250
    """
    return round(crop_size * RESIZED)


def crop_sheet(examples: Crops, count: int = 24) -> np.ndarray:
    """A sheet of evenly spread examples: each image, and its labels beside it."""
    shown = replace(examples, windows=examples.windows.spread(count), side=144)
    panels = []
    for row, label in enumerate(shown.windows.labels):
        sample = shown[row]
        labels = draw.colored(sample.label_map, shown.classes)
        gap = np.full((shown.side, 3, 3), 255, np.uint8)
        pair = np.hstack([sample.image, gap, labels])
        name = shown.classes.names[label].replace("_", " ")
        panels.append(draw.Panel(pair, f"{name}, {sample.name.rpartition('@')[0]}"))
    return draw.sheet([panels[start : start + 4] for start in range(0, len(panels), 4)])


def check_two_stages(recipe: Recipe) -> None:
    """Refuse settings that two stages cannot have.

    Raises:
        RecipeError: If there is one.
    """
    if recipe.input_scale != 1:
        raise RecipeError(
            f"input_scale is {recipe.input_scale:g}; in two stages every window is resized to "
            "crop_size, so leave it at 1."
        )


def _check_folder(job: Job, *, resume: bool) -> None:
    """Refuse a folder with another run, or without the one to go on with.

    Raises:
        OutputError: If it holds a run and resume was not asked for.
        CheckpointError: If it holds none and resume was asked for.
        RecipeError: If its run is of other settings.
    """
    written = job.out / "recipe.yaml"
    if not resume and written.exists():
        raise OutputError(
            f"{job.out} holds a run already; go on with it by --resume, "
            "or name another folder with --out."
        )
    if resume:
        if not written.exists():
            raise CheckpointError(f"There is no run in {job.out}; start it without --resume.")
        check_same_recipe(job.recipe, Recipe.from_file(written).to_dict(), job.out)


def _stage(job: Job, number: int) -> Job:
    """Stage 1 or 2 as a job of its own.

    Raises:
        DataError: If there is nothing to crop.
    """
    recipe, out = stage_recipe(job, number), job.out / f"stage{number}"
    windows = _listed(job, job.training, number).balanced()
    alone = number == 1
    training = Crops(job.training, windows, stored_side(recipe.crop_size), alone)
    validation = None
    try:
        if job.validation is not None:
            few = _listed(job, job.validation, number).spread(VAL_EXAMPLES)
            validation = Crops(job.validation, few, recipe.crop_size, alone)
    except DataError as error:
        say(f"Stage {number} goes on without scores on val: {error}", quiet=job.quiet)
    counts = np.bincount(windows.labels, minlength=len(training.classes))
    by_class = zip(training.classes.names, counts, strict=True)
    shown = ", ".join(f"{name} {count}" for name, count in by_class if count)
    say(f"Stage {number} trains on {len(windows)} windows: {shown}.", quiet=job.quiet)

    def show() -> None:
        if not (out / "crops.png").exists():
            with written_whole(out / "crops.png") as temporary:
                PIL.Image.fromarray(crop_sheet(training)).save(temporary)

    job.by_first(show)
    return replace(
        job,
        recipe=recipe,
        config=replace(job.config, recipe=recipe.to_dict()),
        training=training,
        validation=validation,
        out=out,
    )


def _run_stage(stage: Job, *, resume: bool) -> None:
    """Train a stage, go on with it, or leave it be where it is done."""
    state_file = stage.out / "state.pt"
    begun = resume and state_file.exists()
    if begun and load_state(state_file)["step"] >= stage.recipe.steps:
        return
    if resume and not begun and stage.fabric.is_global_zero:  # killed before its first state
        (stage.out / "recipe.yaml").unlink(missing_ok=True)
    stage.fabric.barrier()
    carry_out(stage, resume=begun)


def _finish(job: Job, second: Job) -> Evaluation | None:
    """Write best/ and last/, batch norm's statistics taken anew, the curve and the scores."""
    last, best_weights = (second.out / n / "model.safetensors" for n in ("last", "best"))
    alike = filecmp.cmp(last, best_weights, shallow=False)
    for names in (("last", "best"),) if alike else (("last",), ("best",)):
        trained = load_checkpoint(second.out / names[0])
        network = trained.network.to(job.fabric.device)
        predictor = Predictor(network, trained.config, job.fabric.device)
        freeze(network, second.recipe.freeze)
        with native_operations() if second.native else nullcontext():
            reestimate_batch_norm(network, _statistics_batches(second, predictor))
        for name in names:
            save_checkpoint(job.out / name, network, job.config)
    log = _joined_log(job)
    write_table(job.out / "log.csv", log)
    with written_whole(job.out / "curve.png") as temporary:
        draw.curve_picture(log, temporary)
    if job.validation is None:
        return None
    best = load_checkpoint(job.out / "best")
    predictor = Predictor(best.network.to(job.fabric.device), best.config, job.fabric.device)
    evaluation = evaluate(predictor, job.validation, quiet=job.quiet)
    if len(evaluation.traits) >= LEAST_PICTURES:
        remember(job.out / "best", evaluation, job.training)
    recipe = job.recipe
    story = (
        f"In two stages on {len(job.training)} pictures of `{short_name(recipe.data)}`: "
        f"{recipe.stage1_steps} steps of\n{job.pictures_per_step} crops around single objects, "
        f"then {recipe.steps} steps of windows around proposals,\n"
        f"{recipe.crop_size} pixels each; the scores are those of whole pictures"
    )
    write_text(job.out / "best" / "README.md", model_card(best, story, evaluation))
    return evaluation


def _statistics_batches(stage: Job, predictor: Predictor) -> Iterator[Tensor]:
    """The batches from which batch norm's statistics are taken: middles of training windows.

    501 of 28 as in the release, but no more than go through the list once, nor than training
    saw: after a short run the pass would take longer than the training.
    """
    if not any(isinstance(m, nn.BatchNorm2d) for m in predictor.network.modules()):
        return
    recipe, windows = stage.recipe, stage.training
    rng = np.random.default_rng([recipe.seed, BN_BATCHES])
    order = rng.permutation(len(windows))
    seen = min(len(windows), recipe.steps * stage.pictures_per_step)
    count = min(BN_BATCHES, -(-seen // BN_BATCH))
    for turn in tracked(range(count), "batch norm", count, quiet=stage.quiet):
        places = np.arange(turn * BN_BATCH, (turn + 1) * BN_BATCH) % len(order)
        images = []
        for row in order[places]:
            sample = center_crop(windows[int(row)], recipe.crop_size)
            images.append((mirrored(sample) if rng.random() < recipe.flip else sample).image)
        yield torch.stack([predictor.normalised(image) for image in images])


def _joined_log(job: Job) -> list[dict[str, float]]:
    """The lines of both stages' logs, the second's steps counted on from the first's."""
    joined = []
    for number, before in ((1, 0), (2, job.recipe.stage1_steps)):
        path = job.out / f"stage{number}" / "log.csv"
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        for row in csv.DictReader(lines):
            values = {name: float(value or "nan") for name, value in row.items()}
            joined.append({**values, "step": values["step"] + before})
    return joined


def _listed(job: Job, dataset: Dataset, number: int) -> Windows:
    """The list of windows of a stage, from RUN/stageN where it was made for the same data."""
    method, overlap = proposals.default_method(), job.recipe.overlap
    settings = [CONTEXT, LEAST_PIXELS, *((method, overlap) if number == 2 else ())]
    described = f"{settings} {dataset!r} {_files_of(dataset)}"
    made_for = hashlib.sha256(described.encode()).hexdigest()
    path = job.out / f"stage{number}" / f"{dataset.split}_windows.npz"
    listed: list[Windows] = []

    def make() -> None:
        if (known := _read_windows(path, made_for)) is None:
            if number == 1:
                known = list_objects(dataset, quiet=job.quiet)
            else:
                known = list_windows(dataset, overlap, quiet=job.quiet)
            with written_whole(path) as temporary:
                np.savez(temporary, made_for=made_for, **vars(known))
        listed.append(known)

    job.by_first(make)
    if not listed and (known := _read_windows(path, made_for)) is not None:
        listed.append(known)
    if not listed:
        raise DataError(f"{path} of the first process is not seen here; share the folder.")
    return listed[0]


def _files_of(dataset: Dataset) -> list[tuple[int, int]]:
    """Size and time of every file of a data set, so that one edited in its place is noticed."""
    found = {
        path
        for pair in getattr(dataset, "pairs", ())
        for path in (pair.image, pair.mask, pair.instances)
        if path is not None
    }
    stats = (path.stat() for path in sorted(found))
    return [(stat.st_size, stat.st_mtime_ns) for stat in stats]


def _read_windows(path: Path, made_for: str) -> Windows | None:
    """The windows in a file, if it is there, whole, and made for this."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            if str(stored["made_for"]) != made_for:
                return None
            return Windows(*(stored[field.name] for field in fields(Windows)))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _joined(
    dataset: Dataset, find: Callable[[int], Windows], what: str, *, quiet: bool
) -> Windows:
    """What is found in each picture, in their order, searched for by several threads."""
    pool = ThreadPoolExecutor(torch.get_num_threads())
    try:
        found = list(
            tracked(pool.map(find, range(len(dataset))), what, len(dataset), quiet=quiet)
        )
    finally:
        pool.shutdown(cancel_futures=True)
    return Windows(
        *(
            np.concatenate([getattr(part, field.name) for part in found])
            for field in fields(Windows)
        )
    )


def _windows(
    picture: int,
    boxes: BoxArray,
    objects: Int32[np.ndarray, " b"],
    labels: UInt8[np.ndarray, " b"],
) -> Windows:
    """Boxes of a picture, enlarged and made square."""
    squares = proposals.square(proposals.enlarge(boxes, CONTEXT))
    return Windows(np.full(len(boxes), picture, np.int32), squares, objects, labels)


def _say_what_objects_are(dataset: Dataset, *, quiet: bool) -> None:
    if dataset[0].instance_map is None:
        say(
            f"{dataset.split} does not tell objects of one class apart; the 8-connected parts "
            "of each class stand in for them, so touching objects are cropped as one.",
            quiet=quiet,
        )
