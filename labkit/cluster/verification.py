"""Whether ipyparallel understands a profile: it passes over in silence what it does not know."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from labkit.cluster.configs import CONTROLLER, ENGINE, STARTER
from labkit.errors import suggestion

__all__ = ["complaints"]

#: Where the classes are that a profile's files configure.
_MODULES = (
    "ipyparallel.cluster.cluster",
    "ipyparallel.cluster.launcher",
    "ipyparallel.controller.app",
    "ipyparallel.controller.heartmonitor",
    "ipyparallel.controller.task_scheduler",
    "ipyparallel.engine.app",
    "labkit.cluster.controllerlauncher",
    "labkit.cluster.launchers",
)


def complaints(folder: Path) -> list[str]:
    """Load a profile's files with ipyparallel's classes, and return what is wrong with them.

    Parameters
    ----------
    folder : Path
        The profile's folder. Its files are Python, and run.
    """
    return [
        f"{folder / name}: {what}"
        for name in (STARTER, CONTROLLER, ENGINE)
        if (folder / name).exists()
        for what in _complaints(folder, name)
    ]


def _complaints(folder: Path, name: str) -> Iterator[str]:
    from traitlets.config.loader import PyFileConfigLoader

    try:
        config: Any = PyFileConfigLoader(name, path=str(folder)).load_config()
    except Exception as e:
        # whatever the file does
        yield f"cannot be loaded: {type(e).__name__}: {e}"
        return
    classes = _classes()
    for section, traits in config.items():
        if section not in classes:
            yield f"ipyparallel has no class {section}{suggestion(section, classes)}"
            continue
        yield from _wrong_traits(classes[section], traits)


def _classes() -> dict[str, Any]:
    from traitlets.config import Configurable

    return {
        name: value
        for module in map(importlib.import_module, _MODULES)
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, Configurable)
    }


def _wrong_traits(cls: Any, traits: Any) -> Iterator[str]:
    from traitlets import TraitError
    from traitlets.config.loader import LazyConfigValue

    known = cls.class_traits(config=True)
    for name, value in traits.items():
        if name not in known:
            yield f"{cls.__name__} has no setting {name}{suggestion(name, known)}"
        elif not isinstance(value, LazyConfigValue):
            try:
                cls.class_traits()[name]._validate(cls.__new__(cls), value)
            except (TraitError, ImportError, ValueError, KeyError) as e:
                yield f"{cls.__name__}.{name}: {e}"
