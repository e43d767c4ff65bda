"""What a form asks for, checked before any work begins."""

import asyncio
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from deconvnet.data.image_files import image_size, read_image
from deconvnet.errors import did_you_mean
from deconvnet.shapes import Image
from deconvnet.web.limits import Limits
from deconvnet.web.problems import WebError

Result = TypeVar("Result")

YES, NO = ("true", "1", "on", "yes"), ("false", "0", "off", "no", "")

FIELDS = {
    "image": {"type": "string", "format": "binary", "description": "The file of a picture"},
    "model": {"type": "string", "description": "A name from /api/models; else the first"},
    "proposals": {"type": "integer", "minimum": 0, "default": 0},
    "crf": {"type": "boolean", "default": False, "description": "Refine with the dense CRF"},
    "confidence": {
        "type": "boolean",
        "default": False,
        "description": "Also give confidence_png: the winning class's probability, 0 to 255",
    },
    "models": {"type": "string", "description": "Two names from /api/models, with a comma"},
}
"""The fields of the forms, for the OpenAPI document."""


@dataclass(frozen=True)
class Asked:
    """A form as it came."""

    content: bytes
    """Of the picture's file."""
    fields: Mapping[str, str]

    def image(self, limits: Limits, *, scores: bool = False) -> Image:
        """Decode the picture; takes a while, so it belongs into a thread.

        Args:
            limits: Of the server.
            scores: Whether every class's score is kept at each pixel, which takes more memory.

        Raises:
            ImageFileError: If it is no picture, damaged or too large.
            WebError: If it is too large for keeping scores.
        """
        height, width = image_size(self.content, max_pixels=limits.pixels)
        if scores and height * width > limits.score_pixels:
            raise WebError(
                413,
                f"The picture has {width} x {height} pixels; with proposals or the CRF up to "
                f"{limits.score_pixels:,} are taken here. Send a smaller one, or ask for "
                "neither.",
                code="picture",
            )
        return read_image(self.content, max_pixels=limits.pixels)

    def yes(self, name: str) -> bool:
        """A field that is true or false, and false where it is absent.

        Raises:
            WebError: If it is neither.
        """
        value = self.fields.get(name, "").strip().lower()
        if value not in YES + NO:
            raise _refused(name, self.fields[name], "true or false")
        return value in YES

    def number(self, name: str, most: int) -> int:
        """A field with a whole number, and 0 where it is absent.

        Raises:
            WebError: If it is none, or not from 0 to `most`.
        """
        value = self.fields.get(name, "").strip() or "0"
        if not (value.isascii() and value.isdecimal() and len(value) < 10) or int(value) > most:
            raise _refused(name, value, f"a whole number from 0 to {most}")
        return int(value)


async def read_form(request: Request) -> Asked:
    """Read the multipart form of a request.

    Raises:
        WebError: If it is no such form, or has no picture.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        raise WebError(
            415,
            f"The request is of the type '{kind[:80]}'; send multipart/form-data with the "
            "picture in the field 'image'.",
        )
    try:
        form = await request.form(max_files=1, max_fields=12, max_part_size=2000)
    except HTTPException as error:
        raise WebError(
            400, f"The form cannot be read ({error.detail.rstrip('.')}); send it again."
        ) from None
    try:
        return await _asked(form)
    finally:
        await form.close()


async def _asked(form: FormData) -> Asked:
    picture = form.get("image")
    if not isinstance(picture, UploadFile):
        raise WebError(
            422, "The form has no file in the field 'image'; send the picture there."
        )
    content = await picture.read()
    if not content:
        raise WebError(422, "The file in the field 'image' is empty; send a picture.")
    fields = {name: value for name, value in form.items() if isinstance(value, str)}
    return Asked(content, fields)


def multipart(*names: str) -> dict[str, Any]:
    """The form with these fields, for the OpenAPI document."""
    schema = {
        "type": "object",
        "required": ["image"],
        "properties": {name: FIELDS[name] for name in ("image", *names)},
    }
    content = {"multipart/form-data": {"schema": schema}}
    return {"requestBody": {"required": True, "content": content}}


async def while_connected(request: Request, work: Awaitable[Result]) -> Result:
    """Wait for work as long as the client does; cancel it when the client goes.

    Raises:
        ClientDisconnect: When the client went first.
    """
    wanted = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_until_gone(request))
    try:
        await asyncio.wait({wanted, gone}, return_when=asyncio.FIRST_COMPLETED)
        if wanted.done():
            return wanted.result()
        raise ClientDisconnect
    finally:
        wanted.cancel()
        gone.cancel()


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def unknown(what: str, given: str, known: list[str]) -> WebError:
    """The refusal of a name that stands for nothing."""
    return WebError(
        422,
        f"There is no {what} '{given[:80]}'; there is {', '.join(known)}."
        + did_you_mean(given[:80], known),
        code=f"unknown-{what}",
    )


def _refused(name: str, value: str, allowed: str) -> WebError:
    return WebError(422, f"The field '{name}' is '{value[:80]}'; give {allowed}.")
