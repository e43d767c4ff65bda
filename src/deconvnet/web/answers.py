"""What is sent back: the shapes of the JSON, and pictures as PNG."""

import base64
import io

import matplotlib as mpl
import numpy as np
import PIL.Image
from jaxtyping import Float, UInt8
from pydantic import BaseModel, Field

from deconvnet.data.image_files import palette_picture
from deconvnet.labels import Classes
from deconvnet.predict import Segmentation
from deconvnet.shapes import BoxArray, Image


class ClassAnswer(BaseModel):
    """A class of a network."""

    index: int
    name: str
    color: str = Field(description="#rrggbb", examples=["#804080"])


class ShareAnswer(ClassAnswer):
    """A class and how much of the picture it covers."""

    share: float = Field(description="0 to 1")


class SegmentAnswer(BaseModel):
    """A picture segmented."""

    model: str
    width: int
    height: int
    classes: list[ShareAnswer]
    mask_png: str = Field(description="Palette PNG in base64; the values are class indices")


class ConfidentAnswer(SegmentAnswer):
    """A picture segmented, with how sure the network is."""

    confidence_png: str | None = Field(
        default=None,
        description="Grey PNG in base64: the winning class's probability, times 255",
    )


class CompareAnswer(BaseModel):
    """A picture segmented by two networks."""

    width: int
    height: int
    agreement: float | None = Field(
        description="Share of pixels given a class of the same name, 0 to 1; null if the "
        "networks know no class in common"
    )
    results: list[ConfidentAnswer]


class ModelAnswer(BaseModel):
    """A network of this server."""

    name: str
    network: str = Field(description="As in `deconvnet describe`", examples=["deconvnet"])
    parameters: int
    data: str | None = Field(description="What it was trained on, where that is known")
    background: int | None = Field(description="The class that is no object, if there is one")
    classes: list[ClassAnswer]


class LimitsAnswer(BaseModel):
    """What a client must know of the limits."""

    upload_bytes: int
    pixels: int
    score_pixels: int
    proposals: int
    seconds: float


class ModelsAnswer(BaseModel):
    """The networks of this server, and what it takes."""

    models: list[ModelAnswer]
    limits: LimitsAnswer


class ExampleAnswer(BaseModel):
    """A drawn picture to start from."""

    name: str
    url: str
    width: int
    height: int


class HealthAnswer(BaseModel):
    """How the server is."""

    status: str = Field(description="ok, or stopping")
    version: str
    models: int
    at_work: int = Field(description="Requests being worked on or waiting")


def classes_answer(classes: Classes) -> list[ClassAnswer]:
    """The classes in the order of their indices."""
    return [
        ClassAnswer(index=index, name=name, color="#{:02x}{:02x}{:02x}".format(*color))
        for index, (name, color) in enumerate(zip(classes.names, classes.colors, strict=True))
    ]


def segment_answer(
    model: str, segmentation: Segmentation, *, confidence: bool = False
) -> ConfidentAnswer:
    """A segmentation as it is sent."""
    height, width = segmentation.label_map.shape
    shares = segmentation.share
    sure = None
    if confidence and segmentation.probabilities is not None:
        sure = in_base64(grey_png(segmentation.probabilities.max(0)))
    return ConfidentAnswer(
        model=model,
        width=width,
        height=height,
        classes=[
            ShareAnswer(**known.model_dump(), share=shares[known.name])
            for known in classes_answer(segmentation.classes)
        ],
        mask_png=in_base64(png(palette_picture(segmentation.label_map, segmentation.classes))),
        confidence_png=sure,
    )


def agreement(first: Segmentation, second: Segmentation) -> float | None:
    """Share of pixels that both gave a class of the same name; none if they share no name."""
    if not set(first.classes.names) & set(second.classes.names):
        return None
    names = np.array(first.classes.names), np.array(second.classes.names)
    return float((names[0][first.label_map] == names[1][second.label_map]).mean())


def boxes_answer(boxes: BoxArray) -> list[list[float]]:
    """Boxes as [x0, y0, x1, y1] in pixels."""
    return [[round(float(side), 1) for side in box] for box in boxes]


def png(picture: PIL.Image.Image) -> bytes:
    """A picture as the bytes of a PNG file."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


def picture_png(image: Image) -> bytes:
    """An RGB picture as the bytes of a PNG file."""
    return png(PIL.Image.fromarray(image))


def grey_png(values: Float[np.ndarray, "rows columns"]) -> bytes:
    """Values from 0 to 1 as a grey PNG of 8 bits."""
    return png(PIL.Image.fromarray(np.rint(255 * values.clip(0, 1)).astype(np.uint8)))


def map_png(levels: UInt8[np.ndarray, "rows columns"]) -> bytes:
    """Levels from 0 to 255 in the colours of viridis, also for the colour-blind."""
    picture = PIL.Image.fromarray(levels).convert("L")
    ramp = mpl.colormaps["viridis"](np.arange(256), bytes=True)[:, :3]
    picture.putpalette(ramp.tobytes())
    return png(picture)


def in_base64(content: bytes) -> str:
    """Bytes as text."""
    return base64.b64encode(content).decode("ascii")
