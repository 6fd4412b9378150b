"""Web application and HTTP server: routes, the listening socket, shutdown."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import secrets
import signal
import socket
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from types import FrameType
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from glassformer.visualization.explorer.page import MODULES as EXPLORER_MODULES
from glassformer.visualization.explorer.page import policy as explorer_policy
from glassformer.visualization.server.schema import PredictionRequest, parse_request
from glassformer.visualization.server.security import (
    LOOPBACK,
    RequestError,
    SecurityMiddleware,
    TimeoutProtocol,
    read_json_body,
)
from glassformer.visualization.server.session import ModelSession
from glassformer.visualization.server.worker import (
    JobCancelledError,
    JobTimeoutError,
    ModelWorker,
    QueueFullError,
)

WEB_ASSETS = files("glassformer.visualization.server") / "web"
EXPLORER_ASSETS = files("glassformer.visualization.explorer") / "web"
"""Folder of the explorer's JavaScript modules and style sheet, some of which the page uses too."""
MODULES = (
    "address.js",
    "api.js",
    "attention.js",
    "companion.js",
    "explorer_modules.js",
    "head_switches.js",
    "main.js",
    "predictions.js",
    "tokens.js",
    "vector_changes.js",
)
STATIC_FILES = {
    "/": WEB_ASSETS / "index.html",
    **{f"/{name}": WEB_ASSETS / name for name in ("server.css", *MODULES)},
    **{f"/explorer-web/{name}": EXPLORER_ASSETS / name for name in ("explorer.css", *EXPLORER_MODULES)},
}
"""File of each static address."""
MEDIA_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
MAX_EXPLORER_PAGES = 4
"""Number of explorer pages that are kept; older ones are dropped."""
MAX_CONNECTIONS = 64
SHUTDOWN_TIMEOUT = 0.3
"""Seconds for responses to be sent during shutdown."""


def build_app(
    session: ModelSession,
    worker: ModelWorker,
    names: Collection[str] = LOOPBACK,
    *,
    any_address: bool = False,
    port: int | None = None,
) -> SecurityMiddleware:
    """Build the ASGI application.

    Args:
        session: the model.
        worker: the thread in which the model runs.
        names: host names and addresses of the server, without port; IPv6 in brackets.
        any_address: whether every IP address is allowed as host.
        port: the only allowed port. Default: any.
    """
    handlers = _Handlers(session, worker)
    routes = [Route(path, _static_file(path)) for path in STATIC_FILES]
    routes += [
        Route("/health", handlers.health),
        Route("/api/model", handlers.describe),
        Route("/api/predict", handlers.compute(session.predict), methods=["POST"]),
        Route("/api/step", handlers.compute(session.step), methods=["POST"]),
        Route("/api/attention", handlers.compute(session.attention), methods=["POST"]),
        Route("/api/explore", handlers.compute(session.explore, handlers.add_page), methods=["POST"]),
        Route("/explorer/{page_id}", handlers.explorer_page),
    ]
    on_error: Mapping[Any, Any] = {
        Exception: _internal_error,
        HTTPException: _http_error,
        RequestError: _request_error,
    }
    app = Starlette(routes=routes, exception_handlers=on_error)
    app.router.redirect_slashes = False
    return SecurityMiddleware(app, names, any_address, port)


class _Handlers:
    """Request handlers, with the most recent explorer pages."""

    def __init__(self, session: ModelSession, worker: ModelWorker) -> None:
        self.session, self.worker = session, worker
        self.pages: OrderedDict[str, str] = OrderedDict()

    async def health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok", **self.worker.status})

    async def describe(self, request: Request) -> Response:
        return JSONResponse(self.session.describe())

    async def explorer_page(self, request: Request) -> Response:
        html = self.pages.get(request.path_params["page_id"])
        if html is None:
            raise HTTPException(404, "this explorer page is no longer kept: request it again")
        policy = f"{explorer_policy()}; frame-ancestors 'self'; sandbox allow-scripts allow-downloads"
        return HTMLResponse(html, headers={"content-security-policy": policy})

    def add_page(self, html: str) -> dict[str, str]:
        """Keep an explorer page under an address that cannot be guessed."""
        page_id = secrets.token_urlsafe(16)
        self.pages[page_id] = html
        if len(self.pages) > MAX_EXPLORER_PAGES:
            self.pages.popitem(last=False)
        return {"page": f"/explorer/{page_id}"}

    def compute(
        self,
        function: Callable[[PredictionRequest], Any],
        to_json: Callable[[Any], Any] = lambda result: result,
    ) -> Callable[[Request], Any]:
        """A handler that parses the body, runs the function in the worker, and returns its result as JSON."""

        async def handle(request: Request) -> Response:
            body = await read_json_body(request)
            try:
                parsed = parse_request(body)
                result = await self._run(request, lambda: function(parsed))
            except ValueError as error:
                raise RequestError(400, str(error)) from None
            except (QueueFullError, JobTimeoutError, JobCancelledError) as error:
                raise RequestError(503, str(error)) from None
            return JSONResponse(to_json(result))

        return handle

    async def _run(self, request: Request, function: Callable[[], Any]) -> Any:
        """Run a job and cancel it if the client disconnects first."""
        job = self.worker.submit(function)
        result = asyncio.wrap_future(job.future)
        disconnected = asyncio.ensure_future(_wait_for_disconnect(request))
        try:
            await asyncio.wait({result, disconnected}, return_when=asyncio.FIRST_COMPLETED)
            if not result.done():
                raise JobCancelledError("the client disconnected")
            return result.result()
        finally:
            disconnected.cancel()
            if not result.done():
                self.worker.cancel(job)
                result.cancel()


async def _wait_for_disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _static_file(path: str) -> Callable[[Request], Any]:
    async def handle(request: Request) -> Response:
        return Response(_read(path), media_type=MEDIA_TYPES[STATIC_FILES[path].name.rpartition(".")[2]])

    return handle


@cache
def _read(path: str) -> str:
    return STATIC_FILES[path].read_text("utf-8")


async def _http_error(request: Request, error: HTTPException) -> Response:
    message = "no page at this address" if error.detail == "Not Found" else error.detail
    return JSONResponse({"error": message}, error.status_code, headers=error.headers)


async def _request_error(request: Request, error: RequestError) -> Response:
    headers = {"retry-after": "1"} if error.status == 503 else None
    return JSONResponse({"error": error.message}, error.status, headers=headers)


async def _internal_error(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": "Internal error; see the server's log."}, 500)


def open_socket(host: str, port: int) -> socket.socket:
    """Open a listening socket; connections made before the model is loaded wait in its backlog.

    Args:
        host: an address or host name of this machine.
        port: 0 chooses a free one.

    Raises:
        ValueError: ``port`` out of range.
        OSError: the port is in use, or the address is not one of this machine.
    """
    if not 0 <= port <= 65535:
        raise ValueError(f"port must be from 0 to 65535, got {port}")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError) as error:
        raise OSError(
            f"{host!r} is not an address of this machine: give --host 127.0.0.1 ({error})"
        ) from None
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(MAX_CONNECTIONS)
    except OSError as error:
        listener.close()
        raise OSError(_bind_error(error, host, port)) from None
    return listener


def _bind_error(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} of {host} is in use: give another with --port, or --port 0 for any free one"
    if error.errno == errno.EACCES:
        return f"port {port} of {host} is not permitted: give one above 1023 with --port"
    return f"cannot listen on port {port} of {host}: {error.strerror}"


def url_of(listener: socket.socket) -> str:
    """URL of the server for a browser on this machine."""
    host, port = listener.getsockname()[:2]
    address = ipaddress.ip_address(host.partition("%")[0])
    if address.is_unspecified:
        address = ipaddress.ip_address("127.0.0.1" if address.version == 4 else "::1")
    return f"http://{f'[{address}]' if address.version == 6 else address}:{port}/"


def is_local(listener: socket.socket) -> bool:
    """Whether only this machine can connect."""
    return ipaddress.ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback


def run(session: ModelSession, worker: ModelWorker, listener: socket.socket, host: str = "127.0.0.1") -> None:
    """Serve until Ctrl-C, SIGTERM or SIGHUP, which cancel running jobs too.

    Args:
        session: the model.
        worker: the thread in which it runs; closed at the end.
        listener: from ``open_socket``.
        host: the host name given to ``open_socket``, which requests may use.

    Raises:
        KeyboardInterrupt: after Ctrl-C.
    """
    local = is_local(listener)
    names = {*LOOPBACK, f"[{host}]".lower() if ":" in host else host.lower()}
    if not local:
        names.add(socket.gethostname().lower())
    port = listener.getsockname()[1] if local else None
    config = uvicorn.Config(
        build_app(session, worker, names, any_address=not local, port=port),
        http=TimeoutProtocol,
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=MAX_CONNECTIONS,
        limit_concurrency=MAX_CONNECTIONS + 1,  # uvicorn counts the connection that it refuses
        timeout_keep_alive=5,
        h11_max_incomplete_event_size=16 * 1024,
    )
    try:
        _Server(config, worker).run(sockets=[listener])
    finally:
        worker.close()


class _Server(uvicorn.Server):
    """uvicorn's server with a fast shutdown.

    uvicorn waits for running requests before the application could cancel them, and for clients that do not
    read their response.
    """

    def __init__(self, config: uvicorn.Config, worker: ModelWorker) -> None:
        super().__init__(config)
        self.worker = worker

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Let SIGHUP start the shutdown too, unless it is ignored; uvicorn knows Ctrl-C and SIGTERM only.

        A handler that raises would interrupt whatever runs, and uvicorn swallows exceptions of a response.
        """
        in_main_thread = threading.current_thread() is threading.main_thread()
        numbers = [signal.SIGHUP] if in_main_thread and hasattr(signal, "SIGHUP") else []  # none on Windows
        handlers = {number: signal.getsignal(number) for number in numbers}
        handled = [number for number, handler in handlers.items() if handler is not signal.SIG_IGN]
        with super().capture_signals():
            for number in handled:
                signal.signal(number, self.handle_exit)
            try:
                yield
            finally:
                for number in handled:
                    signal.signal(number, handlers[number])

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Start the shutdown; a second signal changes nothing."""
        if not self.should_exit:
            super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Cancel all jobs, send their responses, and close all connections."""
        self.worker.close()
        for server in self.servers:
            server.close()
        for listener in sockets or []:
            listener.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        await self._wait_for_tasks()
        for connection in list(self.server_state.connections):
            assert isinstance(connection, TimeoutProtocol)
            connection.abort()
        await self._wait_for_tasks()

    async def _wait_for_tasks(self) -> None:
        if tasks := list(self.server_state.tasks):
            await asyncio.wait(tasks, timeout=SHUTDOWN_TIMEOUT)
        await asyncio.sleep(0)
