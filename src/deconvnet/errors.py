"""What a user can mend.

Every message is a sentence or two: what was given, what is allowed, what to do. The command
line prints the message alone and exits with 2; from Python these are ordinary exceptions.

    UserError
    ├── ShapeError          an array of the wrong shape or type
    ├── LabelError          a label map with values that are no class
    ├── DataError           a data set that cannot be read or does not fit together
    ├── ImageFileError      a picture that cannot be read
    ├── RecipeError         a setting that does not exist or cannot hold the value
    ├── CheckpointError     weights that are missing, damaged or of another network
    ├── OutputError         a place that cannot be written, or holds something already
    ├── DeviceError         a device the machine does not have
    ├── DivergedError       a training whose loss is no number any more
    └── MissingExtraError   an optional library that is not installed
"""

from collections.abc import Iterable
from difflib import get_close_matches

_LONGEST, _KEPT = 2000, 500
"""Letters of a message, and of its end, which says what to do."""


class UserError(Exception):
    """A mistake the user can mend; the message says how.

    Messages quote what stands in files. Whoever wrote these shall neither fill the screen nor
    steer the terminal, so long messages are shortened and control characters are spelled out.
    """

    def __str__(self) -> str:
        text = super().__str__()
        if not text.isprintable():
            text = "".join(
                letter if letter.isprintable() or letter == "\n" else ascii(letter)[1:-1]
                for letter in text
            )
        if len(text) > _LONGEST:
            return f"{text[: _LONGEST - _KEPT]} ... {text[-_KEPT:]}"
        return text


class ShapeError(UserError, ValueError):
    """An array has the wrong shape or type."""


class LabelError(UserError, ValueError):
    """A label map holds values that are no class."""


class DataError(UserError):
    """A data set cannot be read, or its files do not fit together."""


class ImageFileError(UserError):
    """A picture cannot be read."""


class RecipeError(UserError, ValueError):
    """A setting does not exist, or cannot hold the value given."""


class CheckpointError(UserError):
    """Weights are missing, damaged, or belong to another network."""


class OutputError(UserError):
    """A place cannot be written, or holds something that would be lost."""


class DeviceError(UserError):
    """The machine has no such device."""


class DivergedError(UserError):
    """The loss of a training became infinite or no number."""


class MissingExtraError(UserError, ImportError):
    """An optional library is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            f"{what} needs the extra '{extra}', which is not installed; "
            f"install it with: pip install 'deconvnet[{extra}]'"
        )


def did_you_mean(given: str, allowed: Iterable[str]) -> str:
    """Give the end of a sentence about an unknown word: the nearest allowed one, if any.

    >>> did_you_mean("segnt", ["unet", "segnet"])
    " Did you mean 'segnet'?"
    """
    nearest = get_close_matches(given, list(allowed), n=1)
    return f" Did you mean '{nearest[0]}'?" if nearest else ""
