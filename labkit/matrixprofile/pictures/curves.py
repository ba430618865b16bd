"""Curves through any number of samples, thinned to what a picture can show."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, StrMethodFormatter
from numpy.typing import ArrayLike, NDArray

from labkit.matrixprofile.recordings import Recording
from labkit.matrixprofile.series import as_series

__all__ = [
    "as_recording",
    "bare",
    "draw_curve",
    "duration",
    "thinned",
    "time_label",
    "times_of",
    "value_label",
    "wrapped",
    "z_scores",
]

Array = NDArray[np.float64]

LINE = "#555555"

BINS = 4096
"""More than a picture has pixels across."""


def as_recording(series: ArrayLike | Recording, name: str = "series") -> Recording:
    """Take a bare series for a recording that counts its samples.

    Examples
    --------
    >>> as_recording([1, 2, 3]).samples
    array([1., 2., 3.])
    """
    return series if isinstance(series, Recording) else Recording(as_series(series, name))


def times_of(shown: Recording, samples: ArrayLike) -> Array:
    """Give the times of some samples, without those of all.

    Examples
    --------
    >>> times_of(Recording(np.zeros(9), rate_hz=2.0), [1, 4])
    array([0.5, 2. ])
    """
    return np.asarray(shown.start_s + np.asarray(samples) / (shown.rate_hz or 1.0))


def time_label(shown: Recording) -> str:
    """Name the axis of time.

    Examples
    --------
    >>> time_label(Recording(np.zeros(9)))
    'Sample'
    """
    return "Time [s]" if shown.rate_hz else "Sample"


def value_label(shown: Recording) -> str:
    """Name the axis of the samples, with their unit.

    Examples
    --------
    >>> value_label(Recording(np.zeros(9), quantity="Force", unit="N"))
    'Force [N]'
    """
    return f"{shown.quantity} [{shown.unit}]" if shown.unit else shown.quantity


def duration(shown: Recording, samples: int) -> str:
    """Say how long some samples take.

    Examples
    --------
    >>> duration(Recording(np.zeros(9), rate_hz=3.0), 5)
    '1.67 s'
    """
    return f"{samples / shown.rate_hz:.3g} s" if shown.rate_hz else f"{samples} samples"


def wrapped(text: str, letters: int) -> str:
    r"""Break lines that are longer than there is room for; a dollar begins no formula.

    Examples
    --------
    >>> wrapped("Distance to the nearest window\nof b.csv", 24)
    'Distance to the nearest\nwindow\nof b.csv'
    """
    lines = "\n".join(textwrap.fill(line, letters) for line in text.splitlines())
    return lines.replace("$", r"\$")


def z_scores(window: Array) -> Array:
    """Normalise a window as the distance sees it: mean 0 and deviation 1; 0 where it is flat.

    Examples
    --------
    >>> z_scores(np.array([1.0, 3.0])), z_scores(np.array([0.1, 0.1, 0.1]))
    (array([-1.,  1.]), array([0., 0., 0.]))
    """
    # by powers of two, so that nothing overflows and nothing is rounded
    part: Array = _scaled(window) - _scaled(window)[0]
    if not part.any():
        return part
    part = _scaled(part)
    part -= part.mean()
    return np.asarray(part / part.std(), dtype=np.float64)


def _scaled(values: Array) -> Array:
    _, exponent = np.frexp(np.abs(values).max())
    return np.asarray(np.ldexp(values, -exponent), dtype=np.float64)


def thinned(values: Array, bins: int = BINS) -> tuple[NDArray[np.int64], Array]:
    """Choose the samples that show in a picture: of each bin the lowest and the highest.

    Parameters
    ----------
    values : ndarray of float64, shape (n,)
        Samples; what is not finite is a gap.
    bins : int
        How many equal pieces to cut the samples into. Up to four samples a bin are left as
        they are.

    Returns
    -------
    positions : ndarray of int64, shape (p,)
        Which samples these are, in order; p <= max(3, 4) bins.
    chosen : ndarray of float64, shape (p,)
        Their values, NaN at gaps: a bin with a gap ends in one.

    Examples
    --------
    >>> positions, chosen = thinned(np.r_[np.zeros(50), 9.0, np.zeros(49)], bins=2)
    >>> positions.tolist(), chosen.tolist()
    ([0, 0, 50, 51], [0.0, 0.0, 9.0, 0.0])
    """
    values = np.where(np.isfinite(values), values, np.nan)
    if values.size <= 4 * bins:
        return np.arange(values.size), values
    length = -(-values.size // bins)
    padded = np.full(-(-values.size // length) * length, np.nan)
    padded[: values.size] = values
    table = padded.reshape(-1, length)
    gap = np.isnan(table)
    low = np.where(gap, np.inf, table).argmin(axis=1)
    high = np.where(gap, -np.inf, table).argmax(axis=1)
    starts = np.arange(0, values.size, length)
    extremes = starts + np.sort([low, high], axis=0)
    ends = np.minimum(starts + length, values.size) - 1
    positions = np.vstack([extremes, ends]).T
    chosen = np.vstack([values[extremes], np.full(ends.size, np.nan)]).T
    kept = np.ones_like(gap, shape=positions.shape)
    kept[:, 2] = gap.any(axis=1)
    return positions[kept], chosen[kept]


def draw_curve(
    axes: Axes,
    shown: Recording,
    values: Array,
    *,
    first: int = 0,
    upright: bool = False,
    **style: Any,
) -> None:
    """Draw values on a recording's axis of time.

    Parameters
    ----------
    axes : Axes
        Where to.
    shown : Recording
        Has the time axis.
    values : ndarray of float64, shape (p,), p <= n
        Of its samples, or a matrix profile. What is not finite leaves a gap; a value
        between two gaps is a dot.
    first : int
        The sample at which they begin.
    upright : bool
        Let time run along the vertical axis.
    **style
        Of the line, as in ``Axes.plot``.
    """
    style = {"color": LINE, "linewidth": 0.7, **style}

    def draw(chosen: Array, style: dict[str, Any]) -> None:
        positions, chosen = thinned(chosen)
        times = times_of(shown, first + positions)
        axes.plot(*((chosen, times) if upright else (times, chosen)), **style)

    draw(values, style)
    there = np.isfinite(np.r_[np.nan, values, np.nan])
    alone = there[1:-1] & ~there[:-2] & ~there[2:]
    if alone.any():
        dots = {"color": style["color"], "linestyle": "", "marker": ".", "markersize": 3}
        draw(np.where(alone, values, np.nan), dots)


def bare(axes: Axes, shown: Recording, *, upright: bool = False) -> None:
    """Leave of a frame what is needed, and write sample numbers in full."""
    axes.spines[["top", "right"]].set_visible(False)
    if not shown.rate_hz:
        axis = axes.yaxis if upright else axes.xaxis
        axis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 2.5, 5, 10]))
        axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
