"""The matrix profile: how near each window of a series is to its nearest neighbour.

::

    distance, index = selfjoin(series, window)
    odd = discords(distance, window)
    repeated = motifs(distance, index, window)
    plot(series, distance, window, discords=odd, motifs=repeated).savefig("f.png")

Yeh et al., "Matrix Profile I: All Pairs Similarity Joins for Time Series", ICDM 2016.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from labkit.matrixprofile.chaining import Chain, chain_from, chains
from labkit.matrixprofile.files.reading import read_series
from labkit.matrixprofile.joins import abjoin, selfjoin
from labkit.matrixprofile.patterns import Discord, Motif, discords, motifs
from labkit.matrixprofile.recordings import Recording, recording

if TYPE_CHECKING:
    from labkit.matrixprofile.experiment import Discords
    from labkit.matrixprofile.pictures.figure import plot
    from labkit.matrixprofile.pictures.heatmaps import heatmap
    from labkit.matrixprofile.tiled import ABJoin, SelfJoin

__all__ = [
    "ABJoin",
    "Chain",
    "Discord",
    "Discords",
    "Motif",
    "Recording",
    "SelfJoin",
    "abjoin",
    "chain_from",
    "chains",
    "discords",
    "heatmap",
    "motifs",
    "plot",
    "read_series",
    "recording",
    "selfjoin",
]

# experiments bring epyc, pictures matplotlib: a join needs neither
_LATER = {
    "ABJoin": "labkit.matrixprofile.tiled",
    "Discords": "labkit.matrixprofile.experiment",
    "SelfJoin": "labkit.matrixprofile.tiled",
    "heatmap": "labkit.matrixprofile.pictures.heatmaps",
    "plot": "labkit.matrixprofile.pictures.figure",
}


def __getattr__(name: str) -> Any:
    try:
        home = _LATER[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
