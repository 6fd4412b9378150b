"""The package as a whole: light to import, its public names all there."""

from __future__ import annotations

import subprocess
import sys

import pytest

import glassformer


def test_importing_it_does_not_import_torch():
    program = (
        "import sys, glassformer; print([m for m in ('torch', 'numpy', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", glassformer.__all__)
def test_every_public_name_resolves(name):
    assert name in dir(glassformer)
    assert getattr(glassformer, name) is not None


def test_other_names_do_not():
    with pytest.raises(AttributeError, match="no attribute 'GTPModel'"):
        glassformer.GTPModel  # noqa: B018


def test_without_metadata_the_version_is_unknown(monkeypatch):
    import importlib
    import importlib.metadata

    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    with monkeypatch.context() as patch:
        patch.setattr(importlib.metadata, "version", missing)
        assert importlib.reload(glassformer).__version__ == "unknown"
    assert importlib.reload(glassformer).__version__ != "unknown"
