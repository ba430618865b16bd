"""A picture of a result set: one of its columns against another."""

from __future__ import annotations

import math
import textwrap
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from labkit.notebook.labnotebook import LabNotebook
from labkit.notebook.plotcolours import MANY, Group, explain, groups_of, number_text, short
from labkit.notebook.plotdata import Axis, Selection, has_interval, is_wide, select, summary

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot"]

_INK, _PALE = "#222222", "#666666"
#: Characters below an axis, and in a line of the caption; names in a list.
_ROOM_FOR_NAMES, _CAPTION_WIDTH, _FEW_NAMES = 62, 110, 3
#: How far outcomes stand aside from the bar that sums them up, in categories.
_BESIDE = 0.07
_STYLE: Any = {
    "font.size": 11,
    "axes.labelsize": 12,
    "axes.edgecolor": _PALE,
    "axes.labelcolor": _INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "text.color": _INK,
}


def plot(
    notebook: LabNotebook, x: str, y: str, hue: str | None = None, tag: str | None = None
) -> Figure:
    """Draw a result, or a metadata element, against a parameter.

    Outcomes that share an x are points around their mean, with its spread; a line below
    the picture says which. An axis whose values span more than two decades is logarithmic.
    Failed outcomes are not shown, but counted.

    Parameters
    ----------
    notebook : LabNotebook
        Any notebook.
    x, y : str
        Parameters, results or metadata elements; y is a number.
    hue : str, optional
        What the colour means: up to ten values, or numbers.
    tag : str, optional
        The result set; by default the current one.

    Returns
    -------
    matplotlib.figure.Figure
        Save it with ``savefig``; Jupyter shows it.

    Raises
    ------
    UnknownParameterError, UnknownResultSetError
        When there is nothing of that name; the known names are listed.
    ParameterError
        When a column cannot be shown: one of arrays, say.
    NotebookError
        When there is no outcome to show.

    Examples
    --------
    >>> from labkit import Experiment, Lab
    >>> class Square(Experiment):
    ...     def do(self, params):
    ...         return {"area": params["side"] ** 2}
    >>> lab = Lab()
    >>> lab["side"] = range(1, 6)
    >>> lab.runExperiment(Square())
    >>> plot(lab.notebook(), "side", "area").axes[0].get_ylabel()
    'area'
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    shown = select(notebook, x, y, hue, tag)
    groups = groups_of(shown)
    with mpl.rc_context(_STYLE):
        layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.06)
        figure = Figure(figsize=(6.4, 4.4), dpi=200, layout=layout)
        axes = figure.add_subplot()
        # ticks are made when the figure is drawn: not in this style any more
        axes.tick_params(which="both", color=_PALE, labelcolor=_INK, labelsize=11)
        _set_scales(axes, shown)
        notes = _draw(axes, shown, groups)
        _label(axes, shown)
        explain(figure, axes, shown, groups)
        _write_around(figure, axes, _titles(notebook, tag, shown), notes + _counts(shown))
    return figure


# ---------- outcomes ----------


def _set_scales(axes: Axes, shown: Selection) -> None:
    if shown.x.kind == "number" and is_wide(shown.frame["x"]):
        axes.set_xscale("log")
    if is_wide(shown.frame["y"]):
        axes.set_yscale("log")


def _draw(axes: Axes, shown: Selection, groups: list[Group]) -> list[str]:
    """Draw all groups, and return what has to be said about them."""
    counts = [n for g in groups for n in g.frame.groupby("x").size()]
    is_repeated = sum(n > 1 for n in counts) > len(counts) / 2
    with_interval = has_interval(counts)
    places = _places(shown)
    for i, group in enumerate(groups):
        shift = _shift(i, len(groups)) if places else 0.0
        if is_repeated:
            _draw_repeated(axes, group, places, shift, with_interval)
        else:
            _draw_single(axes, shown, group, places, shift)
    if places:
        _name_places(axes, list(places))
    return [_spread(axes, shown, with_interval)] if is_repeated else []


def _places(shown: Selection) -> dict[str, int]:
    """Return where each category stands; numbers stand where they are."""
    if shown.x.kind != "category":
        return {}
    return {value: i for i, value in enumerate(sorted(shown.frame["x"].unique()))}


def _name_places(axes: Axes, names: list[str]) -> None:
    width = max(_ROOM_FOR_NAMES // len(names) - 2, 1)
    wrapped = [textwrap.fill(short(name), width, break_long_words=False) for name in names]
    fits = all(len(line) <= width for name in wrapped for line in name.splitlines())
    axes.set_xticks(range(len(names)), wrapped if fits else [short(name) for name in names])
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.grid(axis="x", visible=False)
    if not fits:
        axes.tick_params(axis="x", labelrotation=35)
        for label in axes.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")


def _shift(i: int, n: int) -> float:
    """Return how far groups stand aside from their category, so that they do not overlap."""
    return 0.6 * (i - (n - 1) / 2) / n


def _at(values: Any, places: dict[str, int], shift: float) -> np.ndarray[Any, Any]:
    import numpy as np

    if not places:
        return np.asarray(values)
    return np.array([places[value] for value in values]) + shift


def _draw_repeated(
    axes: Axes, group: Group, places: dict[str, int], shift: float, with_interval: bool
) -> None:
    frame = group.frame
    found = summary(frame["x"], frame["y"], axes.get_yscale() == "log", with_interval)
    x = _at(found.x, places, shift)
    beside = shift + _BESIDE if places else 0.0
    axes.plot(
        _at(frame["x"], places, beside), frame["y"], group.marker, color=group.colour,
        markersize=4, markeredgewidth=0, alpha=0.35, zorder=2,
    )  # fmt: skip
    if places:
        ends = [found.middle - found.low, found.high - found.middle]
        axes.errorbar(
            x, found.middle, ends, fmt=group.marker, color=group.colour,
            markersize=7, capsize=4, linewidth=1.8, zorder=3,
        )  # fmt: skip
        return
    axes.fill_between(x, found.low, found.high, color=group.colour, alpha=0.18, linewidth=0)
    axes.plot(
        x, found.middle, "-", marker=group.marker, color=group.colour,
        linewidth=1.8, markersize=5, zorder=3,
    )  # fmt: skip


def _draw_single(
    axes: Axes, shown: Selection, group: Group, places: dict[str, int], shift: float
) -> None:
    frame = group.frame
    x = _at(frame["x"], places, shift)
    # a line would join points that other parameters set apart
    is_curve = not places and not shown.varying and not frame["x"].duplicated().any()
    if is_curve and _is_one(group.colour):
        line = frame.sort_values("x")
        axes.plot(line["x"], line["y"], "-", color=group.colour, linewidth=1.2, zorder=2)
    axes.scatter(
        x, frame["y"], c=[group.colour] if _is_one(group.colour) else group.colour,
        s=_marker_size(len(shown.frame)) ** 2, marker=group.marker,
        edgecolors="white", linewidths=0.4, zorder=3,
    )  # fmt: skip


def _is_one(colour: Any) -> bool:
    import numpy as np

    return isinstance(colour, str) or np.ndim(colour) == 1


def _marker_size(n: int) -> float:
    return 6.5 if n <= 100 else max(2.0, 6.5 * (100 / n) ** 0.35)


# ---------- words ----------


def _spread(axes: Axes, shown: Selection, with_interval: bool) -> str:
    mean = "geometric mean" if axes.get_yscale() == "log" else "mean"
    over = f" over {_listed(shown.varying)}" if shown.varying else ""
    mark = "bar" if shown.x.kind == "category" else "band"
    spread = "its 95 % confidence interval" if with_interval else "smallest to largest"
    what = "marker" if shown.x.kind == "category" else "line"
    return f"{what}: {mean}{over}; {mark}: {spread}"


def _listed(names: list[str]) -> str:
    if len(names) <= _FEW_NAMES:
        return ", ".join(names)
    return f"{', '.join(names[:_FEW_NAMES])} and {len(names) - _FEW_NAMES} more"


def _counts(shown: Selection) -> list[str]:
    n = len(shown.frame)
    notes = [f"{n} outcome{'s' if n != 1 else ''}"]
    if shown.older:
        notes.append(f"{shown.older} of an older version")
    if shown.failed:
        notes.append(f"{shown.failed} failed")
    if shown.dropped:
        notes.append(f"{shown.dropped} without a finite value")
    return [", ".join(notes)]


def _label(axes: Axes, shown: Selection) -> None:
    axes.set_xlabel(_with_doc(shown.x))
    axes.set_ylabel(_with_doc(shown.y))
    if shown.x.kind == "number":
        _mark_few(axes, shown)
    elif shown.x.kind == "date":
        _mark_dates(axes)


def _with_doc(axis: Axis) -> str:
    return f"{axis.label}\n{axis.doc}" if axis.doc else axis.label


def _mark_few(axes: Axes, shown: Selection) -> None:
    """Put ticks at the values of x themselves, when there are few and they stand apart."""
    from matplotlib.ticker import NullLocator

    values = sorted(shown.frame["x"].unique())
    is_log = axes.get_xscale() == "log"
    on_axis = [math.log(v) for v in values] if is_log else values
    gaps = [b - a for a, b in pairwise(on_axis)]
    if gaps and len(values) <= MANY and min(gaps) >= 0.07 * (on_axis[-1] - on_axis[0]):
        axes.set_xticks(values, [number_text(v) for v in values])
        axes.xaxis.set_minor_locator(NullLocator())


def _mark_dates(axes: Axes) -> None:
    import matplotlib.dates as mdates

    locator = mdates.AutoDateLocator()
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(mdates.ConciseDateFormatter(locator))


def _write_around(figure: Figure, axes: Axes, titles: tuple[str, str], notes: list[str]) -> None:
    title, about = titles
    if title:
        figure.suptitle(title, x=0.012, ha="left", fontsize=14, fontweight="bold")
    if about:
        axes.set_title(about, loc="left", fontsize=10, color=_PALE)
    below = textwrap.fill(" · ".join(notes), _CAPTION_WIDTH)
    figure.supxlabel(below, x=0.012, ha="left", fontsize=8.5, color=_PALE)


def _titles(notebook: LabNotebook, tag: str | None, shown: Selection) -> tuple[str, str]:
    """Return the experiment's name, and what the result set says of itself."""
    rs = notebook.current() if tag is None else notebook.resultSet(tag)
    described = (rs.description(), notebook.description())
    about = next((d for d in described if not d.startswith(_SAYS_NOTHING)), "")
    return ", ".join(shown.experiments), about


#: How descriptions begin that nobody wrote.
_SAYS_NOTHING = ("Results collected on ", "A notebook")
