"""What a data set gives."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from deconvnet.labels import Classes
from deconvnet.shapes import Image, InstanceMap, LabelMap


class Sample(NamedTuple):
    """One picture and what is in it."""

    image: Image
    label_map: LabelMap
    instance_map: InstanceMap | None
    """None where the data set does not tell objects of one class apart."""
    name: str
    """Path below the folder of the pictures, without suffix, with forward slashes; unique."""


@runtime_checkable
class Dataset(Protocol):
    """Labelled pictures in a fixed order.

    Any can be asked for at any time, and no call leaves a trace; it can be sent to a process.
    """

    @property
    def classes(self) -> Classes:
        """What the labels mean."""
        ...

    @property
    def split(self) -> str:
        """Which part of the data this is: train, val, test or the name of a list."""
        ...

    @property
    def names(self) -> Sequence[str]:
        """The names of the pictures, without reading them."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...
