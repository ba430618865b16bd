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

if TYPE_CHECKING:
    from epyc import ExperimentalParameters as ExperimentalParameters
    from epyc import Logger as Logger
    from epyc import PackageContactInfo as PackageContactInfo
    from epyc import ResultsDict as ResultsDict

    from labkit.attachment import Attachment as Attachment
    from labkit.cluster.clusters import Cluster as Cluster
    from labkit.designs import Design as Design
    from labkit.designs import ExperimentalConfiguration as ExperimentalConfiguration
    from labkit.designs import FactorialDesign as FactorialDesign
    from labkit.designs import LatinHypercubeDesign as LatinHypercubeDesign
    from labkit.designs import PointsDesign as PointsDesign
    from labkit.designs import PointwiseDesign as PointwiseDesign
    from labkit.designs import RandomDesign as RandomDesign
    from labkit.designs import SobolDesign as SobolDesign
    from labkit.errors import CancelledException as CancelledException
    from labkit.errors import ClusterError as ClusterError
    from labkit.errors import DesignException as DesignException
    from labkit.errors import LabkitError as LabkitError
    from labkit.errors import LabNotebookLockedException as LabNotebookLockedException
    from labkit.errors import NotebookVersionException as NotebookVersionException
    from labkit.errors import PendingResultException as PendingResultException
    from labkit.errors import ResultSetLockedException as ResultSetLockedException
    from labkit.errors import ResultsStructureException as ResultsStructureException
    from labkit.experiment import Experiment as Experiment
    from labkit.experiment import ExperimentCombinator as ExperimentCombinator
    from labkit.experiment import RepeatedExperiment as RepeatedExperiment
    from labkit.experiment import SummaryExperiment as SummaryExperiment
    from labkit.labs import ClusterLab as ClusterLab
    from labkit.labs import Lab as Lab
    from labkit.labs import ParallelLab as ParallelLab
    from labkit.notebook import HDF5LabNotebook as HDF5LabNotebook
    from labkit.notebook import JSONLabNotebook as JSONLabNotebook
    from labkit.notebook import LabNotebook as LabNotebook
    from labkit.notebook import ResultSet as ResultSet
    from labkit.notebook import SQLiteLabNotebook as SQLiteLabNotebook
    from labkit.notebook import SQLLabNotebook as SQLLabNotebook
    from labkit.parameter import Parameter as Parameter
    from labkit.parameter import Range as Range

__version__ = "0.1.0"

_HOMES = {
    "labkit.attachment": ("Attachment",),
    "labkit.cluster.clusters": ("Cluster",),
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
        "RepeatedExperiment",
        "SummaryExperiment",
    ),
    "labkit.labs": ("ClusterLab", "Lab", "ParallelLab"),
    "labkit.notebook": (
        "HDF5LabNotebook",
        "JSONLabNotebook",
        "LabNotebook",
        "ResultSet",
        "SQLLabNotebook",
        "SQLiteLabNotebook",
    ),
    "labkit.parameter": ("Parameter", "Range"),
    "epyc": ("ExperimentalParameters", "Logger", "PackageContactInfo", "ResultsDict"),
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
