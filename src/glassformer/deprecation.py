"""Aliases of renamed public names and arguments, which warn for one release."""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def renamed_attributes(module: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """A module's ``__getattr__`` (PEP 562) under which old names still work.

    Args:
        module: ``__name__`` of the module.
        names: the new name of each old one.

    Returns:
        A function that returns the attribute of the new name and warns with a ``DeprecationWarning``.
    """

    def getattribute(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        warnings.warn(f"{module}.{name} is now called {names[name]}", DeprecationWarning, stacklevel=2)
        return getattr(sys.modules[module], names[name])

    return getattribute


def renamed_arguments(**names: str) -> Callable[[F], F]:
    """Decorate a function so that old keyword arguments still work and warn.

    Args:
        names: the new name of each old one, ``told="on_progress"``.
    """

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            for old in kwargs.keys() & names.keys():
                new = names[old]
                if new in kwargs:
                    raise TypeError(f"{function.__qualname__}() got both {new!r} and its old name {old!r}")
                warnings.warn(
                    f"the argument {old!r} of {function.__qualname__}() is now called {new!r}",
                    DeprecationWarning,
                    stacklevel=2,
                )
                kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return call  # type: ignore[return-value]

    return decorate
