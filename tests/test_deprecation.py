import sys
import types

import pytest

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
