"""What a matrix profile shows, in a few lines and in a picture."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from labkit.cli.census import duration
from labkit.cli.joins import Computed, Join
from labkit.matrixprofile import Recording, discords, motifs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from labkit.matrixprofile import Discord, Motif
    from labkit.matrixprofile.pictures.figure import Picture

__all__ = ["draw", "told"]

MARKED = 3
"""So many discords and motifs are marked in a picture."""


def told(join: Join, computed: Computed) -> Iterator[str]:
    """Yield what was computed, how fast, and what is most and least like anything else."""
    names = " and ".join(map(str, join.sources))
    samples = " and ".join(f"{values.size:,}" for values in join.series)
    yield f"{names}: {samples} samples, windows of {join.window:,}, kind {join.kind}"
    if computed.cells:
        speed = f"{computed.cells / computed.seconds / 1e9:.3g} Gcells/s"
        yield f"{computed.cells:,.0f} pairs of windows in {duration(computed.seconds)}, {speed}"
    nearest = _nearest(join, computed.result)
    if nearest is not None:
        yield from _patterns(join, *nearest)


def draw(join: Join, result: Any) -> Picture:
    """Draw a result: a summary as a heat map, all else below its series."""
    from labkit.matrixprofile import heatmap, plot

    shown = [_recording(join, i) for i in range(len(join.series))]
    first = result[0] if join.options.get("sides") == "both" else result
    if join.kind == "summary":
        return heatmap(first, *shown, window=join.window, correlation=join.correlation)
    nearest = _nearest(join, result)
    if nearest is None:
        return plot(shown[0], first, join.window, label="Sum of correlations")
    odd, alike = _marks(join, *nearest, MARKED)
    return plot(
        shown[0],
        nearest[0],
        join.window,
        discords=odd,
        motifs=alike,
        correlation=join.correlation,
        label="" if join.is_self else _label(join),
    )


def _label(join: Join) -> str:
    what = "Correlation with" if join.correlation else "Distance to"
    return f"{what} the nearest\nwindow of {join.sources[1].path.name}"


def _recording(join: Join, number: int) -> Recording:
    source = join.sources[number]
    return Recording(join.series[number], quantity=source.part or "Value", title=source.path.name)


Nearest = tuple["NDArray[np.float64]", "NDArray[np.int64] | None"]


def _nearest(join: Join, result: Any) -> Nearest | None:
    """Return the nearest match of each window, and where it is if that is known."""
    if join.kind in {"sum", "summary"}:
        return None
    if join.options.get("sides") != "both":
        return _first(join, result)
    one, other = (_first(join, side) for side in result)
    return _nearer(join, one, other) if join.is_self else one


def _first(join: Join, result: Any) -> Nearest:
    if join.kind == "1nn_only":
        return result, None
    values, index = result
    return (values[:, 0], index[:, 0]) if join.kind == "knn" else (values, index)


def _nearer(join: Join, left: Nearest, right: Nearest) -> Nearest:
    """Take of the neighbours before and after each window the nearer."""
    values, others = left[0], right[0]
    is_nearer = others > values if join.correlation else others < values
    takes = np.isnan(values) | is_nearer
    index = None
    if left[1] is not None and right[1] is not None:
        index = np.where(takes, right[1], left[1])
    return np.where(takes, others, values), index


def _marks(
    join: Join, values: NDArray[np.float64], index: NDArray[np.int64] | None, k: int
) -> tuple[list[Discord], list[Motif]]:
    odd = discords(values, join.window, k=k, correlation=join.correlation)
    if index is None or not join.is_self:
        return odd, []
    return odd, motifs(
        values, index, join.window, k=k, series=join.series[0], correlation=join.correlation
    )


def _patterns(
    join: Join, values: NDArray[np.float64], index: NDArray[np.int64] | None
) -> Iterator[str]:
    odd, alike = _marks(join, values, index, 1)
    if not odd:
        yield "No window has a match."
        return
    i = odd[0].index
    yield f"Least like any other (discord): sample {i:,}, {_value(join, values, i)}"
    if alike:
        a, b = alike[0].a, alike[0].b
        yield f"Most alike (motif): samples {a:,} and {b:,}, {_value(join, values, a)}"
    if not join.is_self and index is not None:
        a = int(np.nanargmax(values) if join.correlation else np.nanargmin(values))
        where = f"sample {a:,} of {join.sources[0]} and {index[a]:,} of {join.sources[1]}"
        yield f"Most alike (motif): {where}, {_value(join, values, a)}"


def _value(join: Join, values: NDArray[np.float64], i: int) -> str:
    return f"{'correlation' if join.correlation else 'distance'} {values[i]:.4g}"
