"""From ``MODULE:CLASS`` to an experiment."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

import epyc

from labkit.errors import ExperimentError, suggestion

__all__ = ["load"]


def load(target: str) -> epyc.Experiment:
    """Return the experiment that a target names.

    Parameters
    ----------
    target : str
        ``MODULE:NAME``: an importable module or the path of a ``.py`` file, and a class
        that can be made without arguments, or an experiment that is made already.

    Raises
    ------
    ExperimentError
        When there is no such thing; it says what there is.

    Examples
    --------
    >>> type(load("labkit.matrixprofile.experiment:Discords")).__name__
    'Discords'
    """
    place, colon, name = target.rpartition(":")
    if not colon or not place or not name:
        raise ExperimentError(
            f"{target}: write MODULE:CLASS, such as walks.py:Walk or project.walks:Walk"
        )
    module = _module(place)
    try:
        found = getattr(module, name)
    except AttributeError:
        known = _experiments(module)
        other = suggestion(name, known) or "; it defines no experiment"
        raise ExperimentError(f"there is no {name} in {place}{other}") from None
    return _experiment(place, name, found)


def _module(place: str) -> ModuleType:
    is_file = place.endswith(".py")
    if is_file:
        path = Path(place)
        if not path.is_file():
            known = suggestion(path.name, (p.name for p in path.parent.glob("*.py")))
            raise ExperimentError(f"there is no file {place}{known}")
        folder, name = path.resolve().parent, path.stem
        _check_name(path, name)
    else:
        folder, name = Path.cwd(), place
    if os.fspath(folder) not in sys.path:
        sys.path.insert(0, os.fspath(folder))
    return _import(place, name)


def _check_name(path: Path, name: str) -> None:
    """Make sure that the file will be imported under its name, and not another module."""
    known = sys.modules.get(name)
    file = getattr(known, "__file__", None)
    if known is not None and file is not None and Path(file).resolve() == path.resolve():
        return
    if known is not None or name in sys.stdlib_module_names or not name.isidentifier():
        why = "there is another module of that name" if name.isidentifier() else "that is no name"
        raise ExperimentError(f"{path} cannot be imported as {name}: {why}. Rename the file")


def _import(place: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as e:
        if e.name is None or not f"{name}.".startswith(f"{e.name}."):
            raise ExperimentError(f"{place} cannot be imported: {_told(e)}") from e
        raise ExperimentError(
            f"there is no module {name} here or installed; a file is named with its .py: "
            f"{name.replace('.', '/')}.py"
        ) from e
    except (Exception, SystemExit) as e:
        raise ExperimentError(f"{place} cannot be imported: {_told(e)}") from e


def _told(e: BaseException) -> str:
    """Return type and message of an exception, and the last line of the user's that led to it."""
    if isinstance(e, SyntaxError):
        return f"{type(e).__name__}: {e}"
    frames = [
        f for f in traceback.extract_tb(e.__traceback__) if not f.filename.startswith("<frozen")
    ]
    where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if len(frames) > 1 else ""
    return f"{type(e).__name__}: {e}{where}"


def _experiments(module: ModuleType) -> list[str]:
    """Return the names of the experiments that a module itself defines."""
    return [
        name
        for name, member in vars(module).items()
        if isinstance(member, epyc.Experiment)
        or (
            isinstance(member, type)
            and issubclass(member, epyc.Experiment)
            and member.__module__ == module.__name__
        )
    ]


def _experiment(place: str, name: str, found: Any) -> epyc.Experiment:
    if isinstance(found, epyc.Experiment):
        return found
    if not isinstance(found, type) or not issubclass(found, epyc.Experiment):
        raise ExperimentError(
            f"{name} in {place} is a {type(found).__name__}, not an experiment: "
            "a class that inherits from labkit.Experiment"
        )
    missing = _arguments(found)
    if missing:
        raise ExperimentError(
            f"{name} in {place} cannot be made without arguments ({', '.join(missing)}): make one "
            f"in the module, such as {name.lower()} = {name}(...), and run {place}:{name.lower()}"
        )
    try:
        made: epyc.Experiment = found()
    except Exception as e:
        raise ExperimentError(f"{name}() in {place} failed: {_told(e)}") from e
    return made


def _arguments(cls: type) -> list[str]:
    """Return the arguments that a class must be given."""
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    try:
        parameters = inspect.signature(cls).parameters.values()
    except ValueError:
        return []
    return [p.name for p in parameters if p.default is p.empty and p.kind not in kinds]
