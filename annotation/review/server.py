"""The review page's server: on this machine only, for the browser that has the printed link.

The link's token is exchanged once for a cookie. Other pages cannot use it: requests must name this
machine as their host (no DNS rebinding), and decisions must come from the page itself.
"""

import base64
import secrets
import signal
import socket
from collections.abc import Awaitable, Callable
from functools import cache
from importlib.resources import files
from typing import Annotated, Any, Literal

import numpy as np
import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, RedirectResponse
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from sono.annotation.review.decisions import MaskAction
from sono.annotation.review.others import other_masks
from sono.annotation.review.session import MOST_RIVALS, ReviewSession, StaleError
from sono.curation.core.errors import SonoError
from sono.curation.core.reasons import EXCLUSIONS, REASONS
from sono.templates.loader import MAX_TEXT_CHARS

COOKIE = "sono_review"
MAX_BODY = 8 << 20  # bytes; a mask of 4096 x 4096 pixels takes 2.8 MB
NO_COOKIE = "Open the link that `sono masks review` has printed."
PAGE = {
    "review.html": "text/html; charset=utf-8",
    "review.css": "text/css; charset=utf-8",
    "review.svg": "image/svg+xml",
    **dict.fromkeys(
        ("review.js", "draw.js", "ellipse.js", "unsaved.js", "frame.js", "new.js", "input.js"),
        "text/javascript; charset=utf-8",
    ),
}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' blob:; frame-ancestors 'none'; base-uri 'none'; "
        "form-action 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
}
Next = Callable[[Request], Awaitable[Response]]


class DecisionBody(BaseModel):
    """A decision as the page sends it; `mask` are the packed bits of an edited mask in base64."""

    model_config = ConfigDict(extra="forbid")
    place: int = Field(ge=0)
    version: int = Field(ge=0)
    action: MaskAction
    mask: str | None = Field(None, max_length=MAX_BODY)
    # places and versions of other proposals, which are rejected with this decision
    over: list[tuple[int, int]] = Field(default_factory=list, max_length=MOST_RIVALS)


class FrameBody(BaseModel):
    """Why the frame of a mask is excluded, if it is, and which of its remarks are wrong."""

    model_config = ConfigDict(extra="forbid")
    place: int = Field(ge=0)
    version: int = Field(ge=0)  # of the frame
    excluded: str | None = Field(max_length=40)
    withdrawn: list[str] = Field(max_length=100)


class CaptionBody(BaseModel):
    """A corrected caption of a frame or mask, or one that is wrong."""

    model_config = ConfigDict(extra="forbid")
    place: int = Field(ge=0)
    version: int = Field(ge=0)  # of the frame
    level: Literal["global", "region"]
    state: Literal["corrected", "wrong"]
    text: str = Field("", max_length=MAX_TEXT_CHARS)


class NewBody(BaseModel):
    """A structure that is to be drawn on the frame of a mask."""

    model_config = ConfigDict(extra="forbid")
    place: int = Field(ge=0)
    structure: str = Field(max_length=100)


class PromptBody(BaseModel):
    """A box x0, y0, x1, y1 or a point x, y in pixels of the frame, for a new mask."""

    model_config = ConfigDict(extra="forbid")
    place: int = Field(ge=0)
    box: tuple[int, int, int, int] | None = None
    point: tuple[int, int] | None = None


def pack(mask: NDArray[np.bool_]) -> bytes:
    """A mask [H, W] as bits, row by row, the first pixel in the highest bit."""
    return np.packbits(mask).tobytes()


def unpack(bits: bytes, height: int, width: int) -> NDArray[np.bool_]:
    """The mask [height, width] of `pack`; raises SonoError for another number of bytes."""
    if len(bits) != -(-height * width // 8):
        raise SonoError(f"the mask has {len(bits)} bytes, the frame {height} x {width} pixels")
    flat = np.unpackbits(np.frombuffer(bits, np.uint8), count=height * width)
    return flat.reshape(height, width).astype(np.bool_)


def review_app(session: ReviewSession, token: str, port: int) -> FastAPI:
    """The pages and calls of a review; `token` opens it once, at `port` of this machine."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    key = _Key(token)
    hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]")}

    @app.middleware("http")
    async def guard(request: Request, answer: Next) -> Response:
        refusal = _refusal(request, hosts, key)
        response = refusal or await answer(request)
        response.headers.update(HEADERS)
        return response

    @app.exception_handler(SonoError)
    async def refused(_: Request, error: SonoError) -> Response:
        return JSONResponse({"error": str(error)}, 422)

    @app.exception_handler(StaleError)
    async def stale(_: Request, error: StaleError) -> Response:
        return JSONResponse({"error": "decided elsewhere", "version": error.version}, 409)

    @app.exception_handler(RequestValidationError)
    async def unreadable(_: Request, error: RequestValidationError) -> Response:
        # without the input, which may be no JSON (NaN, half of a character)
        said = "; ".join(
            f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()
        )
        return JSONResponse({"error": said}, 422)

    def allowed(request: Request) -> None:
        if not key.opens(request.cookies.get(COOKIE)):
            raise HTTPException(403, NO_COOKIE)

    _add_pages(app, key, allowed)
    _add_calls(app, session, allowed)
    return app


class _Key:
    """A token that is valid once, and the cookie that it was exchanged for."""

    def __init__(self, token: str) -> None:
        self.token: str | None = token
        self.cookie: str | None = None

    def take(self, token: str) -> str | None:
        """The new cookie, if the token is right and was not used."""
        if self.token is None or not secrets.compare_digest(token.encode(), self.token.encode()):
            return None
        self.token, self.cookie = None, secrets.token_urlsafe(32)
        return self.cookie

    def opens(self, cookie: str | None) -> bool:
        return bool(
            cookie and self.cookie and secrets.compare_digest(cookie.encode(), self.cookie.encode())
        )


def _refusal(request: Request, hosts: set[str], key: _Key) -> Response | None:
    """Why a request is not answered, found before its body is read; None if it is."""
    host = request.headers.get("host", "")
    if host not in hosts:
        return PlainTextResponse("This server answers on this machine only.", 421)
    if request.method not in ("GET", "POST"):
        return PlainTextResponse("Only GET and POST.", 405)
    if request.method == "POST":
        if request.headers.get("origin") != f"http://{host}":
            return PlainTextResponse("Only the page itself may send decisions.", 403)
        if not key.opens(request.cookies.get(COOKIE)):
            return PlainTextResponse(NO_COOKIE, 403)
        # a body in chunks has no length, whatever the header says
        length = request.headers.get("content-length", "")
        whole = length.isascii() and length.isdecimal() and len(length) <= len(str(MAX_BODY))
        if "transfer-encoding" in request.headers or not whole or int(length) > MAX_BODY:
            return PlainTextResponse(f"At most {MAX_BODY} bytes.", 413)
    return None


def _add_pages(app: FastAPI, key: _Key, allowed: Callable[[Request], None]) -> None:
    @app.get("/")
    def page(request: Request, token: str | None = None) -> Response:
        if token is not None and (cookie := key.take(token)):
            response = RedirectResponse("/", 303)
            response.set_cookie(COOKIE, cookie, httponly=True, samesite="strict")
            return response
        allowed(request)
        return _file("review.html")

    @app.get("/{name}", dependencies=[Depends(allowed)])
    def part(name: str) -> Response:
        if name not in PAGE:
            raise HTTPException(404)
        return _file(name)


def _add_calls(app: FastAPI, session: ReviewSession, allowed: Callable[[Request], None]) -> None:
    checked = [Depends(allowed)]

    def at(place: int) -> int:
        if not 0 <= place < len(session.items):
            raise HTTPException(404, f"no mask at place {place}")
        return place

    Place = Annotated[int, Depends(at)]

    @app.get("/api/progress", dependencies=checked)
    def progress() -> dict[str, Any]:
        return session.progress()

    @app.get("/api/item/{place}", dependencies=checked)
    def item(place: Place) -> dict[str, Any]:
        return session.item(place)

    @app.get("/api/structures/{place}", dependencies=checked)
    def structures(place: Place) -> dict[str, list[str]]:
        return session.structures(place)

    @app.get("/api/others/{place}", dependencies=checked)
    def others(place: Place) -> list[dict[str, Any]]:
        return other_masks(session, place)

    @app.get("/api/page", dependencies=checked)
    def page() -> dict[str, Any]:
        reasons = [{"code": code, "meaning": REASONS[code].meaning} for code in EXCLUSIONS]
        return {"keys": session.keys, "exclusions": reasons}

    @app.get("/api/next/{place}", dependencies=checked)
    def following(place: int, other: bool = False) -> dict[str, int | None]:
        return {"place": session.next_open(max(-1, min(place, len(session.items) - 1)), other)}

    @app.get("/api/frame/{place}", dependencies=checked)
    def frame(place: Place) -> Response:
        return Response(session.frame(place), media_type="image/png")

    @app.get("/api/mask/{place}", dependencies=checked)
    def mask(place: Place) -> Response:
        return Response(pack(session.mask(place)), media_type="application/octet-stream")

    @app.get("/api/mask/{place}/{version}", dependencies=checked)
    def version(place: Place, version: int) -> Response:
        if not 0 <= version < len(session.items[place].versions):
            raise HTTPException(404, f"no version {version} of the mask at place {place}")
        return Response(pack(session.mask(place, version)), media_type="application/octet-stream")

    @app.post("/api/decision", dependencies=checked)
    def decide(body: DecisionBody) -> dict[str, Any]:
        row = session.items[at(body.place)].row
        drawn = None
        if body.mask is not None:
            try:
                bits = base64.b64decode(body.mask, validate=True)
            except ValueError as error:
                raise HTTPException(422, "the mask is not base64") from error
            drawn = unpack(bits, int(row["height"]), int(row["width"]))
        over = [(at(place), version) for place, version in body.over]
        return session.decide(body.place, body.version, body.action, drawn, over)

    @app.post("/api/frame", dependencies=checked)
    def judge_frame(body: FrameBody) -> dict[str, Any]:
        return session.judge_frame(at(body.place), body.version, body.excluded, body.withdrawn)

    @app.post("/api/caption", dependencies=checked)
    def judge_caption(body: CaptionBody) -> dict[str, Any]:
        return session.judge_caption(
            at(body.place), body.version, body.level, body.state, body.text
        )

    @app.post("/api/prompt", dependencies=checked)
    def prompt(body: PromptBody) -> Response:
        found = session.prompt(at(body.place), body.box, body.point)
        return Response(pack(found), media_type="application/octet-stream")

    @app.post("/api/new", dependencies=checked)
    def add(body: NewBody) -> dict[str, Any]:
        return session.add(at(body.place), body.structure)

    @app.post("/api/undo", dependencies=checked)
    def undo() -> dict[str, Any]:
        return {"item": session.undo()}


@cache
def _content(name: str) -> bytes:
    return files("sono.templates").joinpath("review", name).read_bytes()


def _file(name: str) -> Response:
    return Response(_content(name), media_type=PAGE[name])


def free_socket(port: int) -> socket.socket:
    """A socket that listens on 127.0.0.1; 0 takes a free port. Raises SonoError if it is used."""
    # asyncio answers without delay (TCP_NODELAY) only where the protocol is named
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen()  # a browser that is quicker than the server waits
    except OSError as error:
        listener.close()
        raise SonoError(
            f"--port {port}: {error.strerror}; leave --port out to take a free one"
        ) from error
    return listener


def serve(session: ReviewSession, listener: socket.socket, token: str) -> None:
    """Answer requests until Ctrl-C or SIGTERM, then write the masks table."""
    app = review_app(session, token, listener.getsockname()[1])
    config = uvicorn.Config(app, log_level="critical", access_log=False, lifespan="off")
    # uvicorn raises the signal again after its end, which would kill the process before its tables
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        uvicorn.Server(config).run(sockets=[listener])
    except KeyboardInterrupt:  # how a review ends
        pass
    finally:
        signal.signal(signal.SIGTERM, before)
        session.finish()
