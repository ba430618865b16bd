"""The picture of a matrix profile: the recording above, the distances below, one time axis."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.legend_handler import HandlerTuple
from numpy.typing import ArrayLike, NDArray

from labkit.errors import SeriesError
from labkit.matrixprofile.chaining import Chain
from labkit.matrixprofile.patterns import Discord, Motif
from labkit.matrixprofile.pictures import links
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
from labkit.matrixprofile.pictures.marks import Mark, check_starts, draw_mark, draw_shapes, marks_of
from labkit.matrixprofile.recordings import Recording
from labkit.matrixprofile.series import as_series, as_window

__all__ = ["Picture", "plot"]

Array = NDArray[np.float64]

LETTERS = 145
"""As many fit into the width of the legend, where a mark takes as much room as seven."""


class Picture(Figure):
    """A figure that shows itself in Jupyter, also where pyplot was never imported."""

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format="png")
        return file.getvalue()


@dataclass(frozen=True, slots=True)
class _Scene:
    """All that is to be drawn."""

    shown: Recording
    profile: Array
    window: int
    marks: list[Mark]
    chain: Chain | None
    correlation: bool
    label: str

    @property
    def firsts(self) -> list[Mark]:
        """The patterns whose shapes are drawn."""
        return [mark for mark in self.marks if mark.name in {"Discord 1", "Motif 1"}]

    def heights(self, mark: Mark) -> Array:
        """Where the windows of a mark are in the matrix profile."""
        own = mark.distance
        if self.correlation:
            own = 1 - own**2 / (2 * self.window)
        pair = np.full(len(mark.starts), own)
        return np.concatenate([pair, self.profile[list(mark.further)]])


def plot(  # noqa: PLR0913, each has a default that most keep
    series: ArrayLike | Recording,
    distance: ArrayLike,
    window: int,
    *,
    discords: Sequence[Discord] = (),
    motifs: Sequence[Motif] = (),
    chain: Chain | None = None,
    correlation: bool = False,
    label: str = "",
) -> Picture:
    r"""Draw a series and its matrix profile on one axis, with discords, motifs and a chain.

    On the right are the shapes of the first discord, of the first motif and of the chain,
    z-normalised as the distance sees them.

    Parameters
    ----------
    series : array_like, shape (n,), or Recording
        The samples; a `Recording` also gives times, units and title. Of a long series, each
        piece narrower than a pixel shows as its lowest and its highest sample.
    distance : array_like, shape (n - window + 1,)
        Its matrix profile. What is not finite leaves a gap in the line.
    window : int
        Its window in samples.
    discords, motifs : sequences
        What :func:`labkit.matrixprofile.discords` and :func:`labkit.matrixprofile.motifs`
        picked. Further occurrences of a motif are hollow marks.
    chain : Chain, optional
        One of :func:`labkit.matrixprofile.chains`. Its windows have colours from dark to
        light.
    correlation : bool
        The matrix profile holds correlations.
    label : str
        Names the lower axis, for other profiles than that of the nearest other window.

    Returns
    -------
    Picture
        A matplotlib figure, free of pyplot: nothing is kept open, no display is needed.
        ``savefig`` writes it.

    Raises
    ------
    SeriesError
        For a matrix profile whose length does not belong to the series and the window, and
        for patterns that are not in it.

    Examples
    --------
    >>> figure = plot([0, 1, 0, 1, 5, 0], [0.1, 0.2, 2.0, 0.1], 3, discords=[Discord(2, 2.0)])
    >>> [axes.get_ylabel() for axes in figure.axes]
    ['Value', 'Distance to the nearest\nother window (3 samples)', 'z-score']
    """
    scene = _Scene(
        shown=as_recording(series),
        profile=_as_profile(distance),
        window=as_window(window),
        marks=marks_of(discords, motifs),
        chain=chain if chain is not None and len(chain) else None,
        correlation=correlation,
        label=label,
    )
    _check(scene)
    figure = Picture(figsize=(11, 5.5 if scene.chain is None else 6.6), dpi=150)
    figure.set_layout_engine("constrained")
    FigureCanvasAgg(figure)
    if not scene.marks and scene.chain is None:
        _draw_rows(figure.add_gridspec(1, 1)[0], scene, figure)
        return figure
    grid = figure.add_gridspec(1, 2, width_ratios=[4.3, 1])
    below = _draw_rows(grid[0], scene, figure)
    _draw_shapes(grid[1], scene, figure)
    _draw_legend(figure, below, scene)
    return figure


def _as_profile(distance: ArrayLike) -> Array:
    if np.ndim(distance) == 2:
        raise SeriesError(
            f"distance has shape {np.shape(distance)}; draw a summary by heatmap(…), and of "
            "several neighbours one, as distance[:, 0]"
        )
    return as_series(distance, "distance")


def _check(scene: _Scene) -> None:
    samples, windows, window = scene.shown.samples.size, scene.profile.size, scene.window
    as_window(window, samples)
    if windows != samples - window + 1:
        raise SeriesError(
            f"distance has {windows} values, but {samples} samples have {samples - window + 1} "
            f"windows of {window}; pass the series and the window that it was computed with"
        )
    for mark in scene.marks:
        check_starts(mark.name, (*mark.starts, *mark.further), windows)
    check_starts("the chain", scene.chain or (), windows)


def _draw_rows(place: SubplotSpec, scene: _Scene, figure: Figure) -> Axes:
    """Draw what shares the time axis; give the axes of the matrix profile."""
    heights = [4, 3] if scene.chain is None else [4, 0.5, 3]
    grid = place.subgridspec(len(heights), 1, height_ratios=heights)
    above = figure.add_subplot(grid[0])
    below = figure.add_subplot(grid[-1], sharex=above)
    _draw_series(above, scene.shown)
    _draw_profile(below, scene)
    for mark in scene.marks:
        draw_mark(above, below, scene.shown, scene.window, mark, scene.heights(mark))
    if scene.chain is not None:
        track = figure.add_subplot(grid[1], sharex=above)
        links.draw_chain(above, track, scene.shown, scene.window, scene.chain)
    # the limits last: they end the scaling by what is drawn
    if not scene.correlation and not (scene.profile < 0).any():
        below.set_ylim(bottom=0)
    count = scene.shown.samples.size
    above.set_xlim(*times_of(scene.shown, [-0.01 * count, 1.01 * count]))
    return below


def _draw_series(axes: Axes, shown: Recording) -> None:
    draw_curve(axes, shown, shown.samples)
    axes.set_ylabel(wrapped(value_label(shown), 28))
    axes.set_title(wrapped(shown.title, 90), loc="left")
    axes.margins(y=0.15)
    axes.tick_params(labelbottom=False)
    bare(axes, shown)


def _draw_profile(axes: Axes, scene: _Scene) -> None:
    draw_curve(axes, scene.shown, scene.profile)
    measure = "Correlation with nearest" if scene.correlation else "Distance to the nearest"
    length = duration(scene.shown, scene.window)
    axes.set_ylabel(wrapped(scene.label, 24) or f"{measure}\nother window ({length})")
    axes.set_xlabel(time_label(scene.shown))
    axes.margins(y=0.15)
    if not np.isfinite(scene.profile).any():
        axes.text(0.5, 0.5, "No window has a match", transform=axes.transAxes, ha="center")
        axes.set_yticks([])
    bare(axes, scene.shown)


def _draw_shapes(place: SubplotSpec, scene: _Scene, figure: Figure) -> None:
    count = len(scene.firsts) + (scene.chain is not None)
    # one shape alone is not drawn as high as the whole picture, a stack is
    rows = 2 if scene.chain is None else count
    heights = [4, 3] if scene.chain is None else [3, 3, 5]
    grid = place.subgridspec(rows, 1, height_ratios=heights[-rows:])
    panels = [figure.add_subplot(grid[row]) for row in range(count)]
    for axes, mark in zip(panels, scene.firsts, strict=False):
        draw_shapes(axes, scene.shown, scene.window, mark)
    if scene.chain is not None:
        links.draw_stack(panels[-1], scene.shown, scene.window, scene.chain)
    for axes in panels[:-1]:
        axes.tick_params(labelbottom=False)
    # aligned with the edge, which it would cross in the middle of so narrow a panel
    time = "Time in window [s]" if scene.shown.rate_hz else "Sample in window"
    panels[-1].set_xlabel(time, loc="right")


def _draw_legend(figure: Figure, below: Axes, scene: _Scene) -> None:
    handles: list[Any]
    handles, labels = below.get_legend_handles_labels()
    if scene.chain is not None:
        handles, labels = [*handles, links.handle(scene.chain)], [*labels, links.name(scene.chain)]
    title = "In brackets: distance to the nearest other window" if scene.marks else ""
    if any(mark.further for mark in scene.marks):
        title += "; hollow: further occurrences"
    columns = _columns([len(label) for label in labels])
    figure.set_figheight(figure.get_figheight() + 0.2 * ((len(handles) - 1) // columns))
    figure.legend(
        handles,
        labels,
        handler_map={tuple: HandlerTuple(ndivide=None)},
        title=title or None,
        loc="outside lower center",
        ncols=columns,
        frameon=False,
    )


def _columns(lengths: list[int]) -> int:
    """Give the most columns that fit into the legend, which is filled column by column."""
    for count in range(min(6, len(lengths)), 1, -1):
        if sum(7 + column.max() for column in np.array_split(lengths, count)) <= LETTERS:
            return count
    return 1
