"""epyc that imports each of its modules when something in it is asked for.

``import epyc`` imports all of epyc, and so pandas, ipyparallel, h5py, joblib and requests: most of
the time that an engine's hand, or one of labkit's commands, would take to start, and most of a
hand's memory. A hand needs experiments only, and a command that shows a notebook no labs.

In the process of a user's own program or notebook, epyc is imported as ever.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
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
            for home in set(homes.values()):
                self._import(home)
        elif name in homes or name in homes.values():
            home = homes.get(name, name)
            module = self._import(home)
            if name not in self.__dict__:
                # another thread has imported it this very moment
                setattr(self, home, module)
            return self.__dict__[name]
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")

    def _import(self, home: str) -> ModuleType:
        return importlib.import_module(f"{self.__name__}.{home}")

    def __setattr__(self, name: str, value: Any) -> None:
        # with this the import of a module of the package ends, whoever imports it
        mine = [each for each, home in self._contents.homes.items() if home == name]
        found = {each: getattr(value, each) for each in mine}
        for owner, method in self._contents.calls:
            if owner in found:
                getattr(found[owner], method)()
        self.__dict__.update(found)
        super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._contents.homes})

    def __reduce__(self) -> tuple[Any, ...]:
        # cloudpickle knows by their very type what are modules
        return importlib.import_module, (self.__name__,)


def install() -> None:
    """Have ``import epyc`` give one of this kind, unless the process has imported epyc already.

    An epyc whose ``__init__`` does more than to gather names, or cannot be read, is imported as
    ever, too.
    """
    spec = importlib.util.find_spec("epyc") if "epyc" not in sys.modules else None
    get_source = getattr(spec and spec.loader, "get_source", None)
    if spec is None or get_source is None:
        return
    try:
        source = get_source("epyc")
    except (ImportError, OSError):
        return
    contents = _contents(source) if source else None
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
            case ast.ImportFrom(module=str(home), names=names, level=1) if home.isidentifier():
                if any(each.asname or each.name == "*" for each in names):
                    return None
                found.homes.update({each.name: home for each in names})
            case ast.Expr(ast.Call(ast.Attribute(ast.Name(owner), method), [], [])):
                found.calls.append((owner, method))
            case _:
                return None
    return found if {owner for owner, _ in found.calls} <= found.homes.keys() else None
