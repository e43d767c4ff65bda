"""The routes. Everything that takes time runs in the workroom."""

import itertools
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256
from importlib import resources
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response, StreamingResponse

import deconvnet
from deconvnet.errors import UserError
from deconvnet.web import answers
from deconvnet.web.guard import Guard
from deconvnet.web.inside import ChannelsAnswer, ExplainAnswer, TraceAnswer
from deconvnet.web.limits import Limits
from deconvnet.web.logs import log
from deconvnet.web.problems import Problem, WebError, documented, problem_of, response_of
from deconvnet.web.requests import multipart, read_form, while_connected
from deconvnet.web.service import EXAMPLE_SIZE, EXAMPLES, Served, Service
from deconvnet.web.work import Stop

MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
}

PNG: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/png": {}}, "description": "A PNG"}
}


def create_app(
    served: Sequence[Served],
    limits: Limits | None = None,
    *,
    token: str | None = None,
    hosts: Sequence[str] | None = None,
) -> FastAPI:
    """The application, for uvicorn or a test.

    Args:
        served: The networks, the first of which answers where none is named.
        limits: How much of anything is allowed.
        token: What the API must be asked with; none: nothing.
        hosts: Names the server is called by; none: any.
    """
    service = Service(served, limits or Limits())

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        await service.room.empty()

    app = FastAPI(
        title="deconvnet",
        version=deconvnet.__version__,
        description="Semantic segmentation with learned deconvolution: segment, compare, look "
        "inside. Errors are problem details (RFC 9457).",
        docs_url=None,  # its page would be fetched from other hosts
        redoc_url=None,
        lifespan=lifespan,
        separate_input_output_schemas=False,
    )
    app.state.service = service
    for routes in (about_routes, segment_routes, explain_routes):
        app.include_router(routes(service))
    _serve_page(app)
    _answer_errors(app)
    _document_problems(app)
    app.add_middleware(Guard, limits=service.limits, token=token, hosts=hosts)
    return app


def about_routes(service: Service) -> APIRouter:
    """What the server has."""
    router = APIRouter(tags=["about"])

    @router.get("/healthz")
    async def health() -> answers.HealthAnswer:
        """Say that the server is there."""
        return answers.HealthAnswer(
            status="stopping" if service.room.closing else "ok",
            version=deconvnet.__version__,
            models=len(service.served),
            at_work=service.room.inside,
        )

    @router.get("/api/models", responses=documented())
    async def models() -> answers.ModelsAnswer:
        """Name the networks, their classes, and the limits."""
        limits = service.limits
        return answers.ModelsAnswer(
            models=[served.answer() for served in service.served.values()],
            limits=answers.LimitsAnswer(
                **{name: getattr(limits, name) for name in answers.LimitsAnswer.model_fields}
            ),
        )

    @router.get("/api/examples", responses=documented())
    async def examples() -> list[answers.ExampleAnswer]:
        """Name the drawn pictures to start from."""
        return [
            answers.ExampleAnswer(
                name=str(index + 1),
                url=f"/api/examples/{index}.png",
                width=EXAMPLE_SIZE[1],
                height=EXAMPLE_SIZE[0],
            )
            for index in range(EXAMPLES)
        ]

    @router.get(
        "/api/examples/{index}.png",
        responses={**documented(404), **PNG},
        response_class=Response,
    )
    async def example(index: int) -> Response:
        """Draw one of them."""
        if not 0 <= index < EXAMPLES:
            raise WebError(404, f"There is no drawn picture {index}; there are {EXAMPLES}.")
        content = await service.room.run(
            lambda _: answers.picture_png(service.example(index).image)
        )
        return Response(content, media_type="image/png")

    return router


def segment_routes(service: Service) -> APIRouter:
    """Pictures in, maps out."""
    router = APIRouter(prefix="/api", tags=["segment"])
    limits = service.limits

    @router.post(
        "/segment",
        responses=documented(400, 408, 415),
        openapi_extra=multipart("model", "proposals", "crf", "confidence"),
        response_model_exclude_none=True,
    )
    async def segment(request: Request) -> answers.ConfidentAnswer:
        """Segment a picture, exactly as `deconvnet predict` does."""
        asked = await read_form(request)
        served = service.model(asked.fields.get("model"))
        proposals, crf = asked.number("proposals", limits.proposals), asked.yes("crf")
        confidence = asked.yes("confidence")

        def work(stop: Stop) -> answers.ConfidentAnswer:
            image = asked.image(limits, scores=bool(proposals) or crf)
            segmentation = service.segment(served, image, stop, proposals=proposals, crf=crf)
            return answers.segment_answer(served.name, segmentation, confidence=confidence)

        return await while_connected(request, service.room.run(work))

    @router.post(
        "/proposals",
        responses={
            **documented(400, 408, 415),
            200: {"content": {"text/event-stream": {}}, "description": "Events, see below"},
        },
        response_class=StreamingResponse,
        openapi_extra=multipart("model", "proposals", "crf"),
    )
    async def proposals(request: Request) -> StreamingResponse:
        """Segment a picture proposal by proposal, and send the map as it grows.

        Server-sent events, each with JSON: `begin` {total}; `growth` {done, total, boxes (those
        since the last event), mask_png, classes}; `result`, as /api/segment answers; `problem`.
        Closing the connection stops the work.
        """
        asked = await read_form(request)
        served = service.model(asked.fields.get("model"))
        count, crf = asked.number("proposals", limits.proposals), asked.yes("crf")
        service.room.refuse_if_full()
        steps = service.room.stream(
            lambda stop, give: service.grow(served, asked, stop, give, count=count, crf=crf)
        )
        return StreamingResponse(
            _events(steps),
            media_type="text/event-stream",
            headers={"X-Accel-Buffering": "no"},
        )

    @router.post(
        "/compare",
        responses=documented(400, 408, 415),
        openapi_extra=multipart("models", "proposals", "crf"),
    )
    async def compare(request: Request) -> answers.CompareAnswer:
        """Segment a picture with two networks."""
        asked = await read_form(request)
        both = service.two_models(asked.fields.get("models", ""))
        proposals, crf = asked.number("proposals", limits.proposals), asked.yes("crf")

        def work(stop: Stop) -> answers.CompareAnswer:
            image = asked.image(limits, scores=bool(proposals) or crf)
            made = [
                service.segment(served, image, stop, proposals=proposals, crf=crf)
                for served in both
            ]
            height, width = image.shape[:2]
            return answers.CompareAnswer(
                width=width,
                height=height,
                agreement=answers.agreement(*made),
                results=[
                    answers.segment_answer(served.name, segmentation, confidence=True)
                    for served, segmentation in zip(both, made, strict=True)
                ],
            )

        return await while_connected(request, service.room.run(work))

    @router.post(
        "/picture",
        responses={**documented(400, 408, 415), **PNG},
        response_class=Response,
        openapi_extra=multipart(),
    )
    async def picture(request: Request) -> Response:
        """Give a picture as the networks see it: upright RGB, for what browsers cannot show."""
        asked = await read_form(request)
        content = await service.room.run(lambda _: answers.picture_png(asked.image(limits)))
        return Response(content, media_type="image/png")

    return router


def explain_routes(service: Service) -> APIRouter:
    """Layers, channels, switches."""
    router = APIRouter(prefix="/api/explain", tags=["explain"])
    limits, room, observatory = service.limits, service.room, service.observatory

    @router.post("", responses=documented(400, 408, 415), openapi_extra=multipart("model"))
    async def explain(request: Request) -> ExplainAnswer:
        """Look into a network at work on a picture; keeps every layer's maps for a while."""
        asked = await read_form(request)
        served = service.model(asked.fields.get("model"))
        return await while_connected(
            request,
            room.run(
                lambda _: observatory.look(served.name, served.plain, asked.image(limits))
            ),
        )

    @router.get("/{id}/trace", responses=documented(410))
    async def trace(id: str, x: int, y: int) -> TraceAnswer:  # noqa: A002 - in the path
        """Follow a pixel of the output back through the switches to the picture."""
        return await room.run(lambda _: observatory.trace(id, x, y))

    @router.get("/{id}/{layer}", responses=documented(410))
    async def channels(id: str, layer: str) -> ChannelsAnswer:  # noqa: A002
        """Give numbers of every channel of a layer."""
        return await room.run(lambda _: observatory.channels(id, layer))

    @router.get(
        "/{id}/{layer}/grid.png", responses={**documented(410), **PNG}, response_class=Response
    )
    async def grid(id: str, layer: str, channels: str) -> Response:  # noqa: A002
        """Draw up to 64 channels, numbers with commas between, eight in a row."""
        words = [word.strip() for word in channels.split(",") if word.strip()]
        for word in words:
            if not (word.isascii() and word.isdecimal() and len(word) < 10):
                raise WebError(
                    422,
                    f"'{word[:80]}' is no number of a channel; give such as channels=0,3,7.",
                )
        numbers = [int(word) for word in words]
        content = await room.run(lambda _: observatory.grid(id, layer, numbers))
        return Response(content, media_type="image/png")

    @router.get(
        "/{id}/{layer}/{channel}.png",
        responses={**documented(410), **PNG},
        response_class=Response,
    )
    async def channel(id: str, layer: str, channel: int) -> Response:  # noqa: A002
        """Draw one channel, a pixel for each place."""
        content = await room.run(lambda _: observatory.channel(id, layer, channel))
        return Response(content, media_type="image/png")

    return router


async def _events(steps: AsyncIterator[tuple[str, dict[str, Any]]]) -> AsyncIterator[str]:
    """Server-sent events; an error becomes the last of them."""
    try:
        async for name, values in steps:
            yield _event(name, values)
    except UserError as error:
        problem, _ = problem_of(error)
        yield _event("problem", problem.model_dump())
    except Exception:  # the answer has begun, so no handler can see it any more
        log("failed", 40, failed=True)
        yield _event("problem", _fault().model_dump())


def _event(name: str, values: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(values)}\n\n"


def _serve_page(app: FastAPI) -> None:
    """Serve the files of the page, and no others: they are read once, by name."""
    folder = resources.files("deconvnet.web") / "static"
    files = {
        file.name: (file.read_bytes(), MEDIA_TYPES[Path(file.name).suffix])
        for file in folder.iterdir()
        if Path(file.name).suffix in MEDIA_TYPES
    }

    def page_file(name: str, headers: Headers) -> Response:
        if name not in files:
            raise WebError(404, "The page has no such file; it begins at /.")
        content, media_type = files[name]
        about = {"ETag": f'"{sha256(content).hexdigest()[:16]}"', "Cache-Control": "no-cache"}
        if headers.get("if-none-match") == about["ETag"]:
            return Response(status_code=304, headers=about)
        return Response(content, media_type=media_type, headers=about)

    @app.get("/", include_in_schema=False)
    async def index(request: Request) -> Response:
        return page_file("index.html", request.headers)

    @app.get("/static/{name}", include_in_schema=False)
    async def static(name: str, request: Request) -> Response:
        return page_file(name, request.headers)


def _answer_errors(app: FastAPI) -> None:
    """Every error becomes problem details; none shows where in the program it arose."""

    @app.exception_handler(UserError)
    async def mistake(_request: Request, error: UserError) -> Response:
        return response_of(error)

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        sentence = {
            404: "There is nothing at this address; the API is described at /openapi.json.",
            405: f"{request.method} is not what this address takes; see /openapi.json.",
        }.get(error.status_code, str(error.detail))
        status = error.status_code if error.status_code in (400, 404, 405) else 400
        return response_of(WebError(status, sentence, headers=error.headers))

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: RequestValidationError) -> Response:
        first: dict[str, Any] = next(iter(error.errors()), {})
        name = ".".join(str(part) for part in itertools.islice(first.get("loc", ()), 1, None))
        return response_of(WebError(422, f"'{name[:80]}': {first.get('msg', 'not allowed')}."))

    @app.exception_handler(ClientDisconnect)
    async def gone(_request: Request, _error: ClientDisconnect) -> Response:
        return Response(status_code=499)  # nobody reads it; the log shows it

    @app.exception_handler(Exception)
    async def fault(_request: Request, _error: Exception) -> Response:
        problem = _fault()
        return Response(
            problem.model_dump_json(), status_code=500, media_type="application/problem+json"
        )


def _fault() -> Problem:
    return Problem(
        title="The server failed",
        status=500,
        detail="The server failed at this request; its log says where. Please report it.",
        code="fault",
    )


def _document_problems(app: FastAPI) -> None:
    """Put the shape of problems into the OpenAPI document."""
    original = app.openapi

    def document() -> dict[str, Any]:
        described = original()
        schemas = described.setdefault("components", {}).setdefault("schemas", {})
        schemas["Problem"] = Problem.model_json_schema()
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        return described

    app.openapi = document  # type: ignore[method-assign]
