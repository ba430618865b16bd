"""The picture of a matrix profile: the recording above, the distances below, one time axis."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from labkit.errors import SeriesError
from labkit.matrixprofile.patterns import Discord, Motif
from labkit.matrixprofile.recordings import Recording
from labkit.matrixprofile.series import as_series, as_window

__all__ = ["Picture", "plot"]

# Okabe & Ito, "Color Universal Design", 2008: told apart with any colour vision
DISCORD = "#D55E00"
MOTIFS = ("#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
MARKERS = ("o", "s", "D", "P", "^")
LINE = "#555555"


class Picture(Figure):
    """A figure that shows itself in Jupyter, also where pyplot was never imported."""

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format="png")
        return file.getvalue()


@dataclass(frozen=True, slots=True)
class _Mark:
    """Windows that belong together, and how they are drawn."""

    name: str
    starts: tuple[int, ...]
    distance: float
    colour: str
    marker: str
    numbered: bool


def plot(
    series: ArrayLike | Recording,
    distance: ArrayLike,
    window: int,
    *,
    discords: Sequence[Discord] = (),
    motifs: Sequence[Motif] = (),
) -> Picture:
    r"""Draw a series and its matrix profile on one axis, with discords and motifs marked.

    On the right are the shapes of the first discord and of the first motif, z-normalised
    as the distance sees them.

    Parameters
    ----------
    series : array_like, shape (n,), or Recording
        The samples; a `Recording` also gives times, units and title.
    distance : array_like, shape (n - window + 1,)
        Its matrix profile. What is not finite leaves a gap in the line.
    window : int
        Its window in samples.
    discords, motifs : sequences
        What :func:`labkit.matrixprofile.discords` and :func:`labkit.matrixprofile.motifs`
        picked.

    Returns
    -------
    Picture
        A matplotlib figure, free of pyplot: nothing is kept open, no display is needed.
        ``savefig`` writes it.

    Raises
    ------
    SeriesError
        For a matrix profile whose length does not belong to the series and the window.

    Examples
    --------
    >>> figure = plot([0, 1, 0, 1, 5, 0], [0.1, 0.2, 2.0, 0.1], 3, discords=[Discord(2, 2.0)])
    >>> [axes.get_ylabel() for axes in figure.axes]
    ['Value', 'Distance to the nearest\nother window (3 samples)', 'z-score']
    """
    shown = series if isinstance(series, Recording) else Recording(as_series(series))
    values = as_series(distance, "distance")
    _check_lengths(shown.samples.size, values.size, as_window(window, shown.samples.size))
    marks = [*_discord_marks(discords), *_motif_marks(motifs)]
    figure = Picture(figsize=(11, 5.5), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        2, 2 if marks else 1, width_ratios=[5, 1] if marks else None, height_ratios=[4, 3]
    )
    above = figure.add_subplot(grid[0, 0])
    below = figure.add_subplot(grid[1, 0], sharex=above)
    _draw_series(above, shown)
    _draw_distance(below, shown, values, window)
    for mark in marks:
        _draw_mark(above, below, shown, window, mark)
    for row, mark in enumerate(firsts := _first_of_each(marks)):
        axes = figure.add_subplot(grid[row, 1])
        _draw_shapes(axes, shown, window, mark)
        if mark is firsts[-1]:
            axes.set_xlabel("Time in window [s]" if shown.rate_hz else "Sample in window")
        else:
            axes.tick_params(labelbottom=False)
    if marks:
        _draw_legend(figure, below)
    return figure


def _check_lengths(samples: int, windows: int, window: int) -> None:
    if windows != samples - window + 1:
        raise SeriesError(
            f"distance has {windows} values, but {samples} samples have {samples - window + 1} "
            f"windows of {window}; pass the series and the window that it was computed with"
        )


def _discord_marks(discords: Iterable[Discord]) -> Iterator[_Mark]:
    for rank, discord in enumerate(discords, 1):
        name = f"Discord {rank}"
        yield _Mark(name, (discord.index,), discord.distance, DISCORD, "v", numbered=True)


def _motif_marks(motifs: Iterable[Motif]) -> Iterator[_Mark]:
    for rank, motif in enumerate(motifs, 1):
        colour, marker = MOTIFS[(rank - 1) % len(MOTIFS)], MARKERS[(rank - 1) % len(MARKERS)]
        name = f"Motif {rank}"
        yield _Mark(name, (motif.a, motif.b), motif.distance, colour, marker, numbered=False)


def _first_of_each(marks: Iterable[_Mark]) -> list[_Mark]:
    return [mark for mark in marks if mark.name in {"Discord 1", "Motif 1"}]


def _draw_series(axes: Axes, shown: Recording) -> None:
    axes.plot(shown.times_s, shown.samples, color=LINE, linewidth=0.7)
    axes.set_ylabel(f"{shown.quantity} [{shown.unit}]" if shown.unit else shown.quantity)
    axes.set_title(shown.title, loc="left")
    axes.margins(x=0.01, y=0.15)
    axes.tick_params(labelbottom=False)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_distance(
    axes: Axes, shown: Recording, distance: NDArray[np.float64], window: int
) -> None:
    times_s = shown.times_s[: distance.size]
    axes.plot(times_s, np.where(np.isfinite(distance), distance, np.nan), color=LINE, linewidth=0.7)
    length = f"{window / shown.rate_hz:.3g} s" if shown.rate_hz else f"{window} samples"
    axes.set_ylabel(f"Distance to the nearest\nother window ({length})")
    axes.set_xlabel("Time [s]" if shown.rate_hz else "Sample")
    axes.set_ylim(bottom=0)
    axes.margins(y=0.15)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_mark(above: Axes, below: Axes, shown: Recording, window: int, mark: _Mark) -> None:
    for start in mark.starts:
        times_s = shown.times_s[start : start + window]
        above.axvspan(times_s[0], times_s[-1], color=mark.colour, alpha=0.12, linewidth=0)
        above.plot(times_s, shown.samples[start : start + window], color=mark.colour, linewidth=1.8)
        if mark.numbered:
            rank, middle_s = mark.name.split()[-1], float(times_s.mean())
            place = above.get_xaxis_transform()
            above.text(middle_s, 0.94, rank, color=mark.colour, transform=place, ha="center")
    below.plot(
        shown.times_s[list(mark.starts)],
        [mark.distance] * len(mark.starts),
        mark.marker,
        color=mark.colour,
        label=f"{mark.name} ({mark.distance:.3g})",
        clip_on=False,
    )


def _draw_shapes(axes: Axes, shown: Recording, window: int, mark: _Mark) -> None:
    times_s = np.arange(window) / (shown.rate_hz or 1.0)
    for start, colour, style in zip(mark.starts, (mark.colour, "black"), "-:", strict=False):
        part = shown.samples[start : start + window]
        axes.plot(times_s, (part - part.mean()) / (part.std() or 1.0), style, color=colour)
    axes.set_title(mark.name, loc="left", color=mark.colour)
    axes.set_ylabel("z-score")
    axes.spines[["top", "right"]].set_visible(False)


def _draw_legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        title="In brackets: distance to the nearest other window",
        loc="outside lower center",
        ncols=min(len(handles), 6),
        frameon=False,
    )
