"""epyc without its labs and notebooks, for a process in which points run.

``import epyc`` imports pandas, ipyparallel, h5py, joblib and requests as well: most of the time
that a hand would take to start, and of its memory. Experiments need none of these. So epyc has
only its experiments at first, and gets the rest as soon as anybody asks for it.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
from types import ModuleType
from typing import Any

__all__ = ["install"]

#: What epyc's own ``__init__`` takes from its modules, in its order, up to the last experiment.
_EXPERIMENTS = {
    "experiment": ("Experiment", "ResultsDict", "ExperimentalParameters"),
    "experimentcombinator": ("ExperimentCombinator",),
    "repeatedexperiment": ("RepeatedExperiment",),
    "summaryexperiment": ("SummaryExperiment",),
}

_LOCK = threading.RLock()


class _LightPackage(ModuleType):
    """A package that is executed when something is asked for that it does not have."""

    def __getattr__(self, name: str) -> Any:
        with _LOCK:
            if type(self) is _LightPackage:
                _complete(self)
        return getattr(self, name)


def install() -> None:
    """Import epyc's experiments as ``epyc``, unless the process has imported epyc.

    An epyc that is made in another way than this one expects is imported as a whole.
    """
    spec = importlib.util.find_spec("epyc") if "epyc" not in sys.modules else None
    if spec is None:
        return
    package = importlib.util.module_from_spec(spec)
    package.__class__ = _LightPackage
    sys.modules["epyc"] = package
    try:
        _import_experiments(package.__dict__)
    except (ImportError, AttributeError):
        _complete(package)


def _import_experiments(namespace: dict[str, Any]) -> None:
    # the name of its logger, for which its modules ask as they are imported
    namespace["Logger"] = "epyc"
    for module, names in _EXPERIMENTS.items():
        imported = importlib.import_module(f"epyc.{module}")
        namespace |= {name: getattr(imported, name) for name in names}
    namespace["Experiment"]._init_statics()
    # whoever imports another of its modules asks for this first
    del namespace["__path__"]


def _complete(package: ModuleType) -> None:
    spec = package.__spec__
    assert spec is not None
    assert spec.loader is not None
    assert spec.submodule_search_locations is not None
    package.__class__ = ModuleType
    package.__path__ = spec.submodule_search_locations
    spec.loader.exec_module(package)
