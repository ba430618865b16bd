"""How a picture points at discords and motifs: colours, shapes, legend."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from labkit.errors import SeriesError
from labkit.matrixprofile.patterns import Discord, Motif
from labkit.matrixprofile.pictures.curves import bare, draw_curve, times_of, z_scores
from labkit.matrixprofile.recordings import Recording

__all__ = [
    "DISCORD",
    "MOTIFS",
    "Mark",
    "check_starts",
    "draw_mark",
    "draw_shapes",
    "draw_windows",
    "marks_of",
]

Array = NDArray[np.float64]

# Okabe & Ito, "Color Universal Design", 2008: told apart with any colour vision
DISCORD = "#D55E00"
MOTIFS = ("#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
GROUNDS = 50
"""More pale grounds would be nothing but a haze."""

MARKERS = ("o", "s", "D", "P", "^", "X")


@dataclass(frozen=True, slots=True)
class Mark:
    """Windows that belong together, and how they are drawn."""

    name: str
    """For the legend and above its shapes."""
    starts: tuple[int, ...]
    """First samples of the discord, or of the pair."""
    further: tuple[int, ...]
    """First samples of the motif's further occurrences."""
    distance: float
    """To the nearest other window."""
    colour: str
    """A colour of matplotlib."""
    marker: str
    """A marker of matplotlib."""
    number: str
    """Written above its windows; may be empty."""


def marks_of(discords: Iterable[Discord], motifs: Iterable[Motif]) -> list[Mark]:
    """Give discords and motifs their names and colours, the best first.

    Examples
    --------
    >>> [mark.name for mark in marks_of([Discord(5, 2.0)], [Motif(1, 9, 0.1)])]
    ['Discord 1', 'Motif 1']
    """
    return [*_discords(discords), *_motifs(motifs)]


def _discords(discords: Iterable[Discord]) -> Iterator[Mark]:
    for rank, odd in enumerate(discords, 1):
        name = f"Discord {rank}"
        yield Mark(name, (odd.index,), (), odd.distance, DISCORD, "v", str(rank))


def _motifs(motifs: Iterable[Motif]) -> Iterator[Mark]:
    for i, motif in enumerate(motifs):
        colour, marker = MOTIFS[i % len(MOTIFS)], MARKERS[i % len(MARKERS)]
        pair = (motif.a, motif.b)
        yield Mark(f"Motif {i + 1}", pair, motif.occurrences, motif.distance, colour, marker, "")


def check_starts(name: str, starts: Iterable[int], count: int) -> None:
    """Refuse a window that is not there.

    Raises
    ------
    SeriesError
        It names the pattern, the window and how many there are.

    Examples
    --------
    >>> check_starts("Motif 1", [0, 9], 10)
    """
    for start in starts:
        if not 0 <= start < count:
            raise SeriesError(
                f"{name} has a window at {start}, but there are {count} windows; "
                "pass what was picked from this matrix profile"
            )


def draw_windows(
    axes: Axes,
    shown: Recording,
    window: int,
    colours: Mapping[int, str],
    linewidth: float = 1.8,
) -> None:
    """Set off windows of the series: coloured curves and, if they are few, a pale ground.

    Parameters
    ----------
    axes : Axes
        Of the series.
    shown : Recording
        The series.
    window : int
        In samples.
    colours : mapping of int to str
        The first sample of each window, and its colour.
    linewidth : float
        Of the curves, in points.
    """
    for start, colour in colours.items():
        if len(colours) <= GROUNDS:
            # the edge keeps a window visible that is narrower than a pixel
            pale: dict[str, Any] = {
                "facecolor": colour,
                "edgecolor": colour,
                "alpha": 0.14,
                "linewidth": 0.8,
            }
            axes.axvspan(*times_of(shown, [start, start + window - 1]), **pale)
        part = shown.samples[start : start + window]
        draw_curve(axes, shown, part, first=start, color=colour, linewidth=linewidth)


def draw_mark(
    above: Axes, below: Axes, shown: Recording, window: int, mark: Mark, heights: Array
) -> None:
    """Mark the windows of one pattern in the series and in the matrix profile.

    Parameters
    ----------
    above, below : Axes
        Of the series and of the matrix profile.
    shown : Recording
        The series.
    window : int
        In samples.
    mark : Mark
        What to mark.
    heights : ndarray of float64
        Where its windows are in the matrix profile: one value for each of ``mark.starts``,
        then one for each of ``mark.further``.
    """
    draw_windows(above, shown, window, dict.fromkeys(mark.further, mark.colour), linewidth=0.9)
    draw_windows(above, shown, window, dict.fromkeys(mark.starts, mark.colour))
    if mark.number:
        _draw_number(above, shown, mark.starts[0] + (window - 1) / 2, mark)
    style: dict[str, Any] = {
        "color": mark.colour,
        "linestyle": "",
        "marker": mark.marker,
        "clip_on": False,
    }
    pair = len(mark.starts)
    below.plot(times_of(shown, mark.starts), heights[:pair], label=_in_legend(mark), **style)
    if mark.further:
        hollow = {**style, "markersize": 4, "markerfacecolor": "white"}
        below.plot(times_of(shown, mark.further), heights[pair:], **hollow)


def _draw_number(above: Axes, shown: Recording, middle: float, mark: Mark) -> None:
    """Write the number of a mark at the top, below the numbers that are there already."""
    middle_s, reach_s = times_of(shown, [middle, middle + 0.015 * shown.samples.size])
    reach_s -= middle_s
    near = [text for text in above.texts if abs(text.get_position()[0] - middle_s) < reach_s]
    height = 0.94 - 0.07 * len(near)
    place = above.get_xaxis_transform()
    above.text(middle_s, height, mark.number, color=mark.colour, transform=place, ha="center")


def _in_legend(mark: Mark) -> str:
    more = f", {len(mark.further)} more" if mark.further else ""
    return f"{mark.name} ({mark.distance:.3g}{more})"


def draw_shapes(axes: Axes, shown: Recording, window: int, mark: Mark) -> None:
    """Lay the windows of one pattern over each other, z-normalised as the distance sees them."""
    clock = Recording(np.zeros(window), rate_hz=shown.rate_hz)

    def draw(start: int, **style: Any) -> None:
        draw_curve(axes, clock, z_scores(shown.samples[start : start + window]), **style)

    for start in mark.further:
        draw(start, color=mark.colour, alpha=0.4)
    for start, colour, dashes in zip(mark.starts, (mark.colour, "black"), "-:", strict=False):
        draw(start, color=colour, linestyle=dashes, linewidth=1.5)
    axes.set_title(mark.name, loc="left", color=mark.colour)
    axes.set_ylabel("z-score")
    # so that what is flat has a scale, too
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, -1), max(high, 1))
    bare(axes, shown)
