"""How a picture shows a chain: its links in colours that run on, its shapes in a stack."""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from labkit.matrixprofile.chaining import Chain
from labkit.matrixprofile.pictures.curves import LINE, bare, draw_curve, times_of, z_scores
from labkit.matrixprofile.pictures.marks import draw_windows
from labkit.matrixprofile.recordings import Recording

__all__ = ["colours", "draw_chain", "draw_stack", "handle", "name"]

# perceptually uniform, told apart with any colour vision; its yellow end is lost on white
COLOURS, DARKEST, LIGHTEST = "viridis", 0.0, 0.85

NUMBERED, STACKED = 16, 10


def colours(count: int) -> list[str]:
    """Give the links of a chain colours from dark to light.

    Examples
    --------
    >>> colours(2)
    ['#440154', '#9bd93c']
    """
    shades = matplotlib.colormaps[COLOURS](np.linspace(DARKEST, LIGHTEST, count))
    return [to_hex(shade) for shade in shades]


def draw_chain(above: Axes, track: Axes, shown: Recording, window: int, chain: Chain) -> None:
    """Mark the windows of a chain in the series, and string them on a track of their own.

    Parameters
    ----------
    above, track : Axes
        Of the series, and a low one that shares its time.
    shown : Recording
        The series.
    window : int
        In samples.
    chain : Chain
        What to draw.
    """
    shades = colours(len(chain))
    middles = times_of(shown, np.array(chain.starts) + (window - 1) / 2)
    track.plot(middles, np.zeros_like(middles), color=LINE, linewidth=1)
    track.scatter(middles, np.zeros_like(middles), c=shades, s=36, zorder=3, clip_on=False)
    for i in _some(len(chain), NUMBERED):
        place: dict[str, Any] = {"xytext": (0, 6), "textcoords": "offset points", "ha": "center"}
        track.annotate(str(i + 1), (middles[i], 0), fontsize="small", **place)
    draw_windows(above, shown, window, dict(zip(chain, shades, strict=True)))
    track.set_ylim(-1, 2)
    track.set_yticks([0], ["Chain"])
    track.tick_params(left=False, bottom=False, labelbottom=False)
    track.spines[:].set_visible(False)


def draw_stack(axes: Axes, shown: Recording, window: int, chain: Chain) -> None:
    """Stack the shapes of a chain, the first on top, z-normalised as the distance sees them."""
    shades = colours(len(chain))
    drawn = _some(len(chain), STACKED)
    shapes = [z_scores(shown.samples[s : s + window]) for s in np.array(chain.starts)[drawn]]
    apart = max(1.0, 0.7 * max(float(np.ptp(shape)) for shape in shapes))
    clock = Recording(np.zeros(window), rate_hz=shown.rate_hz)
    levels = -apart * np.arange(len(drawn))
    for i, shape, level in zip(drawn, shapes, levels, strict=True):
        draw_curve(axes, clock, shape + level, color=shades[i], linewidth=1.5)
    axes.set_title(name(chain), loc="left")
    axes.set_yticks(levels, [str(i + 1) for i in drawn])
    axes.set_ylabel("Link, z-normalised")
    axes.tick_params(left=False)
    bare(axes, shown)
    axes.spines["left"].set_visible(False)


def name(chain: Chain) -> str:
    """Name a chain by its length.

    Examples
    --------
    >>> name(Chain((3, 8)))
    'Chain of 2'
    """
    return f"Chain of {len(chain)}"


def handle(chain: Chain) -> tuple[Line2D, ...]:
    """Give what stands for a chain in a legend: its first, middle and last colour."""
    shades = colours(len(chain))
    few = [shades[0], shades[len(shades) // 2], shades[-1]]
    return tuple(Line2D([], [], color=shade, marker="o", linestyle="") for shade in few)


def _some(count: int, most: int) -> NDArray[np.int64]:
    """Choose evenly among count links, with the first and the last."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))
