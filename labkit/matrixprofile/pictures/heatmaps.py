"""The picture of a summary: all pairs of windows as a heat map, the series along its sides."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.image import AxesImage
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from labkit.errors import SeriesError
from labkit.matrixprofile.pictures.curves import (
    as_recording,
    bare,
    draw_curve,
    duration,
    time_label,
    times_of,
    value_label,
    wrapped,
)
from labkit.matrixprofile.pictures.figure import Picture
from labkit.matrixprofile.recordings import Recording
from labkit.matrixprofile.series import as_window

__all__ = ["heatmap"]

Array = NDArray[np.float64]

NOTHING = "#DDDDDD"

CELLS = 640
"""Fewer than the picture has pixels along a side of the map."""

SIDE, STRIP, GAP, OBLONG = 5.4, 0.9, 0.1, 2.5
RIGHT, BOTTOM = 1.35, 0.65
LETTER, LINE = 0.085, 0.2
"""All in inches: the map is placed by hand, for no layout of matplotlib keeps its sides even
with the series and its cells square at the same time."""


def heatmap(
    matrix: ArrayLike,
    a: ArrayLike | Recording,
    b: ArrayLike | Recording | None = None,
    *,
    window: int,
    correlation: bool = False,
    mirrored: bool = False,
) -> Picture:
    """Draw a summary as a heat map: what is near is dark, what has no match is grey.

    Parameters
    ----------
    matrix : array_like, shape (h, w)
        What a join of kind ``"summary"`` returns: its rows are windows of ``a``, its
        columns windows of ``b``. NaN is no match. Of a matrix with more cells than the
        picture has pixels, each pixel shows the nearest.
    a : array_like, shape (n,), or Recording
        The series of the rows, drawn on the left; a `Recording` also gives times, units
        and title.
    b : array_like, shape (k,), or Recording, optional
        The series of the columns, drawn above. By default ``a``: the summary of a
        self-join, which fills the upper triangle.
    window : int
        The window of the join in samples.
    correlation : bool
        The matrix holds correlations.
    mirrored : bool
        Fill the lower triangle of a self-join, too.

    Returns
    -------
    Picture
        A matplotlib figure, free of pyplot: nothing is kept open, no display is needed.
        ``savefig`` writes it.

    Raises
    ------
    SeriesError
        For a matrix that is not two-dimensional, a window that does not fit, and a mirror
        image that is not square.

    Examples
    --------
    >>> figure = heatmap([[0.5, 2.0], [np.nan, 1.0]], [0, 1, 0, 2, 0, 1], window=3)
    >>> [axes.get_ylabel() for axes in figure.axes]
    ['Sample', '', '', 'z-normalised distance (window: 3 samples)']
    """
    down = as_recording(a, "a")
    across = down if b is None else as_recording(b, "b")
    as_window(window, down.samples.size, across.samples.size)
    cells = _as_matrix(matrix)
    if mirrored:
        cells = _mirrored(cells, b is None, correlation)
    scene = _Scene(down, across, window, correlation, hidden=b is None and not mirrored)
    return _draw(_pooled(cells, correlation), scene)


@dataclass(frozen=True, slots=True)
class _Scene:
    """What is drawn around the cells."""

    down: Recording
    across: Recording
    window: int
    correlation: bool
    hidden: bool
    """The lower triangle is empty on purpose."""

    @property
    def same(self) -> bool:
        return self.down is self.across

    def edges(self, shown: Recording) -> tuple[float, float]:
        """Begin and end of the windows of a series, on its axis of time."""
        first, last = times_of(shown, [0, shown.samples.size - self.window + 1]).tolist()
        return first, last


def _as_matrix(given: ArrayLike) -> Array:
    values = np.ma.filled(np.ma.asarray(given, dtype=np.float64), np.nan)
    if values.ndim != 2 or not values.size:
        raise SeriesError(
            f'matrix has shape {values.shape}; pass what a join of kind="summary" returns'
        )
    return np.where(np.isfinite(values), values, np.nan)


def _mirrored(cells: Array, one_series: bool, correlation: bool) -> Array:
    if not one_series or cells.shape[0] != cells.shape[1]:
        raise SeriesError(
            f"a matrix of shape {cells.shape} and {'one' if one_series else 'two'} series cannot "
            "be mirrored; compute a self-join with a square shape, or leave out mirrored=True"
        )
    nearer = np.fmax if correlation else np.fmin
    return np.asarray(nearer(cells, cells.T))


def _pooled(cells: Array, correlation: bool) -> Array:
    """Keep the nearest of each block of cells, so that no block is smaller than a pixel."""
    nearer = np.fmax if correlation else np.fmin
    for axis, size in enumerate(cells.shape):
        if size > CELLS:
            cells = nearer.reduceat(cells, np.arange(CELLS) * size // CELLS, axis=axis)
    return cells


def _draw(cells: Array, scene: _Scene) -> Picture:
    width, height = _sides(scene)
    title = _title(scene.across, width + RIGHT)
    beside = "" if scene.same else f"{_title(scene.down, height)}\n"
    x = _widest(scene.down) * LETTER + (beside.count("\n") + 2) * LINE
    y = BOTTOM
    inches = (
        x + STRIP + GAP + width + RIGHT,
        y + height + GAP + STRIP + (title.count("\n") + 2) * LINE,
    )
    figure = Picture(figsize=inches, dpi=150)
    FigureCanvasAgg(figure)

    def place(x: float, y: float, width: float, height: float, **shared: Any) -> Axes:
        box = (x / inches[0], y / inches[1], width / inches[0], height / inches[1])
        return figure.add_axes(box, **shared)

    left = place(x, y, STRIP, height)
    x += STRIP + GAP
    above = place(x, y + height + GAP, width, STRIP)
    center = place(x, y, width, height, sharex=above, sharey=left)
    bar = place(x + width + 0.15, y, 0.18, height)
    _draw_left(left, scene.down, beside + time_label(scene.down))
    _draw_above(above, scene.across, title)
    hidden = _below_diagonal(*cells.shape) & scene.hidden
    image = _draw_cells(center, cells, hidden, scene)
    measure = "Pearson correlation" if scene.correlation else "z-normalised distance"
    length = duration(scene.down, scene.window)
    figure.colorbar(image, cax=bar, label=f"{measure} (window: {length})")
    if (np.isnan(cells) & ~hidden).any():
        grey = [Patch(facecolor=NOTHING, label="no match")]
        figure.legend(handles=grey, loc="lower right", frameon=False, fontsize="small")
    return figure


def _sides(scene: _Scene) -> tuple[float, float]:
    """Give width and height of the map in inches: samples are as wide as high where they can be."""
    ratio = scene.across.samples.size / scene.down.samples.size
    root = math.sqrt(min(max(ratio, 1 / OBLONG), OBLONG))
    return SIDE * root, SIDE / root


def _title(shown: Recording, inches: float) -> str:
    """Say what a series is and in which unit, in lines that are no longer than so much."""
    text = f"{shown.title}: {value_label(shown)}" if shown.title else value_label(shown)
    return wrapped(text, int(inches / LETTER))


def _widest(shown: Recording) -> int:
    """Count the letters of the longest time on the axis, or of a fraction of a second."""
    return max(6, len(f"{times_of(shown, shown.samples.size).item():,.0f}"))


def _draw_left(axes: Axes, shown: Recording, label: str) -> None:
    draw_curve(axes, shown, shown.samples, upright=True)
    axes.set_ylim(*times_of(shown, [shown.samples.size, 0]))
    axes.set_ylabel(label)
    axes.set_xticks([])
    bare(axes, shown, upright=True)
    axes.spines["bottom"].set_visible(False)


def _draw_above(axes: Axes, shown: Recording, title: str) -> None:
    draw_curve(axes, shown, shown.samples)
    axes.set_xlim(*times_of(shown, [0, shown.samples.size]))
    axes.set_title(title, loc="left", fontsize="medium")
    axes.yaxis.set_major_locator(MaxNLocator(3))
    axes.tick_params(labelbottom=False)
    bare(axes, shown)


def _draw_cells(axes: Axes, cells: Array, hidden: NDArray[np.bool_], scene: _Scene) -> AxesImage:
    # dark is near, as in a recurrence plot: sparse matches stand out
    colours = matplotlib.colormaps["viridis_r" if scene.correlation else "viridis"]
    far = 1.0 if scene.correlation else 2 * math.sqrt(scene.window)
    there = cells[np.isfinite(cells)] if np.isfinite(cells).any() else np.array([0.0, far])
    image = axes.imshow(
        cells,
        cmap=colours.with_extremes(bad=NOTHING),
        vmin=float(there.min()),
        vmax=float(there.max()),
        alpha=np.where(hidden, 0.0, 1.0),
        extent=(*scene.edges(scene.across), *scene.edges(scene.down)[::-1]),
        aspect="auto",
        interpolation="nearest",
    )
    axes.set_xlabel(time_label(scene.across))
    axes.tick_params(left=False, labelleft=False)
    bare(axes, scene.across)
    return image


def _below_diagonal(height: int, width: int) -> NDArray[np.bool_]:
    """Mark the cells that a self-join leaves empty: all their columns come before their rows."""
    row, column = np.indices((height, width))
    return np.asarray((column + 1) * height <= row * width)
