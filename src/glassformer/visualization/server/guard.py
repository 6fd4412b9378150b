"""Who may ask: requests made to this server's own names, from its own page, and no larger than need be.

A page elsewhere can make a browser send requests here, and can have its own name point here (DNS rebinding).
The first is known by its Origin, or by what browsers say of its site, the second by its Host.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from glassformer.visualization.server.asking import LARGEST_BODY

LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})
HTTP_PORT = 80
"""Where a Host says none."""
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; frame-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": PAGE_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",
}
"""On every answer that does not bring its own."""
SLOWEST_BODY = 10.0
"""Seconds."""


class RefusedError(Exception):
    """A request that is not answered."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


class Guard:
    """Stands before an application.

    Args:
        app: what it guards.
        names: by which the server may be called, without a port.
        any_address: whether every IP address is such a name, which none can be made to point elsewhere.
        port: at which it may be called. Default: any, as where something in between changes it.
    """

    def __init__(
        self,
        app: ASGIApp,
        names: Collection[str] = LOOPBACK,
        any_address: bool = False,
        port: int | None = None,
    ) -> None:
        self.app, self.names, self.any_address, self.port = app, sorted(names), any_address, port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or let the application do it."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            self.check(Headers(scope=scope), scope["path"])
        except RefusedError as refusal:
            answer = JSONResponse({"error": refusal.message}, refusal.status)
            return await answer(scope, receive, send_guarded)
        await self.app(scope, receive, send_guarded)

    def check(self, headers: Headers, path: str) -> None:
        """Whose request it is.

        Raises:
            RefusedError: another name's, or that of a page elsewhere.
        """
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        host = hosts[0].lower() if len(hosts) == 1 else ""
        found = re.fullmatch(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::([0-9]{1,5}))?", host)
        if found is None:
            raise RefusedError(400, "the request needs one Host header, such as localhost:8000")
        name = found[1]
        if name not in self.names and not (self.any_address and _is_address(name)):
            names = ", ".join(self.names)
            raise RefusedError(403, f"this server answers to {names}, not to {name[:100]!r}: see --host")
        port = int(found[2] or HTTP_PORT)
        if self.port not in (None, port):
            raise RefusedError(403, f"this server answers at port {self.port}, not {port}: see --port")
        if origins and (len(origins) > 1 or origins[0].lower() not in (f"http://{host}", f"https://{host}")):
            raise RefusedError(403, f"a page of {origins[0][:100]!r} may not use this server")
        if path.startswith("/api/") and headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            raise RefusedError(403, "a page of another site may not use this server")


async def body_of(request: Request) -> bytes:
    """The body of a request for JSON.

    Raises:
        RefusedError: another type, too large, or too slow.
    """
    kind = request.headers.get("content-type", "")
    if not re.fullmatch(r"application/json *(; *charset=\"?utf-8\"?)? *", kind, re.IGNORECASE):
        raise RefusedError(415, "the body must be application/json")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise RefusedError(415, "the body must not be compressed")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and (len(length) > 18 or int(length) > LARGEST_BODY):
        raise RefusedError(413, f"the body may have {LARGEST_BODY:,} bytes")
    body = bytearray()
    try:
        async with asyncio.timeout(SLOWEST_BODY):
            async for chunk in request.stream():
                body += chunk
                if len(body) > LARGEST_BODY:
                    raise RefusedError(413, f"the body may have {LARGEST_BODY:,} bytes")
    except TimeoutError:
        raise RefusedError(408, f"the body did not come within {SLOWEST_BODY:g} seconds") from None
    except ClientDisconnect:
        raise RefusedError(400, "the body broke off") from None
    return bytes(body)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
