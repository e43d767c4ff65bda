"""Segment many files: find them, and write a mask and an overlay for each.

A picture's results are written, each whole or not at all, and then a line in finished.jsonl;
so a prediction that was stopped goes on where it was. No picture outlives its turn.
"""

import csv
import glob
import gzip
import hashlib
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL.Image

from deconvnet import draw
from deconvnet.annotations import WRITERS, Labelled
from deconvnet.checkpoint import library_versions
from deconvnet.data.image_files import IMAGE_SUFFIXES, image_size, read_image, write_png
from deconvnet.data.mask_files import read_raw_mask
from deconvnet.errors import DataError, OutputError, RecipeError, did_you_mean
from deconvnet.files import refuse_odd_name, refuse_unwritable_folder, walk_files, written_whole
from deconvnet.labels import Classes
from deconvnet.predict import SAMPLES, Asked, Predictor, Segmentation, check_same_classes
from deconvnet.predict_journal import Finished, Journal, stamp_of
from deconvnet.progress import ProgressBar, say
from deconvnet.shapes import LabelMap
from deconvnet.videos import (
    VIDEO_SUFFIXES,
    VideoOptions,
    check_video,
    is_camera,
    is_video,
    predict_video,
)

_RESULTS = (".mask.png", ".overlay.png", ".doubt.png")
_FOLDER_RESULTS = ("legend.png",)


class PictureFile(NamedTuple):
    """A picture to segment."""

    path: Path
    name: str
    """Its path below the folder it was found in, without suffix; outputs keep it."""


@dataclass(frozen=True)
class Outputs:
    """What is written beside the masks and the tables."""

    overlay: bool = True
    """A picture of the classes over each picture."""
    annotations: str | None = None
    """A format of deconvnet.annotations.WRITERS, and the folder below for its files; the most
    doubtful pictures come first."""
    simplify: float = 0.0
    """Pixels by which polygons may leave the edges; 0 keeps the label map to the pixel."""
    voc_submission: str | Path | None = None
    """A .tgz file with the masks as the PASCAL VOC server takes them."""
    videos: VideoOptions = field(default_factory=VideoOptions)
    """What is made of films."""


def predict_files(  # noqa: PLR0913 - what the command line says, by keyword
    predictor: Callable[[], Predictor],
    inputs: Sequence[str | Path],
    out: str | Path,
    *,
    shard: str | None = None,
    max_pixels: int | None = None,
    outputs: Outputs | None = None,
    resume: bool = False,
    quiet: bool = False,
    report: Callable[[str], object] = lambda _line: None,
    **options: Any,
) -> list[Path]:
    """Segment pictures; write NAME.mask.png and NAME.overlay.png for each, and a legend.

    The share of each class in each picture goes into shares.csv; how unsure the network was of
    it, if that is asked for, into NAME.doubt.png and doubt.csv, the most doubtful first.

    Args:
        predictor: Gives the network; called after the inputs were found to be good.
        inputs: Files, folders (searched through), glob patterns, films, and camera:0.
        out: Folder of the results; paths below an input folder are kept.
        shard: "i/n": take every n-th picture, from the i-th (0 to n - 1), to share the work.
        max_pixels: Refuse larger pictures.
        outputs: What else is written.
        resume: Skip what was finished with the same settings.
        quiet: Show no progress.
        report: Takes a line about each picture: its classes and their shares.
        options: Of the predictor's call.

    Returns:
        The masks of the pictures.

    Raises:
        DataError: If there is nothing to segment.
        OutputError: If two inputs would write one file.
        RecipeError: If an option cannot hold its value, or what is to be resumed was begun
            with other settings.
        ImageFileError: If a file is no picture, before any is segmented; if one turns out to be
            damaged, when its turn comes: those before it are written.
    """
    outputs, out = outputs or Outputs(), Path(out)
    chosen = plan(inputs, out, outputs, shard=shard, max_pixels=max_pixels)
    segment = predictor()
    check_options(segment, options)
    write_png(out / "legend.png", draw.legend(segment.classes))
    settings = settings_of(segment, outputs, options)
    with Journal(out / f"finished{_part(shard)}.jsonl", settings, resume=resume) as journal:
        try:
            with ProgressBar("predict", len(chosen), quiet=quiet) as bar:
                for file in chosen:
                    finished = done_before(journal, file, out, outputs)
                    if finished is None:
                        finished = segment_file(
                            segment,
                            file,
                            out,
                            outputs,
                            max_pixels=max_pixels,
                            quiet=quiet,
                            **options,
                        )
                        journal.add(finished)
                    report(f"{finished.source}: {in_words(finished)}")
                    bar.advance()
        except KeyboardInterrupt:
            say(
                f"Stopped; {len(journal)} results in {out} are finished. Go on with the same "
                "command and --resume.",
                quiet=quiet,
            )
            raise
        return conclude(journal, chosen, out, segment.classes, outputs, shard=shard)


def plan(
    inputs: Sequence[str | Path],
    out: Path,
    outputs: Outputs,
    *,
    shard: str | None = None,
    max_pixels: int | None = None,
) -> list[PictureFile]:
    """What is to be segmented, once everything was found to be good that can be looked at.

    Raises:
        UserError: As predict_files does.
    """
    files = [
        file for file in find_pictures(inputs, videos=True) if not _is_result(file.path, out)
    ]
    if not files:
        raise DataError(f"The inputs hold nothing but results in {out}; give pictures.")
    _refuse_collisions(files)
    if outputs.annotations not in (None, *WRITERS):
        raise RecipeError(
            f"There is no format of annotations '{outputs.annotations}'; choose one of "
            f"{', '.join(WRITERS)}.{did_you_mean(str(outputs.annotations), WRITERS)}"
        )
    if outputs.annotations and shard:
        raise RecipeError(
            "Annotations of all pictures go into one file or order, so shards cannot write "
            "them; run the shards with --uncertainty entropy in their place, then once more "
            "with both and --resume instead of --shard."
        )
    if outputs.voc_submission and shard:
        raise RecipeError(
            "The masks of all pictures go into one archive, so shards cannot pack them; run "
            "the shards without, then once more with --resume instead of --shard."
        )
    if outputs.simplify < 0:
        raise RecipeError(f"--simplify is {outputs.simplify}; give pixels, 0 or more.")
    chosen = files[_shard_of(shard)]
    _refuse_for_films(chosen, outputs)
    if outputs.voc_submission:
        _refuse_alike_in_archive(chosen)
    for file in chosen:  # a file that is no picture is found now
        if is_video(file.path):
            check_video(str(file.path), outputs.videos)
        else:
            image_size(file.path, max_pixels=max_pixels)
    refuse_unwritable_folder(out, "the results")
    return chosen


def _refuse_for_films(files: Sequence[PictureFile], outputs: Outputs) -> None:
    """Refuse what is made of pictures alone, where there is none.

    Raises:
        RecipeError: If so.
    """
    asked = [n for n in ("annotations", "voc_submission") if getattr(outputs, n)]
    if asked and all(is_video(file.path) for file in files):
        raise RecipeError(
            f"--{asked[0]} is of pictures, and the inputs are films; leave it out, or write "
            "the masks of the frames by --frame_masks."
        )


def _refuse_alike_in_archive(files: Sequence[PictureFile]) -> None:
    """Refuse pictures of one name in several folders, as VOC's archive has one folder for all.

    Raises:
        OutputError: If there are some.
    """
    seen: dict[str, Path] = {}
    for file in files:
        name = Path(file.name).name
        if name in seen and not is_video(file.path):
            raise OutputError(
                f"{seen[name]} and {file.path} would both be {name}.png in the archive for "
                "VOC; rename one, or pack them apart."
            )
        seen[name] = file.path


def check_options(segment: Predictor, options: dict[str, Any]) -> None:
    """Refuse options of the call that this network cannot follow, before the first picture.

    Raises:
        RecipeError: If so.
    """
    asked = Asked(
        options.get("tta", False),
        options.get("uncertainty"),
        options.get("samples", SAMPLES),
    )
    plain = not any(options.get(name) for name in ("proposals", "crf", "ensemble"))
    segment.check(asked, whole=plain, windows=bool(options.get("proposals")))
    segment.check_tile(options.get("tile"), whole=plain)
    if options.get("ensemble") is not None:
        check_same_classes(segment.classes, options["ensemble"].classes)


def segment_file(
    segment: Predictor,
    file: PictureFile,
    out: Path,
    outputs: Outputs,
    *,
    max_pixels: int | None = None,
    quiet: bool = False,
    **options: Any,
) -> Finished:
    """Segment one picture or film and write its results; gives what the tables say about it."""
    stamp = stamp_of(file.path)  # before it is read, so that a later change is seen
    if is_video(file.path):
        share = predict_video(
            partial(segment, **options),
            str(file.path),
            out / file.name,
            outputs.videos,
            quiet=quiet,
        )
        return Finished(file.name, str(file.path), stamp, share)
    segmentation = segment(read_image(file.path, max_pixels=max_pixels), **options)
    write_results(segmentation, out / file.name, overlay=outputs.overlay)
    return record_of(segmentation, file, stamp)


def record_of(
    segmentation: Segmentation, file: PictureFile, stamp: tuple[int, int]
) -> Finished:
    """What the tables say about a picture."""
    return Finished(
        file.name,
        str(file.path),
        stamp,
        segmentation.share,
        segmentation.doubt,
        segmentation.unlike,
    )


def done_before(
    journal: Journal, file: PictureFile, out: Path, outputs: Outputs
) -> Finished | None:
    """What is known of a picture whose results are all there; none if it is to be segmented."""
    finished = journal.find(file.name, stamp_of(file.path))
    if finished is None or is_camera(file.path):
        return None
    suffixes = [".mask.png", ".overlay.png"] if outputs.overlay else [".mask.png"]
    if is_video(file.path):
        suffixes = [".overlay.mp4", ".frames.csv"]
    elif finished.doubt is not None:
        suffixes.append(".doubt.png")
    return finished if all(_result(out, file.name, s).is_file() for s in suffixes) else None


def conclude(
    journal: Journal,
    chosen: Sequence[PictureFile],
    out: Path,
    classes: Classes,
    outputs: Outputs,
    *,
    shard: str | None = None,
) -> list[Path]:
    """Write the tables, and what else is made from all masks; gives the masks."""
    names = [file.name for file in chosen]
    write_shares(out / f"shares{_part(shard)}.csv", journal.entries(names), classes)
    ranking = sorted(
        (-(finished.doubt or 0.0), place, finished.doubt, finished.unlike)
        for place, finished in enumerate(journal.entries(names))
    )
    if any(doubt is not None or unlike for _, _, doubt, unlike in ranking):
        with _table(out / f"doubt{_part(shard)}.csv") as table:
            table.writerow(["picture", "doubt", "unlike"])
            for _, place, doubt, unlike in ranking:
                table.writerow([names[place], "" if doubt is None else f"{doubt:.6f}", unlike])
    pictures = [
        (chosen[place], doubt)
        for _, place, doubt, _ in ranking
        if not is_video(chosen[place].path)
    ]
    if outputs.annotations:
        labelled = (
            Labelled(
                Path(file.name).as_posix(),
                file.path,
                partial(_read_mask, _result(out, file.name, ".mask.png")),
                doubt,
            )
            for file, doubt in pictures
        )
        folder = out / outputs.annotations
        WRITERS[outputs.annotations](labelled, classes, folder, outputs.simplify)
    masks = [_result(out, f.name, ".mask.png") for f in chosen if not is_video(f.path)]
    if outputs.voc_submission is not None:
        pack_for_voc(masks, outputs.voc_submission)
    return masks


def settings_of(
    segment: Predictor, outputs: Outputs, options: dict[str, Any]
) -> dict[str, Any]:
    """What decides the results, as plain values; options that are at rest are left out."""
    settings: dict[str, Any] = {
        name: value
        for name, value in sorted(options.items())
        if value not in (None, False, 0) and not isinstance(value, Predictor)
    }
    if isinstance(options.get("ensemble"), Predictor):
        settings["ensemble"] = _identity(options["ensemble"])
    return {
        "checkpoint": _identity(segment),
        **{name: value for name, value in segment.origin.items() if name != "checkpoint"},
        "device": str(segment.device),
        **settings,
        "overlay": outputs.overlay,
        "videos": list(outputs.videos),
        **library_versions(),
    }


def _identity(segment: Predictor) -> str:
    """A name for a checkpoint that its copies share and other weights do not."""
    digest = hashlib.blake2b(segment.config.to_json().encode(), digest_size=8)
    weights = Path(segment.origin.get("checkpoint", "")) / "model.safetensors"
    if weights.is_file():
        with weights.open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
    return digest.hexdigest()


def pack_for_voc(masks: Sequence[Path], archive: str | Path) -> None:
    """Pack masks as the evaluation server of PASCAL VOC takes them.

    They stand under results/VOC2012/Segmentation/comp6_test_cls, named as their pictures; comp6
    is the competition for networks trained on any data. Same masks, same bytes.
    """
    with (
        written_whole(archive) as temporary,
        gzip.GzipFile(temporary, "wb", mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        for mask in sorted(masks):
            name = mask.name.removesuffix(".mask.png")
            entry = tarfile.TarInfo(f"results/VOC2012/Segmentation/comp6_test_cls/{name}.png")
            entry.size = mask.stat().st_size
            with mask.open("rb") as file:
                tar.addfile(entry, file)


def write_results(segmentation: Segmentation, stem: Path, *, overlay: bool = True) -> Path:
    """Write stem.overlay.png and stem.doubt.png, then stem.mask.png, whose path it gives."""
    if overlay:
        write_png(
            _result(stem.parent, stem.name, ".overlay.png"), np.array(segmentation.overlay())
        )
    if segmentation.doubt_map is not None:
        grey = np.rint(255 * segmentation.doubt_map).astype(np.uint8)
        with written_whole(_result(stem.parent, stem.name, ".doubt.png")) as temporary:
            PIL.Image.fromarray(grey).save(temporary, format="PNG")
    mask = _result(stem.parent, stem.name, ".mask.png")
    segmentation.save_mask(mask)
    return mask


def in_words(about: Segmentation | Finished) -> str:
    """The classes in a picture and their shares, largest first, and what is strange."""
    shares = sorted(about.share.items(), key=lambda item: -item[1])
    words = ", ".join(f"{name} {100 * share:.1f} %" for name, share in shares if share > 0)
    return words + (f"; unlike the training data: {about.unlike}" if about.unlike else "")


def find_pictures(inputs: Iterable[str | Path], *, videos: bool = False) -> list[PictureFile]:
    """The pictures that files, folders and patterns stand for, in a stable order.

    Args:
        inputs: What the user named.
        videos: Films and cameras, if named themselves or by a pattern, are found too.

    Raises:
        DataError: If an input does not exist or holds no picture.
    """
    found: dict[Path, PictureFile] = {}
    for given in inputs:
        files = _found_at(given, videos=videos)
        if not files:
            raise DataError(
                f"There is no picture at {given}; give pictures, folders of pictures "
                f"({', '.join(IMAGE_SUFFIXES)}), or a pattern in quotes."
            )
        for file in files:
            refuse_odd_name(file.path)
            found.setdefault(file.path.absolute(), file)
    return list(found.values())


def _found_at(given: str | Path, *, videos: bool) -> list[PictureFile]:
    place = Path(given)
    if videos and is_camera(given):
        return [PictureFile(place, str(given).replace(":", "-"))]
    if place.is_dir():
        paths = [p for p in walk_files(place, IMAGE_SUFFIXES) if p.is_file()]
        return [PictureFile(p, str(p.relative_to(place).with_suffix(""))) for p in paths]
    if place.is_file():
        return [PictureFile(place, place.stem)]
    suffixes = (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES) if videos else IMAGE_SUFFIXES
    matches = glob.glob(str(given), recursive=True)  # noqa: PTH207 - absolute too
    paths = sorted(Path(match) for match in matches)
    return [PictureFile(p, p.stem) for p in paths if _is_picture(p, suffixes)]


def _is_picture(path: Path, suffixes: tuple[str, ...] = IMAGE_SUFFIXES) -> bool:
    return path.suffix.lower() in suffixes and path.is_file()


def _is_result(path: Path, out: Path) -> bool:
    """Whether a file is a result of an earlier prediction into a folder within the inputs."""
    ours = path.name.endswith(_RESULTS) or path.name in _FOLDER_RESULTS
    return ours and path.resolve().is_relative_to(out.resolve())


def _result(out: Path, name: str, suffix: str) -> Path:
    return out / (name + suffix)


def _read_mask(path: Path) -> LabelMap:
    """The classes in a mask that we wrote."""
    return read_raw_mask(path).values


def _refuse_collisions(files: Sequence[PictureFile]) -> None:
    """Refuse inputs whose results would overwrite each other, also where case is ignored."""
    seen: dict[str, Path] = {}
    for file in files:
        other = seen.setdefault(file.name.lower(), file.path)
        if other != file.path:
            raise OutputError(
                f"{other} and {file.path} would both be written to {file.name}.mask.png; "
                "rename one, or segment them in two calls with two --out folders."
            )


def _shard_of(shard: str | None) -> slice:
    if shard is None:
        return slice(None)
    index, _, count = shard.partition("/")
    if index.isdecimal() and count.isdecimal() and int(index) < int(count):
        return slice(int(index), None, int(count))
    raise RecipeError(f"The shard is '{shard}'; write i/n with i from 0 to n - 1, such as 0/4.")


def _part(shard: str | None) -> str:
    """What stands in the names of a shard's tables."""
    return f".{shard.replace('/', 'of')}" if shard else ""


def write_shares(path: Path, entries: Iterable[Finished], classes: Classes) -> None:
    """A line for each picture and a column for each class, 0 to 1."""
    with _table(path) as table:
        table.writerow(["picture", *classes.names])
        for finished in entries:
            shares = (f"{finished.share[name]:.6f}" for name in classes.names)
            table.writerow([finished.name, *shares])


@contextmanager
def _table(path: Path) -> Iterator[Any]:
    """A CSV file to write rows into, whole or not at all."""
    with (
        written_whole(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        yield csv.writer(file, lineterminator="\n")
