"""Where the server listens, whom it answers, and how it ends."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
from types import FrameType

import uvicorn

from glassformer.visualization.server.app import build_app
from glassformer.visualization.server.computing import ComputingThread
from glassformer.visualization.server.guard import LOOPBACK
from glassformer.visualization.server.patience import MOST_CONNECTIONS, ImpatientProtocol
from glassformer.visualization.server.session import LiveModel

LAST_WORDS = 0.3
"""Seconds that answers have to go out when the server ends."""


def open_socket(host: str, port: int) -> socket.socket:
    """A socket that listens; who calls before the model is loaded waits for it.

    Args:
        host: an address of this machine, or a name of one.
        port: 0 takes any that is free.

    Raises:
        ValueError: a port that cannot be.
        OSError: the port is in use, or the address is not of this machine; says what to do.
    """
    if not 0 <= port <= 65535:
        raise ValueError(f"a port is a number from 0 to 65535, not {port}")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError) as error:
        raise OSError(f"{host!r} is no address of this machine: give --host 127.0.0.1 ({error})") from None
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(MOST_CONNECTIONS)
    except OSError as error:
        listener.close()
        raise OSError(_why_not(error, host, port)) from None
    return listener


def _why_not(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} of {host} is in use: give another with --port, or --port 0 for any that is free"
    if error.errno == errno.EACCES:
        return f"port {port} of {host} may not be used: give one above 1023 with --port"
    return f"cannot listen on port {port} of {host}: {error.strerror}"


def url_of(listener: socket.socket) -> str:
    """What to type into a browser on this machine."""
    host, port = listener.getsockname()[:2]
    address = ipaddress.ip_address(host.partition("%")[0])
    if address.is_unspecified:
        address = ipaddress.ip_address("127.0.0.1" if address.version == 4 else "::1")
    return f"http://{f'[{address}]' if address.version == 6 else address}:{port}/"


def is_local(listener: socket.socket) -> bool:
    """Whether only this machine can call."""
    return ipaddress.ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback


def run(
    live: LiveModel, computing: ComputingThread, listener: socket.socket, host: str = "127.0.0.1"
) -> None:
    """Answer until Ctrl-C or SIGTERM, which end what is computed too.

    Args:
        live: the model.
        computing: where it computes; closed at the end.
        listener: from ``open_socket``.
        host: the name by which the server was asked to listen, to which it then answers too.

    Raises:
        KeyboardInterrupt: after Ctrl-C.
    """
    local = is_local(listener)
    names = {*LOOPBACK, f"[{host}]".lower() if ":" in host else host.lower()}
    if not local:
        names.add(socket.gethostname().lower())
    port = listener.getsockname()[1] if local else None
    app = build_app(live, computing, names, any_address=not local, port=port)
    config = uvicorn.Config(
        app,
        http=ImpatientProtocol,
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=16 * 1024,
    )
    try:
        _Server(config, computing).run(sockets=[listener])
    finally:
        computing.close()


class _Server(uvicorn.Server):
    """Ends computations before it waits for answers that need them, and waits for nothing else."""

    def __init__(self, config: uvicorn.Config, computing: ComputingThread) -> None:
        super().__init__(config)
        self.computing = computing

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End; a second Ctrl-C changes nothing."""
        if not self.should_exit:
            super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Tell who waits that the server ends, and hang up on all others."""
        self.computing.close()
        for server in self.servers:
            server.close()
        for listener in sockets or []:
            listener.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        await self._ended(LAST_WORDS)
        for connection in list(self.server_state.connections):
            assert isinstance(connection, ImpatientProtocol)
            connection.hang_up()
        await self._ended(LAST_WORDS)

    async def _ended(self, seconds: float) -> None:
        if tasks := list(self.server_state.tasks):
            await asyncio.wait(tasks, timeout=seconds)
        await asyncio.sleep(0)
