"""What colours mean in a picture: groups of outcomes, and their legend."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labkit.errors import ParameterError
from labkit.notebook.plotdata import Axis, Selection, is_wide

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["MANY", "Group", "explain", "groups_of", "number_text", "short"]

# M. A. Petroff: Accessible Color Sequences for Data Visualization, 2021: of six and of ten.
_SIX = ("#5790fc", "#f89c20", "#e42536", "#964a8b", "#9c9ca1", "#7a21dd")
_TEN = (
    "#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6",
    "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd",
)  # fmt: skip
_MARKERS = "osD^vP*X<>"

_MAP = "viridis"
#: The light end of the map is hard to see on white.
_MAP_END = 0.92

#: So many colours can be told apart.
MANY = 10

#: Characters of a name.
_LONGEST = 28


@dataclass(frozen=True, slots=True)
class Group:
    """The outcomes of one colour; or of all colours, when hardly two share one."""

    label: str
    """The value of hue."""
    colour: Any
    """Of the group, or of each outcome."""
    marker: str
    """The shape of its points."""
    frame: pd.DataFrame
    """Its outcomes."""


def groups_of(shown: Selection) -> list[Group]:
    """Return the outcomes by colour.

    Categories have colours that differ, numbers have colours in their order.

    Raises
    ------
    ParameterError
        When there are too many categories to tell their colours apart.
    """
    frame = shown.frame
    if shown.hue is None:
        return [Group("", _SIX[0], "o", frame)]
    values = sorted(frame["hue"].unique())
    if len(values) > MANY and shown.hue.kind == "category":
        raise ParameterError(
            f"{shown.hue.name} has {len(values)} values, too many for colours that one can tell "
            f"apart: show a column of numbers, or of up to {MANY} values"
        )
    if len(values) > max(MANY, len(frame) / 2):
        return [Group("", _on_scale(frame["hue"], values), "o", frame)]
    colours = _colours(shown.hue, values)
    markers = _MARKERS if len(values) <= MANY else "o" * len(values)
    return [
        Group(number_text(value), colour, marker, frame[frame["hue"] == value])
        for value, colour, marker in zip(values, colours, markers, strict=False)
    ]


def _colours(hue: Axis, values: list[Any]) -> Any:
    if hue.kind != "category":
        return _on_scale(values, values)
    return _SIX if len(values) <= len(_SIX) else _TEN


def _on_scale(values: Any, all_values: list[Any]) -> Any:
    import matplotlib as mpl

    return mpl.colormaps[_MAP](_MAP_END * _norm(all_values)(_numbers(values)))


def _numbers(values: Any) -> Any:
    import matplotlib.dates as mdates
    import numpy as np

    if hasattr(next(iter(values)), "year"):
        return mdates.date2num(values)
    return np.asarray(values, dtype=np.float64)


def _norm(values: list[Any]) -> Any:
    from matplotlib.colors import LogNorm, Normalize

    numbers = _numbers(values)
    return (LogNorm if is_wide(numbers) else Normalize)(numbers.min(), numbers.max())


def explain(figure: Figure, axes: Axes, shown: Selection, groups: list[Group]) -> None:
    """Add a legend, or a colour bar, if colours mean something."""
    from matplotlib.lines import Line2D

    if shown.hue is None:
        return
    values = sorted(shown.frame["hue"].unique())
    if len(values) > MANY:
        _add_bar(figure, axes, shown.hue, values)
        return
    handles = [
        Line2D([], [], color=g.colour, marker=g.marker, linestyle="-", label=short(g.label))
        for g in groups
    ]
    title = shown.hue.label
    figure.legend(handles=handles, title=title, loc="outside right upper", alignment="left")


def _add_bar(figure: Figure, axes: Axes, hue: Axis, values: list[Any]) -> None:
    import matplotlib as mpl
    import matplotlib.dates as mdates
    import numpy as np

    shades = mpl.colormaps[_MAP](np.linspace(0, _MAP_END, 256))
    mappable = mpl.cm.ScalarMappable(_norm(values), mpl.colors.ListedColormap(shades))
    bar = figure.colorbar(mappable, ax=axes, label=hue.label, aspect=30, pad=0.02)
    bar.outline.set_visible(False)
    if hue.kind == "date":
        locator = mdates.AutoDateLocator()
        bar.ax.yaxis.set_major_locator(locator)
        bar.ax.yaxis.set_major_formatter(mdates.ConciseDateFormatter(locator))


def short(text: str) -> str:
    """Return a name of bearable length.

    Examples
    --------
    >>> short("nearest neighbours of all segments")
    'nearest neighbours of all s…'
    """
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def number_text(value: Any) -> str:
    """Return a value as it stands at a tick or in a legend.

    Examples
    --------
    >>> number_text(50.0), number_text(0.1 + 0.2), number_text("stomp")
    ('50', '0.3', 'stomp')
    """
    return f"{value:.6g}" if isinstance(value, float) else str(value)
