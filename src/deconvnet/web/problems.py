"""Errors as problem details (RFC 9457): the sentence the command line would say, no more."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, Field
from starlette.responses import JSONResponse

from deconvnet.errors import ImageFileError, MissingExtraError, UserError

MEDIA_TYPE = "application/problem+json"

TITLES = {
    400: "The request cannot be read",
    401: "A token is needed",
    403: "The request comes from another site",
    404: "There is nothing here",
    405: "The method does not fit",
    408: "The request came too slowly",
    410: "The picture is no longer kept",
    413: "The request is too large",
    415: "The request has the wrong type",
    421: "The request names another host",
    422: "The request asks for what cannot be done",
    431: "The headers are too large",
    499: "The client went away",
    500: "The server failed",
    501: "This server lacks what that needs",
    503: "The server is busy",
}
"""A heading for each status."""


class WebError(UserError):
    """A request that is refused, with its status."""

    def __init__(
        self,
        status: int,
        sentence: str,
        *,
        code: str = "",
        retry_after: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(sentence)
        self.status = status
        self.code = code or TITLES[status].lower().replace(" ", "-")
        self.headers = dict(headers or {})
        if retry_after is not None:
            self.headers["Retry-After"] = str(retry_after)


class Problem(BaseModel):
    """What every error answers, as application/problem+json."""

    type: str = "about:blank"
    title: str = Field(description="What kind of problem it is")
    status: int = Field(description="The HTTP status")
    detail: str = Field(description="What was given, what is allowed, what to do")
    code: str = Field(description="The kind of problem as a word, for programs")


def problem_of(error: UserError) -> tuple[Problem, dict[str, str]]:
    """The problem details of a mistake, and the headers that go with them."""
    if isinstance(error, WebError):
        status, code, headers = error.status, error.code, error.headers
        title = TITLES[status]
    elif isinstance(error, ImageFileError):
        status, code, headers, title = 422, "picture", {}, "The picture cannot be used"
    elif isinstance(error, MissingExtraError):
        status, code, headers, title = 501, "missing-extra", {}, TITLES[501]
    else:
        status, code, headers, title = 422, "settings", {}, TITLES[422]
    return Problem(title=title, status=status, detail=str(error), code=code), headers


def response_of(error: UserError) -> JSONResponse:
    """The answer that says what was wrong."""
    problem, headers = problem_of(error)
    return JSONResponse(
        problem.model_dump(), status_code=problem.status, headers=headers, media_type=MEDIA_TYPE
    )


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The problems a route may answer with, for the OpenAPI document."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {"description": TITLES[status], "content": {MEDIA_TYPE: {"schema": schema}}}
        for status in sorted({*statuses, 401, 413, 422, 503})
    }
