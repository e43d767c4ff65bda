"""Segment films and what a camera sees, frame by frame, in constant memory."""

import csv
import io
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from deconvnet.errors import ImageFileError, MissingExtraError, OutputError, RecipeError
from deconvnet.files import write_text, written_whole
from deconvnet.predict import Segmentation
from deconvnet.progress import PLAIN_SECONDS, ProgressBar, say
from deconvnet.shapes import Image

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg")
"""Files that are taken for films; compare in lower case."""

CAMERA = "camera:"
"""camera:0 stands for the first camera."""

DEFAULT_RATE = 25.0
"""Frames a second, where a film or camera does not say."""


class VideoOptions(NamedTuple):
    """What is made of a film."""

    every: int = 1
    """Segment every n-th frame; the result has so many fewer frames a second."""
    max_frames: int | None = None
    """Stop after so many segmented frames."""
    masks: bool = False
    """Also write the mask of each segmented frame, NAME/000123.mask.png."""


class Film(NamedTuple):
    """An open film or camera."""

    frames: Iterator[tuple[int, Image]]
    """Number and picture of each frame that is wanted."""
    rate: float
    """Frames a second."""
    length: int
    """Frames wanted, as the file says; 0 where that is not known."""


def is_video(place: str | Path) -> bool:
    """Whether an input stands for a film or a camera."""
    return is_camera(place) or Path(place).suffix.lower() in VIDEO_SUFFIXES


def is_camera(place: str | Path) -> bool:
    """Whether an input stands for a camera."""
    return str(place).startswith(CAMERA)


def check_video(place: str | Path, options: VideoOptions) -> None:
    """Refuse what could not be segmented, before the work begins.

    Raises:
        MissingExtraError: Without OpenCV.
        RecipeError: If an option cannot hold its value.
        ImageFileError: If the file is no film.
    """
    if options.every < 1:
        raise RecipeError(f"--every is {options.every}; give 1 for all frames, 2 for half.")
    if options.max_frames is not None and options.max_frames < 1:
        raise RecipeError(f"--max_frames is {options.max_frames}; give 1 or more.")
    if not is_camera(place):  # a camera is opened once: some take seconds to wake
        with opened_video(place, options):
            pass
    else:
        _opencv()
        _camera_number(place)


def predict_video(
    segment: Callable[[Image], Segmentation],
    place: str | Path,
    stem: Path,
    options: VideoOptions | None = None,
    *,
    quiet: bool = False,
) -> dict[str, float]:
    """Segment a film: writes stem.overlay.mp4 and stem.frames.csv.

    The table has a line for each segmented frame: number, second, share of each class. Ctrl-C
    ends a camera's film and keeps it; of a file nothing is kept that is not whole.

    Args:
        segment: Segments one frame.
        place: A file, or camera:0.
        stem: Path of the results without suffixes.
        options: Which frames, and what is written.
        quiet: Show no progress.

    Returns:
        The mean share of each class.

    Raises:
        ImageFileError: If there is no frame.
        OutputError: If the film cannot be written.
    """
    options = options or VideoOptions()
    table, shares = io.StringIO(), None
    writer = csv.writer(table, lineterminator="\n")
    target = stem.with_name(stem.name + ".overlay.mp4")
    rows = 0
    with opened_video(place, options) as film, written_whole(target) as temporary:
        output = None
        try:
            for number, frame in _with_progress(film, place, quiet=quiet):
                segmentation = segment(frame)
                drawn = np.array(segmentation.overlay())
                output = output or _open_output(temporary, film.rate / options.every, drawn)
                output.write(np.ascontiguousarray(drawn[:, :, ::-1]))
                if options.masks:
                    segmentation.save_mask(stem / f"{number:06d}.mask.png")
                if shares is None:
                    shares = dict.fromkeys(segmentation.share, 0.0)
                    writer.writerow(["frame", "seconds", *shares])
                share = segmentation.share
                shares = {name: total + share[name] for name, total in shares.items()}
                seconds = number / film.rate
                writer.writerow(
                    [number, f"{seconds:.3f}", *(f"{s:.6f}" for s in share.values())]
                )
                rows += 1
        except KeyboardInterrupt:
            if not is_camera(place) or not rows:
                raise
            say(f"{place}: ended after {rows} frames; the film is kept.", quiet=quiet)
        finally:
            if output is not None:
                output.release()
        if shares is None:
            raise ImageFileError(f"{place} gave no frame; look whether another program can.")
        if rows < film.length:
            say(
                f"Warning: {place} ended after {rows} of {film.length} frames; it may be "
                "damaged, and its results are of what could be read."
            )
    write_text(stem.with_name(stem.name + ".frames.csv"), table.getvalue())
    return {name: total / rows for name, total in shares.items()}


@contextmanager
def opened_video(place: str | Path, options: VideoOptions) -> Iterator[Film]:
    """Open a film or camera; its frames are read when they are asked for.

    Raises:
        MissingExtraError: Without OpenCV.
        ImageFileError: If it cannot be opened.
    """
    cv2 = _opencv()
    if is_camera(place):
        capture = cv2.VideoCapture(_camera_number(place))
    elif Path(place).is_file():
        capture = cv2.VideoCapture(str(place))
    else:
        raise ImageFileError(f"There is no film {place}; check the path.")
    try:
        if not capture.isOpened():
            advice = "connect one" if is_camera(place) else "give MP4, AVI, MOV, MKV or WebM"
            raise ImageFileError(f"{place} cannot be opened as a film; {advice}.")
        rate = float(capture.get(cv2.CAP_PROP_FPS))
        count = 0 if is_camera(place) else int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        wanted = -(-max(count, 0) // options.every)
        if options.max_frames is not None:
            wanted = min(wanted or options.max_frames, options.max_frames)
        rate = rate if 0 < rate < 1000 else DEFAULT_RATE
        yield Film(_frames(capture, options), rate, wanted)
    finally:
        capture.release()


def _frames(capture: Any, options: VideoOptions) -> Iterator[tuple[int, Image]]:
    number, given = 0, 0
    while options.max_frames is None or given < options.max_frames:
        if number % options.every:  # grab decodes no colours
            if not capture.grab():
                return
        else:
            there, frame = capture.read()
            if not there:
                return
            given += 1
            yield number, np.ascontiguousarray(frame[:, :, ::-1])
        number += 1


def _with_progress(
    film: Film, place: str | Path, *, quiet: bool
) -> Iterator[tuple[int, Image]]:
    """The frames, with frames a second and the time left shown beside."""
    began = last = time.monotonic()
    if film.length:
        with ProgressBar(Path(place).name, film.length, quiet=quiet) as bar:
            for done, frame in enumerate(film.frames, start=1):
                yield frame
                spent = max(time.monotonic() - began, 1e-9)
                bar.advance(1, f"{done / spent:.1f} frames/s")
        return
    for done, frame in enumerate(film.frames, start=1):
        yield frame
        now = time.monotonic()
        if now - last > PLAIN_SECONDS:
            last = now
            say(f"{place}: {done} frames, {done / (now - began):.1f} frames/s", quiet=quiet)


def _open_output(path: Path, rate: float, frame: Image) -> Any:
    cv2 = _opencv()
    height, width = frame.shape[:2]
    output = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), rate, (width, height))
    if not output.isOpened():
        raise OutputError(
            f"{path} could not be written as a film of {width} x {height} pixels; this build "
            "of OpenCV lacks the encoder. Write the masks of the frames with --frame_masks."
        )
    return output


def _camera_number(place: str | Path) -> int:
    number = str(place).removeprefix(CAMERA)
    if not number.isdecimal():
        raise RecipeError(f"{place} names no camera; write {CAMERA}0 for the first.")
    return int(number)


def _opencv() -> Any:
    try:
        import cv2
    except ImportError:
        raise MissingExtraError("Segmenting films", "proposals") from None
    return cv2
