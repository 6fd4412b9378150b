"""A model to be tried out in the browser: tokens out, heads on and off. Needs the extra ``serve``."""

try:
    import starlette
    import uvicorn
except ImportError as error:
    raise ImportError(
        f"serving a model needs starlette and uvicorn: pip install 'glassformer[serve]' ({error})"
    ) from error

from glassformer.visualization.server.app import build_app
from glassformer.visualization.server.computing import ComputingThread
from glassformer.visualization.server.listening import is_local, open_socket, run, url_of
from glassformer.visualization.server.session import LiveModel

__all__ = [
    "ComputingThread",
    "LiveModel",
    "build_app",
    "is_local",
    "open_socket",
    "run",
    "starlette",
    "url_of",
    "uvicorn",
]
