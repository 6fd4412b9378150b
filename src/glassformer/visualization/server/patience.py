"""One connection: how long it may take, how many there may be, what is said to one that speaks no HTTP."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from glassformer.visualization.server.guard import HEADERS

MOST_CONNECTIONS = 64
SLOWEST_REQUEST = 10.0
"""Seconds that a connection may take to say what it wants, or to finish a body that nobody waits for."""
SLOWEST_READER = 60.0
"""Seconds that a connection may take to read an answer."""


class ImpatientProtocol(H11Protocol):
    """HTTP/1.1 that does not wait for ever for a request, its body or its reader.

    What turns out to be no HTTP, and one connection too many, are answered as the guard answers: in JSON,
    with its headers.
    """

    _waiting: asyncio.TimerHandle | None = None
    _reading: asyncio.TimerHandle | None = None

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._inside: Any = self.app
        self.app = self._answer

    def connection_made(self, transport: Any) -> None:
        """Begin to wait."""
        super().connection_made(transport)
        self._wait()

    def handle_events(self) -> None:
        """Wait no more once there is a request; from its first byte on for the next."""
        super().handle_events()
        self._watch()

    def on_response_complete(self) -> None:
        """Wait for the rest of a body that was answered before it was read; but not for a reader for ever."""
        super().on_response_complete()
        self._watch()
        if self._reading is not None:
            self._reading.cancel()
        self._reading = self.loop.call_later(SLOWEST_READER, self._unread)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing to wait for."""
        for timer in (self._waiting, self._reading):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP; what was being answered when it turned out so is left."""
        if self._answering:
            self._leave()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            refusal = JSONResponse(
                {"error": "this is no HTTP request"}, 400, {**HEADERS, "connection": "close"}
            )
            events = [
                h11.Response(status_code=400, headers=refusal.raw_headers, reason=b"Bad Request"),
                h11.Data(data=bytes(refusal.body)),
                h11.EndOfMessage(),
            ]
            self.transport.write(b"".join(self.conn.send(event) or b"" for event in events))
        self.transport.close()

    def shutdown(self) -> None:
        """End after the answer; at once where there is none to come, or the question is not whole."""
        if not self._answering:
            self.transport.close()
        elif self.cycle.more_body:
            self.hang_up()
        else:
            super().shutdown()

    def hang_up(self) -> None:
        """Leave what is asked and answered, at once."""
        if self._answering:
            self._leave()
        self.transport.abort()

    @property
    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _leave(self) -> None:
        """Let the application believe that whoever asked is gone."""
        self.cycle.disconnected = True
        self.cycle.message_event.set()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if len(self.connections) <= MOST_CONNECTIONS:
            await self._inside(scope, receive, send)
            return
        error = f"{MOST_CONNECTIONS} connections are open, and no more are answered: try again soon"
        headers = {**HEADERS, "connection": "close", "retry-after": "1"}
        await JSONResponse({"error": error}, 503, headers)(scope, receive, send)

    def _watch(self) -> None:
        """Wait for what has begun and is not whole, and else only for a first request."""
        state = self.conn.their_state
        unread = state is h11.SEND_BODY and not self._answering
        begun = state is h11.IDLE and bool(self.conn.trailing_data[0])
        if unread or begun:
            self._wait()
        elif state is not h11.IDLE and self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _wait(self) -> None:
        if self._waiting is None:
            self._waiting = self.loop.call_later(SLOWEST_REQUEST, self.transport.close)

    def _unread(self) -> None:
        """Hang up where an answer still waits to be read."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
