"""Segment many files: find them, and write a mask and an overlay for each."""

import csv
import glob
import gzip
import io
import tarfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from deconvnet import draw
from deconvnet.data.image_files import IMAGE_SUFFIXES, image_size, read_image, write_png
from deconvnet.errors import DataError, OutputError, RecipeError
from deconvnet.files import write_text, written_whole
from deconvnet.predict import Predictor, Segmentation
from deconvnet.progress import tracked


class PictureFile(NamedTuple):
    """A picture to segment."""

    path: Path
    name: str
    """Its path below the folder it was found in, without suffix; outputs keep it."""


def predict_files(
    predictor: Callable[[], Predictor],
    inputs: Sequence[str | Path],
    out: str | Path,
    *,
    shard: str | None = None,
    max_pixels: int | None = None,
    voc_submission: str | Path | None = None,
    quiet: bool = False,
    report: Callable[[str], object] = lambda _line: None,
    **options: Any,
) -> list[Path]:
    """Segment pictures; write NAME.mask.png and NAME.overlay.png for each, and a legend.

    The share of each class in each picture goes into shares.csv.

    Args:
        predictor: Gives the network; called after the inputs were found to be good.
        inputs: Files, folders (searched through) and glob patterns.
        out: Folder of the results; paths below an input folder are kept.
        shard: "i/n": take every n-th picture, from the i-th (0 to n - 1), to share the work.
        max_pixels: Refuse larger pictures.
        voc_submission: Also pack the masks as the PASCAL VOC server takes them, a .tgz file.
        quiet: Show no progress.
        report: Takes a line about each picture: its classes and their shares.
        options: Of the predictor's call.

    Returns:
        The masks written.

    Raises:
        DataError: If there is nothing to segment.
        OutputError: If two inputs would write one file.
        ImageFileError: If a file is no picture, before any is segmented; if one turns out to be
            damaged, when its turn comes: those before it are written.
    """
    files = find_pictures(inputs)
    _refuse_collisions(files)
    chosen = files[_shard_of(shard)]
    for file in chosen:
        image_size(file.path, max_pixels=max_pixels)  # a file that is no picture is found now
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is a file; name a folder for the results.")
    segment = predictor()
    write_png(out / "legend.png", draw.legend(segment.classes))
    masks, shares = [], {}
    for file in tracked(chosen, "predict", len(chosen), quiet=quiet):
        segmentation = segment(read_image(file.path, max_pixels=max_pixels), **options)
        masks.append(write_results(segmentation, out / file.name))
        shares[file.name] = segmentation.share
        report(f"{file.path}: {in_words(segmentation)}")
    shard_name = f".{shard.replace('/', 'of')}" if shard else ""
    write_text(out / f"shares{shard_name}.csv", _table(shares))
    if voc_submission is not None:
        pack_for_voc(masks, voc_submission)
    return masks


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


def write_results(segmentation: Segmentation, stem: Path) -> Path:
    """Write stem.overlay.png, then stem.mask.png, whose path it gives."""
    overlay = stem.with_name(stem.name + ".overlay.png")
    write_png(overlay, np.array(segmentation.overlay()))
    mask = stem.with_name(stem.name + ".mask.png")
    segmentation.save_mask(mask)
    return mask


def in_words(segmentation: Segmentation) -> str:
    """The classes in a picture and their shares, largest first."""
    shares = sorted(segmentation.share.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {100 * share:.1f} %" for name, share in shares if share > 0)


def find_pictures(inputs: Iterable[str | Path]) -> list[PictureFile]:
    """The pictures that files, folders and patterns stand for, in a stable order.

    Raises:
        DataError: If an input does not exist or holds no picture.
    """
    found: dict[Path, PictureFile] = {}
    for given in inputs:
        place = Path(given)
        if place.is_dir():
            paths = sorted(p for p in place.rglob("*") if _is_picture(p))
            files = [PictureFile(p, str(p.relative_to(place).with_suffix(""))) for p in paths]
        elif place.is_file():
            files = [PictureFile(place, place.stem)]
        else:
            paths = sorted(Path(match) for match in glob.glob(str(given), recursive=True))  # noqa: PTH207 - absolute too
            files = [PictureFile(p, p.stem) for p in paths if _is_picture(p)]
        if not files:
            raise DataError(
                f"There is no picture at {given}; give pictures, folders of pictures "
                f"({', '.join(IMAGE_SUFFIXES)}), or a pattern in quotes."
            )
        for file in files:
            found.setdefault(file.path.resolve(), file)
    return list(found.values())


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()


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


def _table(shares: Mapping[str, Mapping[str, float]]) -> str:
    """A line for each picture and a column for each class, 0 to 1."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    for row, (name, values) in enumerate(shares.items()):
        if row == 0:
            writer.writerow(["picture", *values])
        writer.writerow([name, *(f"{value:.6f}" for value in values.values())])
    return table.getvalue()
