"""What runs experiments: in this process, on its cores, on a cluster."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labkit.labs.clusterlab import ClusterLab
    from labkit.labs.lab import Lab
    from labkit.labs.parallellab import ParallelLab

_HOME_OF = {
    "ClusterLab": "labkit.labs.clusterlab",
    "Lab": "labkit.labs.lab",
    "ParallelLab": "labkit.labs.parallellab",
}

__all__ = ["ClusterLab", "Lab", "ParallelLab"]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME_OF[name]), name)
