"""Pictures from files and into files.

Whatever a camera, a scanner or a microscope wrote becomes uint8 RGB, upright: EXIF rotation is
applied, grey becomes three equal channels, transparent parts lie over white, an animation gives
its first frame. Masks are read by deconvnet.data.mask_files.
"""

import io
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageOps

from deconvnet.errors import ImageFileError, OutputError, UserError
from deconvnet.files import written_whole
from deconvnet.labels import Classes
from deconvnet.shapes import Image, LabelMap

IMAGE_SUFFIXES = (
    ".jpg",
    ".jpeg",
    ".png",
    ".bmp",
    ".tif",
    ".tiff",
    ".gif",
    ".webp",
    ".ppm",
    ".pgm",
)
"""Files that are taken for pictures when a folder is searched; compare in lower case."""

RECEIVED = "The picture received"
"""What a picture without a file is called in messages."""

_FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF", "PPM")
"""What Pillow may decode. It reads more, some of it by starting a program (EPS)."""

MAX_PIXELS = 200_000_000
"""Larger pictures are refused before they are decoded; DECONVNET_MAX_PIXELS raises it."""

_TWELVE_BITS = 4095
_ORIENTATION = 0x0112
_SIDEWAYS = (5, 6, 7, 8)
_PIL_LIMIT = threading.Lock()
_BAND = 1024

PictureFile = str | Path | bytes


def read_image(file: PictureFile, *, max_pixels: int | None = None, page: int = 0) -> Image:
    """Read a picture as RGB, upright.

    16-bit grey is divided by 257, or by 4095 / 255 if no value is above 4095 (12-bit cameras).
    Floating-point grey up to 1 is multiplied by 255; above 1 it is taken as whole numbers are.

    Args:
        file: A path, or the content of a file.
        max_pixels: Refuse larger pictures; none means MAX_PIXELS.
        page: Which picture of a file of several, from 0.

    Raises:
        ImageFileError: If there is no such file, or it is damaged, no picture, or too large.
    """
    with opened(file, max_pixels=max_pixels, page=page) as picture:
        PIL.ImageOps.exif_transpose(picture, in_place=True)
        return as_rgb(picture)


def image_size(
    file: PictureFile, *, max_pixels: int | None = None, page: int = 0
) -> tuple[int, int]:
    """Read the (height, width) of a picture as read_image would give it, from its header alone.

    Raises:
        ImageFileError: If there is no such file, or it is no picture, or too large.
    """
    with opened(file, max_pixels=max_pixels, page=page) as picture:
        return upright_size(picture)


def upright_size(picture: PIL.Image.Image) -> tuple[int, int]:
    """The (height, width) of an open picture once its EXIF rotation is applied."""
    width, height = picture.size
    return (width, height) if exif_orientation(picture) in _SIDEWAYS else (height, width)


def exif_orientation(picture: PIL.Image.Image) -> int:
    """How the camera was held: 1 upright, 2 to 4 mirrored or on its head, 5 to 8 sideways."""
    value = picture.getexif().get(_ORIENTATION, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def count_pages(file: PictureFile) -> int:
    """How many pictures a file holds.

    Raises:
        ImageFileError: If there is no such file, or it is no picture.
    """
    with opened(file) as picture:
        return int(getattr(picture, "n_frames", 1))


@contextmanager
def opened(
    file: PictureFile, *, max_pixels: int | None = None, page: int = 0
) -> Iterator[PIL.Image.Image]:
    """Open a picture for decoding; whatever fails inside becomes an ImageFileError.

    Raises:
        ImageFileError: If there is no such file, or it is damaged, no picture, or too large.
    """
    where = RECEIVED if isinstance(file, bytes) else str(file)
    try:
        source = io.BytesIO(file) if isinstance(file, bytes) else file
        with _open_unlimited(source, max_pixels) as picture:
            _refuse_too_large(where, picture.size, max_pixels)
            if page:  # which decodes those before it
                picture.seek(page)
                _refuse_too_large(where, picture.size, max_pixels)
            yield picture
    except FileNotFoundError:
        raise ImageFileError(f"There is no picture {where}; check the path.") from None
    except IsADirectoryError:
        raise ImageFileError(f"{where} is a folder; give a picture.") from None
    except PIL.UnidentifiedImageError:
        raise ImageFileError(
            f"{where} is no picture that can be read; give JPEG, PNG, TIFF, WebP, BMP or GIF."
        ) from None
    except PermissionError:
        raise ImageFileError(f"{where} may not be read; change its permissions.") from None
    except UserError:
        raise
    except PIL.Image.DecompressionBombError:
        raise ImageFileError(
            f"{where} has a frame of more than {2 * (max_pixels or _max_pixels()):,} pixels, a "
            "guard against files made to fill the memory. If it is yours, allow it by "
            "--max_pixels or the environment variable DECONVNET_MAX_PIXELS."
        ) from None
    except Exception as error:  # a decoder of a damaged file may raise anything
        raise ImageFileError(
            f"{where} is damaged or incomplete ({_first_line(error)}); replace the file."
        ) from error


def write_png(path: str | Path, image: Image) -> None:
    """Write a picture as PNG, whole or not at all.

    Raises:
        OutputError: If the place cannot be written.
    """
    with written_whole(path) as temporary:
        PIL.Image.fromarray(image).save(temporary, format="PNG")


def write_mask(path: str | Path, label_map: LabelMap, classes: Classes) -> None:
    """Write a label map as a palette PNG, whole or not at all: the values are class indices.

    Raises:
        OutputError: If the place cannot be written, or is not named .png.
    """
    if Path(path).suffix.lower() != ".png":
        raise OutputError(
            f"{path} would hold a mask; masks are PNG files, so end it with .png."
        )
    with written_whole(path) as temporary:
        palette_picture(label_map, classes).save(temporary, format="PNG")


def palette_picture(label_map: LabelMap, classes: Classes) -> PIL.Image.Image:
    """A label map as a picture whose values are class indices, shown in their colours."""
    picture = PIL.Image.fromarray(label_map).convert("L")
    picture.putpalette(classes.palette())
    return picture


def _open_unlimited(file: str | Path | io.BytesIO, max_pixels: int | None) -> PIL.Image.Image:
    """Open with Pillow's own limit off: ours is checked next, and says how to raise it.

    But for GIF, where opening takes the memory for the first frame, so Pillow has to refuse.
    """
    with _PIL_LIMIT, warnings.catch_warnings():
        warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)
        limit, PIL.Image.MAX_IMAGE_PIXELS = PIL.Image.MAX_IMAGE_PIXELS, None
        try:
            return PIL.Image.open(file, formats=[f for f in _FORMATS if f != "GIF"])
        except PIL.UnidentifiedImageError:
            PIL.Image.MAX_IMAGE_PIXELS = max_pixels or _max_pixels()
            return PIL.Image.open(file, formats=["GIF"])
        finally:
            PIL.Image.MAX_IMAGE_PIXELS = limit


def _refuse_too_large(where: str, size: tuple[int, int], max_pixels: int | None) -> None:
    allowed = max_pixels or _max_pixels()
    if size[0] * size[1] > allowed:
        raise ImageFileError(
            f"{where} has {size[0]} x {size[1]} pixels; up to {allowed:,} are read, as a guard "
            "against files made to fill the memory. "
            + (
                "Send a smaller one."
                if where == RECEIVED
                else f"If it is yours, allow it by --max_pixels {size[0] * size[1]} or the "
                "environment variable DECONVNET_MAX_PIXELS."
            )
        )


def _max_pixels() -> int:
    given = os.environ.get("DECONVNET_MAX_PIXELS", "")
    if given and not given.isdecimal():
        raise ImageFileError(
            f"DECONVNET_MAX_PIXELS is '{given}'; set it to a number of pixels, like 1000000000."
        )
    return int(given or MAX_PIXELS)


def as_rgb(picture: PIL.Image.Image) -> Image:
    """The pixels of any picture, as read_image gives them; transparent ones lie on white."""
    if picture.mode == "RGB":
        return _pixels(picture)
    if picture.mode.startswith("I") or picture.mode == "F":
        grey = as_grey(np.array(picture))
        return np.repeat(grey[:, :, None], 3, axis=2)
    if "A" in picture.mode or "a" in picture.mode or "transparency" in picture.info:
        layers = picture.convert("RGBA")
        white = PIL.Image.new("RGBA", layers.size, "white")
        return np.array(PIL.Image.alpha_composite(white, layers).convert("RGB"))
    return np.array(picture.convert("RGB"))


def _pixels(picture: PIL.Image.Image) -> Image:
    """The pixels of an RGB picture, copied band by band: at once would take them thrice."""
    picture.load()
    pixels = np.empty((picture.height, picture.width, 3), np.uint8)
    for top in range(0, picture.height, _BAND):
        box = (0, top, picture.width, min(top + _BAND, picture.height))
        pixels[top : top + _BAND] = np.asarray(picture.crop(box))
    return pixels


def as_grey(values: np.ndarray) -> np.ndarray:
    """Wide grey values as uint8."""
    fractions = np.issubdtype(values.dtype, np.floating)
    values = np.nan_to_num(values.astype(np.float32), posinf=0, neginf=0)
    largest = values.max(initial=0)
    if fractions and largest <= 1:
        values = values * 255
    elif largest > _TWELVE_BITS:
        values = values / 257
    elif largest > 255:
        values = values * (255 / _TWELVE_BITS)
    return np.rint(values).clip(0, 255).astype(np.uint8)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].strip().rstrip(".")
