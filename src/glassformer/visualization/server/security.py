"""Protections of the server: hosts, origins, response headers, request bodies, slow connections.

A page of another site can make a browser send requests to this server, and can let its own domain name
resolve to this machine (DNS rebinding). The Origin or Sec-Fetch-Site header reveals the first, the Host
header the second.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections.abc import Collection
from typing import Any

import h11
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from glassformer.visualization.server.schema import MAX_BODY_BYTES

LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})
DEFAULT_PORT = 80
"""Port of a Host header without one."""
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SECURITY_HEADERS = {
    "content-security-policy": PAGE_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",
}
"""Defaults of every response of the application."""
REQUEST_TIMEOUT = 10.0
"""Seconds for a connection to send a request, and again for its body."""
RESPONSE_TIMEOUT = 60.0
"""Seconds for a client to receive a response."""


class RequestError(Exception):
    """A refused request, with the status and the message of the response."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


class SecurityMiddleware:
    """ASGI middleware that refuses foreign hosts and origins and adds security headers.

    Host names are checked by ``TrustedHostMiddleware``. Ports, origins and IP addresses are checked here: it
    ignores the first two, has no pattern for "any address", and in older versions cannot parse IPv6.

    Args:
        app: the application.
        names: host names and addresses of the server, without port; IPv6 in brackets.
        any_address: whether every IP address is allowed as host; no DNS record can redirect an address.
        port: the only allowed port. Default: any, for a server behind port forwarding.
    """

    def __init__(
        self,
        app: ASGIApp,
        names: Collection[str] = LOOPBACK,
        any_address: bool = False,
        port: int | None = None,
    ) -> None:
        self.app, self.names, self.any_address, self.port = app, names, any_address, port
        self.trusted_names = TrustedHostMiddleware(app, allowed_hosts=sorted(names), www_redirect=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request or pass it to the application."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        app: ASGIApp = self.trusted_names
        try:
            host = self.check(Headers(scope=scope), scope["path"])
            if _is_ip_address(host) and (self.any_address or host in self.names):
                app = self.app
        except RequestError as error:
            app = JSONResponse({"error": error.message}, error.status)
        await app(scope, receive, send_with_headers)

    def check(self, headers: Headers, path: str) -> str:
        """Check the port and the origin of a request.

        Returns:
            The name or address in the Host header, without port.

        Raises:
            RequestError: a Host header that is missing, repeated or malformed, another port, or the page of
                another site.
        """
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        host = hosts[0].lower() if len(hosts) == 1 else ""
        match = re.fullmatch(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::([0-9]{1,5}))?", host)
        if match is None:
            raise RequestError(400, "the request must have one Host header, such as localhost:8000")
        port = int(match[2] or DEFAULT_PORT)
        if self.port not in (None, port):
            raise RequestError(403, f"this server answers at port {self.port}, not {port}: see --port")
        if origins and (len(origins) > 1 or origins[0].lower() not in (f"http://{host}", f"https://{host}")):
            raise RequestError(403, f"a page of {origins[0][:100]!r} may not use this server")
        if path.startswith("/api/") and headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            raise RequestError(403, "a page of another site may not use this server")
        return match[1]


def _is_ip_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


async def read_json_body(request: Request) -> bytes:
    """Read the body of a JSON request; starlette limits neither its size nor its time.

    Raises:
        RequestError: another content type, a body that is too large or too slow.
    """
    content_type = request.headers.get("content-type", "")
    if not re.fullmatch(r"application/json *(; *charset=\"?utf-8\"?)? *", content_type, re.IGNORECASE):
        raise RequestError(415, "the body must be application/json")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise RequestError(415, "the body must not be compressed")
    too_large = RequestError(413, f"the body must have at most {MAX_BODY_BYTES:,} bytes")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and (len(length) > 18 or int(length) > MAX_BODY_BYTES):
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(REQUEST_TIMEOUT):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise too_large
    except TimeoutError:
        raise RequestError(408, f"the body did not arrive within {REQUEST_TIMEOUT:g} seconds") from None
    except ClientDisconnect:
        raise RequestError(400, "the body is incomplete") from None
    return bytes(body)


class TimeoutProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 connection with timeouts for slow clients.

    uvicorn's ``timeout_keep_alive`` covers only the pause after a response. Added here: the time to send a
    request, to send the rest of a body that was answered before it was complete, and to receive a response.
    """

    _request_timer: asyncio.TimerHandle | None = None
    _response_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Start the request timeout."""
        super().connection_made(transport)
        self._start_request_timer()

    def handle_events(self) -> None:
        """Parse what arrived, then start or stop the request timeout."""
        super().handle_events()
        self._update_request_timer()

    def on_response_complete(self) -> None:
        """Start the response timeout: the response is written to the buffer, not yet received."""
        super().on_response_complete()
        self._update_request_timer()
        if self._response_timer is not None:
            self._response_timer.cancel()
        self._response_timer = self.loop.call_later(RESPONSE_TIMEOUT, self._abort_unsent)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all timeouts."""
        for timer in (self._request_timer, self._response_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Refuse malformed HTTP; uvicorn's method raises if a response has already been started."""
        if self._responding:
            self._disconnect()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        self.transport.close()

    def shutdown(self) -> None:
        """Close after the response; at once if there is none, or its request is incomplete."""
        if not self._responding:
            self.transport.close()
        elif self.cycle.more_body:
            self.abort()
        else:
            super().shutdown()

    def abort(self) -> None:
        """Close at once, whatever is under way."""
        if self._responding:
            self._disconnect()
        self.transport.abort()

    @property
    def _responding(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _disconnect(self) -> None:
        """Send ``http.disconnect`` to the application."""
        self.cycle.disconnected = True
        self.cycle.message_event.set()

    def _update_request_timer(self) -> None:
        state = self.conn.their_state
        body_unread = state is h11.SEND_BODY and not self._responding
        request_begun = state is h11.IDLE and bool(self.conn.trailing_data[0])
        if body_unread or request_begun:
            self._start_request_timer()
        elif state is not h11.IDLE and self._request_timer is not None:
            self._request_timer.cancel()
            self._request_timer = None

    def _start_request_timer(self) -> None:
        if self._request_timer is None:
            self._request_timer = self.loop.call_later(REQUEST_TIMEOUT, self.transport.close)

    def _abort_unsent(self) -> None:
        if self.transport.get_write_buffer_size():
            self.transport.abort()
