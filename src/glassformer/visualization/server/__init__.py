"""Interactive web page for one model, served over HTTP. Needs the extra ``serve``."""

from typing import TYPE_CHECKING

try:
    import starlette  # noqa: F401
    import uvicorn  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"serving a model needs starlette and uvicorn: pip install 'glassformer[serve]' ({error})"
    ) from error

from glassformer.deprecation import renamed_attributes
from glassformer.visualization.server.app import build_app, is_local, open_socket, run, url_of
from glassformer.visualization.server.session import ModelSession
from glassformer.visualization.server.worker import ModelWorker

__all__ = ["ModelSession", "ModelWorker", "build_app", "is_local", "open_socket", "run", "url_of"]

if not TYPE_CHECKING:
    __getattr__ = renamed_attributes(
        __name__, {"LiveModel": "ModelSession", "ComputingThread": "ModelWorker"}
    )
