"""Classes and their colours."""

from dataclasses import dataclass

from deconvnet.errors import LabelError

Color = tuple[int, int, int]

IGNORED = 255
"""The label that counts nowhere: not in the loss, not in any score."""

MAX_CLASSES = 255
"""A label map is uint8, and 255 is taken."""


@dataclass(frozen=True)
class Classes:
    """The classes of a data set or network, in the order of their indices.

    >>> pets = Classes.named(["background", "cat"])
    >>> pets.names.index("cat"), pets.colors[1]
    (1, (128, 0, 0))
    """

    names: tuple[str, ...]
    """Lower-case, words joined by underscores."""
    colors: tuple[Color, ...]
    """RGB, 0 to 255."""
    background: int | None = None
    """The class that is no object (VOC's 0), if there is one."""

    def __post_init__(self) -> None:
        if len(self.names) != len(self.colors):
            raise LabelError(
                f"{len(self.names)} class names came with {len(self.colors)} colours; "
                "give each class one of each."
            )
        if not 1 <= len(self.names) <= MAX_CLASSES:
            raise LabelError(
                f"{len(self.names)} classes were given; a label map holds 1 to {MAX_CLASSES} "
                "(it has 8 bits, and 255 means ignored)."
            )
        if len(set(self.names)) != len(self.names):
            twice = sorted({name for name in self.names if self.names.count(name) > 1})
            raise LabelError(f"Class names must differ; these occur twice: {', '.join(twice)}.")

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def named(
        cls, names: list[str], colors: list[Color] | None = None, background: int | None = None
    ) -> "Classes":
        """Classes with these names, normalised, and VOC's colours unless others are given."""
        if colors is None:
            colors = [voc_color(index) for index in range(len(names))]
        return cls(tuple(normalise_name(name) for name in names), tuple(colors), background)

    @classmethod
    def numbered(cls, count: int) -> "Classes":
        """Classes for masks that come without names: class_0, class_1, ..."""
        return cls.named([f"class_{index}" for index in range(count)])

    def palette(self) -> bytes:
        """The 768 bytes of a PNG palette: the classes, VOC's colours after, 255 near-white."""
        colors = list(self.colors) + [voc_color(i) for i in range(len(self.colors), IGNORED)]
        return bytes(channel for color in [*colors, (224, 224, 192)] for channel in color)


def normalise_name(name: str) -> str:
    """Lower-case with underscores, as class names are written everywhere.

    >>> normalise_name(" Dining Table")
    'dining_table'
    """
    return "_".join(name.strip().lower().replace("-", " ").replace("_", " ").split())


def voc_color(index: int) -> Color:
    """Colour of a class in PASCAL VOC's palette: its bits, spread over red, green and blue.

    >>> voc_color(15)
    (192, 128, 128)
    """
    red = green = blue = 0
    for bit in range(8):
        red |= (index & 1) << (7 - bit)
        green |= ((index >> 1) & 1) << (7 - bit)
        blue |= ((index >> 2) & 1) << (7 - bit)
        index >>= 3
    return red, green, blue


VOC = Classes.named(
    (
        "background aeroplane bicycle bird boat bottle bus car cat chair cow dining_table dog "
        "horse motorbike person potted_plant sheep sofa train tv_monitor"
    ).split(),
    background=0,
)

CAMVID = Classes.named(
    "sky building pole road pavement tree sign_symbol fence car pedestrian bicyclist".split(),
    [
        (128, 128, 128),
        (128, 0, 0),
        (192, 192, 128),
        (128, 64, 128),
        (60, 40, 222),
        (128, 128, 0),
        (192, 128, 128),
        (64, 64, 128),
        (64, 0, 128),
        (64, 64, 0),
        (0, 128, 192),
    ],
)

MEMBRANES = Classes.named(["membrane", "cell"], [(20, 20, 20), (240, 228, 66)])
