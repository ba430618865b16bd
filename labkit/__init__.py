"""An experiment lab for computational science.

Declare an :class:`Experiment` with its parameters, give it to a lab, and find
every outcome in a notebook::

    lab = labkit.ClusterLab(labkit.SQLiteLabNotebook("walks.db"), n=2)
    lab.runExperiment(Walks())
    lab.wait()
    lab.dataframe()

Importing labkit loads nothing heavy: each name is looked up when it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "labkit.designs": (
        "Design",
        "ExperimentalConfiguration",
        "FactorialDesign",
        "LatinHypercubeDesign",
        "PointsDesign",
        "PointwiseDesign",
        "RandomDesign",
        "SobolDesign",
    ),
    "labkit.errors": (
        "CancelledException",
        "ClusterError",
        "DesignException",
        "LabNotebookLockedException",
        "LabkitError",
        "NotebookVersionException",
        "PendingResultException",
        "ResultSetLockedException",
        "ResultsStructureException",
    ),
    "labkit.experiment": (
        "Experiment",
        "ExperimentCombinator",
        "Parameter",
        "Range",
        "RepeatedExperiment",
        "SummaryExperiment",
    ),
    "labkit.labs": ("ClusterLab", "Lab", "ParallelLab"),
    "labkit.notebook": (
        "HDF5LabNotebook",
        "JSONLabNotebook",
        "LabNotebook",
        "ResultSet",
        "SQLiteLabNotebook",
    ),
    "epyc": ("ExperimentalParameters", "Logger", "ResultsDict"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    try:
        home = _HOME_OF[name]
    except KeyError:
        raise AttributeError(f"module 'labkit' has no attribute {name!r}") from None
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
