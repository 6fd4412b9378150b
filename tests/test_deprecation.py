import importlib
import pkgutil
import sys
import types

import pytest

import glassformer
from glassformer.deprecation import renamed_arguments, renamed_attributes


def test_an_old_attribute_warns_and_gives_the_new_one(monkeypatch):
    module = types.ModuleType("a_module")
    module.new = object()
    monkeypatch.setitem(sys.modules, "a_module", module)
    getattribute = renamed_attributes("a_module", {"old": "new"})
    with pytest.warns(DeprecationWarning, match=r"a_module.old is now called new"):
        assert getattribute("old") is module.new
    with pytest.raises(AttributeError, match="no attribute 'other'"):
        getattribute("other")


def test_an_old_keyword_warns_and_is_passed_on():
    @renamed_arguments(told="on_progress")
    def work(steps, *, on_progress=None):
        return steps, on_progress

    assert work(3, on_progress=print) == (3, print)
    with pytest.warns(DeprecationWarning, match="'told' of .*work.* is now called 'on_progress'"):
        assert work(3, told=print) == (3, print)
    with pytest.raises(TypeError, match="both 'on_progress' and its old name 'told'"):
        work(3, told=print, on_progress=print)


def renamed_names():
    """The old names of every package, from the tables of ``renamed_attributes``."""
    for module in pkgutil.walk_packages(glassformer.__path__, "glassformer."):
        if module.ispkg:
            package = importlib.import_module(module.name)
            closure = getattr(vars(package).get("__getattr__"), "__closure__", None) or ()
            tables = [cell.cell_contents for cell in closure if isinstance(cell.cell_contents, dict)]
            yield from ((package, old, new) for table in tables for old, new in table.items())


def test_every_renamed_name_of_a_package_warns_and_gives_the_new_one():
    names = list(renamed_names())
    assert len(names) > 30
    for package, old, new in names:
        with pytest.warns(DeprecationWarning, match=f"{old} is now called {new}"):
            assert getattr(package, old) is getattr(package, new)
        assert new in package.__all__
