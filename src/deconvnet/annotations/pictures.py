"""What the writers of annotations are given."""

import filecmp
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from deconvnet.files import written_whole
from deconvnet.shapes import LabelMap


class Labelled(NamedTuple):
    """A picture with its label map, which is read when its turn comes."""

    name: str
    """Path without suffix, with forward slashes; files about this picture alone keep it."""
    source: Path
    """The picture's file."""
    read: Callable[[], LabelMap]
    doubt: float | None = None
    """How unsure the network was of it, 0 to 1."""

    @property
    def file_name(self) -> str:
        """The name with the suffix of the picture's file."""
        return self.name + self.source.suffix


def copy_picture(picture: Labelled, folder: Path) -> None:
    """Put a picture into a folder under its name, so that the folder is whole in itself.

    Raises:
        OutputError: If the place cannot be written.
    """
    place = folder / picture.file_name
    if place.is_file() and filecmp.cmp(place, picture.source, shallow=False):
        return
    with written_whole(place) as temporary:
        shutil.copyfile(picture.source, temporary)
