"""epyc that imports each of its modules when something in it is asked for.

``import epyc`` imports all of epyc, and so pandas, ipyparallel, h5py, joblib and requests: most of
the time that an engine's hand, or one of labkit's commands, would take to start, and most of a
hand's memory. A hand needs experiments only, and a command that shows a notebook no labs.

In processes that are the user's, epyc is imported as ever.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

__all__ = ["install"]


class _Contents(NamedTuple):
    """What a package's ``__init__`` does."""

    constants: dict[str, Any]
    """Names that are given a constant."""
    homes: dict[str, str]
    """Names that come from a module of the package, and from which."""
    calls: list[tuple[str, str]]
    """Methods that are called when all is there: of what, and which."""


class _LightPackage(ModuleType):
    """A package whose modules are imported when something is asked for that comes from them."""

    _contents: _Contents

    def __getattr__(self, name: str) -> Any:
        homes = self._contents.homes
        if name == "__all__":
            # there is none: somebody imports *
            for home in homes.values():
                importlib.import_module(f"{self.__name__}.{home}")
        elif name in homes or name in homes.values():
            importlib.import_module(f"{self.__name__}.{homes.get(name, name)}")
            if name in self.__dict__:
                return self.__dict__[name]
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        # a module of the package, however it came to be imported, ends with this
        mine = [each for each, home in self._contents.homes.items() if home == name]
        self.__dict__.update({each: getattr(value, each) for each in mine})
        for owner, method in self._contents.calls:
            if owner in mine:
                getattr(self.__dict__[owner], method)()

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._contents.homes})


def install() -> None:
    """Have ``import epyc`` give one of this kind, unless the process has imported epyc already.

    An epyc whose ``__init__`` does more than to gather names is imported as ever, too.
    """
    spec = importlib.util.find_spec("epyc") if "epyc" not in sys.modules else None
    if spec is None or spec.origin is None:
        return
    contents = _contents(Path(spec.origin).read_text(encoding="utf-8"))
    if contents is None:
        return
    package = importlib.util.module_from_spec(spec)
    package.__dict__.update(contents.constants, _contents=contents)
    package.__class__ = _LightPackage
    sys.modules["epyc"] = package


def _contents(source: str) -> _Contents | None:
    """Return what an ``__init__`` does; None when it does anything else than what is known here."""
    found = _Contents({}, {}, [])
    for statement in ast.parse(source).body:
        match statement:
            case ast.Expr(ast.Constant(doc)):
                found.constants.setdefault("__doc__", doc)
            case ast.Assign([ast.Name(name)], ast.Constant(value)):
                found.constants[name] = value
            case ast.ImportFrom(module=str(home), names=names, level=1):
                found.homes.update({each.asname or each.name: home for each in names})
            case ast.Expr(ast.Call(ast.Attribute(ast.Name(owner), method), [], [])):
                found.calls.append((owner, method))
            case _:
                return None
    return found
