"""Segment large collections by Ray Data: many processes, on one machine or a cluster.

The masks are those of one process, byte for byte, where a worker has as many threads as it.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from deconvnet import draw
from deconvnet.data.image_files import read_image, write_png
from deconvnet.errors import DataError, MissingExtraError, RecipeError
from deconvnet.predict import Predictor
from deconvnet.predict_files import (
    Outputs,
    PictureFile,
    check_options,
    conclude,
    done_before,
    in_words,
    plan,
    record_of,
    segment_file,
    settings_of,
    write_results,
)
from deconvnet.predict_journal import Finished, Journal

PARQUET = ".parquet"
COLUMNS = ("name", "image")
"""Of a Parquet file: the name of a picture's results, and the content of its file."""


class Workers(NamedTuple):
    """The processes that share the work."""

    processes: int = 1
    threads: int = 1
    """Of each; Ray reserves as many cores."""
    address: str | None = None
    """Of a running cluster; none starts Ray on this machine and stops it in the end."""


def predict_by_ray(
    predictor: Callable[[], Predictor],
    inputs: Sequence[str | Path],
    out: str | Path,
    *,
    workers: Workers,
    max_pixels: int | None = None,
    outputs: Outputs | None = None,
    resume: bool = False,
    report: Callable[[str], object] = lambda _line: None,
    **options: Any,
) -> list[Path]:
    """Segment pictures as `predict_files` does, with the same files as result.

    The workers write masks and overlays; this process keeps the journal and writes the tables.
    On a cluster every machine must see the pictures, the checkpoint and `out` under the same
    paths (a shared file system).

    Args:
        predictor: As for predict_files; each worker loads the same checkpoint.
        inputs: Files, folders and patterns; or Parquet files, or folders of them, with the
            columns name and image (the bytes of a picture file).
        out: Folder of the results.
        workers: How many processes, and where.
        max_pixels: Refuse larger pictures.
        outputs: What else is written.
        resume: Skip what was finished with the same settings.
        report: Takes a line about each picture, in the order in which they are finished.
        options: Of the predictor's call.

    Returns:
        The masks.

    Raises:
        MissingExtraError: Without Ray.
        UserError: As predict_files does.
    """
    ray = _ray()
    outputs, out = outputs or Outputs(), Path(out).resolve()
    if workers.processes < 1 or workers.threads < 1:
        raise RecipeError(
            f"There are {workers.processes} workers; give 1 or more, with threads."
        )
    tables = _parquet_files(inputs)
    if tables and outputs.annotations:
        raise RecipeError("Pictures in Parquet have no file that annotations could name.")
    chosen = [] if tables else plan(inputs, out, outputs, max_pixels=max_pixels)
    segment = predictor()
    check_options(segment, options)
    job = _Job(dict(segment.origin), str(segment.device), out, outputs, max_pixels, options)
    write_png(out / "legend.png", draw.legend(segment.classes))
    settings = settings_of(segment, outputs, options)
    with (
        Journal(out / "finished.jsonl", settings, resume=resume) as journal,
        _cluster(ray, workers),
    ):
        if tables:
            chosen, rows = _rows_of_tables(ray, tables, journal)
        else:
            todo = []
            for file in chosen:
                if done_before(journal, file, out, outputs) is None:
                    todo.append({"name": file.name, "path": str(file.path.resolve())})
            rows = ray.data.from_items(todo) if todo else None
        for finished in _finished(ray, rows, job, workers):
            journal.add(finished)
            report(f"{finished.source}: {in_words(finished)}")
        return conclude(journal, chosen, out, segment.classes, outputs)


class _Job(NamedTuple):
    """What each worker needs to know; sent to it once."""

    origin: dict[str, str]
    device: str
    out: Path
    outputs: Outputs
    max_pixels: int | None
    options: dict[str, Any]


class _Worker:
    """A process that loads the network once and segments row after row."""

    def __init__(self, job: _Job, threads: int) -> None:
        import torch

        from deconvnet.predict import load

        torch.set_num_threads(threads)
        origin: dict[str, Any] = dict(job.origin)
        self.segment = load(origin.pop("checkpoint"), device=job.device, **origin)
        self.job = job

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        job = self.job
        if "path" in row:
            file = PictureFile(Path(row["path"]), row["name"])
            finished = segment_file(
                self.segment,
                file,
                job.out,
                job.outputs,
                max_pixels=job.max_pixels,
                **job.options,
            )
        else:
            image = read_image(bytes(row["image"]), max_pixels=job.max_pixels)
            segmentation = self.segment(image, **job.options)
            write_results(segmentation, job.out / row["name"], overlay=job.outputs.overlay)
            file = PictureFile(Path(row["name"]), row["name"])
            finished = record_of(segmentation, file, (len(row["image"]), 0))
        return {"finished": finished.to_line()}


def _finished(ray: Any, rows: Any, job: _Job, workers: Workers) -> Iterator[Finished]:
    """Segment rows; gives the records in the order in which they come back."""
    if rows is None:
        return
    done = rows.map(
        _Worker,
        fn_constructor_args=(job, workers.threads),
        compute=ray.data.ActorPoolStrategy(size=workers.processes),
        num_cpus=workers.threads,
    )
    for row in done.iter_rows():
        yield Finished.from_line(row["finished"])


def _rows_of_tables(
    ray: Any, tables: list[str], journal: Journal
) -> tuple[list[PictureFile], Any]:
    """The pictures in Parquet files, and the rows of those that are not finished.

    Raises:
        DataError: If a column is missing, or names are no names or occur twice.
    """
    rows = ray.data.read_parquet(tables)
    missing = [name for name in COLUMNS if name not in rows.columns()]
    if missing:
        raise DataError(
            f"{tables[0]} has no column {' and '.join(missing)}; pictures in Parquet need "
            "name (text) and image (the bytes of a picture file)."
        )
    names = sorted(str(row["name"]) for row in rows.select_columns(["name"]).iter_rows())
    for name, following in zip(names, [*names[1:], ""], strict=True):
        place = PurePosixPath(name)
        if not name or place.is_absolute() or ".." in place.parts:
            raise DataError(f"The name {name!a} in Parquet names no file below --out.")
        if name.lower() == following.lower():
            raise DataError(f"Two pictures in Parquet have the name {name!a}; rename one.")
    known = {finished.name: finished.stamp[0] for finished in journal.entries(names)}
    todo = rows.filter(lambda row: known.get(row["name"]) != len(row["image"]))
    return [PictureFile(Path(name), name) for name in names], todo


def _parquet_files(inputs: Sequence[str | Path]) -> list[str]:
    """The Parquet files among the inputs; none if they are pictures.

    Raises:
        DataError: If both are mixed.
    """
    found = []
    for given in inputs:
        place = Path(given)
        files = sorted(place.rglob("*" + PARQUET)) if place.is_dir() else [place]
        found += [str(file.resolve()) for file in files if file.suffix == PARQUET]
    if found and any(
        not Path(given).is_dir() and Path(given).suffix != PARQUET for given in inputs
    ):
        raise DataError("Parquet files and pictures were named together; give one kind.")
    return found


class _cluster:  # noqa: N801 - a context, like a function
    """Ray, connected or started, for the length of a block."""

    def __init__(self, ray: Any, workers: Workers) -> None:
        self.ray, self.workers = ray, workers
        self.ours = False

    def __enter__(self) -> None:
        import logging

        if self.ray.is_initialized():
            return
        self.ours = True
        cores = self.workers.processes * self.workers.threads + 1  # one for reading
        here = {"num_cpus": cores, "include_dashboard": False}
        self.ray.init(
            address=self.workers.address,
            logging_level=logging.ERROR,
            log_to_driver=False,
            **({} if self.workers.address else here),
        )
        self.ray.data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)

    def __exit__(self, *_exception: object) -> None:
        if self.ours:
            self.ray.shutdown()


def _ray() -> Any:
    try:
        import ray
        import ray.data
    except ImportError:
        raise MissingExtraError("Sharing the work by Ray", "ray") from None
    return ray
