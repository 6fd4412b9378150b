"""The addresses of the server: a page and its modules, questions to the model, and explorer pages."""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from glassformer.visualization.explorer import page
from glassformer.visualization.server.asking import Question, read_question
from glassformer.visualization.server.computing import (
    AbandonedError,
    BusyError,
    ComputingThread,
    TooLongError,
)
from glassformer.visualization.server.guard import LOOPBACK, Guard, RefusedError, body_of
from glassformer.visualization.server.session import LiveModel

PAGES_KEPT = 4
"""Explorer pages, the last ones."""
OWN = "glassformer.visualization.server"
EXPLORER = "glassformer.visualization.explorer"
MODULES = ("live.js", "ask.js", "bars.js", "changes.js", "exploring.js", "strip.js", "switches.js")
FILES = {
    "/": (OWN, "live.html"),
    **{f"/{name}": (OWN, name) for name in ("live.css", *MODULES)},
    **{f"/{name}": (EXPLORER, name) for name in ("explorer.css", *page.MODULES)},
}
"""What is sent as it is: package and file. The page is made of the explorer's own parts."""
KINDS = {"html": "text/html", "css": "text/css", "js": "text/javascript"}


def build_app(
    live: LiveModel,
    computing: ComputingThread,
    names: Collection[str] = LOOPBACK,
    *,
    any_address: bool = False,
    port: int | None = None,
) -> Guard:
    """The server as an ASGI application.

    Args:
        live: the model.
        computing: where it computes.
        names: by which the server may be called, without a port.
        any_address: whether every IP address is such a name.
        port: at which it may be called; default any.
    """
    server = _Server(live, computing)
    routes = [Route(path, _file(*file)) for path, file in FILES.items()]
    routes += [
        Route("/health", server.health),
        Route("/api/model", server.about),
        Route("/api/look", server.asked(live.look), methods=["POST"]),
        Route("/api/step", server.asked(live.step), methods=["POST"]),
        Route("/api/explore", server.asked(live.explore, server.keep), methods=["POST"]),
        Route("/explorer/{number}", server.page),
    ]
    handlers: Mapping[Any, Any] = {Exception: _broken, HTTPException: _failed, RefusedError: _refused}
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.router.redirect_slashes = False
    return Guard(app, names, any_address, port)


class _Server:
    """What answers, with the explorer pages that were asked for last."""

    def __init__(self, live: LiveModel, computing: ComputingThread) -> None:
        self.live, self.computing = live, computing
        self.pages: OrderedDict[str, str] = OrderedDict()

    async def health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok", **self.computing.load})

    async def about(self, request: Request) -> Response:
        return JSONResponse(self.live.about())

    async def page(self, request: Request) -> Response:
        html = self.pages.get(request.path_params["number"])
        if html is None:
            raise HTTPException(404, "this explorer page is gone: ask for it again")
        policy = f"{page.policy()}; frame-ancestors 'self'; sandbox allow-scripts allow-downloads"
        return HTMLResponse(html, headers={"content-security-policy": policy})

    def keep(self, html: str) -> dict[str, str]:
        """Under an address that nobody guesses."""
        number = secrets.token_urlsafe(16)
        self.pages[number] = html
        if len(self.pages) > PAGES_KEPT:
            self.pages.popitem(last=False)
        return {"page": f"/explorer/{number}"}

    def asked(
        self, work: Callable[[Question], Any], then: Callable[[Any], Any] = lambda found: found
    ) -> Callable[[Request], Any]:
        """An answer that has to be computed."""

        async def answer(request: Request) -> Response:
            body = await body_of(request)
            try:
                question = read_question(body)
                found = await self.computed(request, lambda: work(question))
            except ValueError as error:
                raise RefusedError(400, str(error)) from None
            except (BusyError, TooLongError, AbandonedError) as error:
                raise RefusedError(503, str(error)) from None
            return JSONResponse(then(found))

        return answer

    async def computed(self, request: Request, work: Callable[[], Any]) -> Any:
        """The result, unless whoever asked goes away first."""
        job = self.computing.submit(work)
        result = asyncio.wrap_future(job.result)
        gone = asyncio.ensure_future(_gone(request))
        try:
            await asyncio.wait({result, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not result.done():
                raise AbandonedError("nobody waits for it")
            return result.result()
        finally:
            gone.cancel()
            if not result.done():
                self.computing.abandon(job)
                result.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _file(package: str, name: str) -> Callable[[Request], Any]:
    async def answer(request: Request) -> Response:
        return Response(_text(package, name), media_type=KINDS[name.rpartition(".")[2]])

    return answer


@cache
def _text(package: str, name: str) -> str:
    return files(package).joinpath(name).read_text("utf-8")


async def _failed(request: Request, error: HTTPException) -> Response:
    detail = "there is nothing at this address" if error.detail == "Not Found" else error.detail
    return JSONResponse({"error": detail}, error.status_code, headers=error.headers)


async def _refused(request: Request, refusal: RefusedError) -> Response:
    headers = {"retry-after": "1"} if refusal.status == 503 else None
    return JSONResponse({"error": refusal.message}, refusal.status, headers=headers)


async def _broken(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": "something broke in here: the terminal says what"}, 500)
