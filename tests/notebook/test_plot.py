"""Pictures show what is there, say what they show, and refuse what they cannot."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import labkit
from labkit import Experiment, LabNotebook, Parameter, SQLiteLabNotebook
from labkit.errors import (
    NotebookError,
    ParameterError,
    UnknownParameterError,
    UnknownResultSetError,
)
from labkit.notebook import plotdata
from labkit.notebook.plot import plot

Rows = list[tuple[dict[str, Any], dict[str, Any]]]


def notebook_of(rows: Rows, failed: int = 0, **attributes: Any) -> LabNotebook:
    """Return a notebook with these points and their results."""
    notebook = LabNotebook()
    rs = notebook.addResultSet("walks")
    for name, value in attributes.items():
        rs[f"labkit.{name}"] = value
    for minute, (parameters, results) in enumerate(rows):
        metadata = {
            Experiment.STATUS: True,
            Experiment.EXPERIMENT: "walks.Walk",
            Experiment.START_TIME: datetime(2026, 1, 2, 3, minute % 60),
            Experiment.ELAPSED_TIME: 0.5 + minute,
        }
        notebook.addResult({"parameters": parameters, "results": results, "metadata": metadata})
    for _ in range(failed):
        metadata = {Experiment.STATUS: False}
        notebook.addResult({"parameters": rows[0][0], "results": {}, "metadata": metadata})
    return notebook


def curve(*xs: Any) -> LabNotebook:
    return notebook_of([({"x": x}, {"y": float(i + 1)}) for i, x in enumerate(xs)])


def drawn(notebook: LabNotebook, *names: str) -> tuple[Figure, Axes]:
    """Draw a picture in full, as saving it does."""
    figure = plot(notebook, *names)
    figure.draw_without_rendering()
    return figure, figure.axes[0]


def caption(figure: Figure) -> str:
    return figure.get_supxlabel().replace("\n", " ")


def points(axes: Axes) -> list[tuple[float, float]]:
    return [tuple(p) for c in axes.collections for p in c.get_offsets().tolist()]


# ---------- single outcomes ----------


def test_a_sweep_is_points_on_a_line() -> None:
    figure, axes = drawn(curve(30, 10, 20), "x", "y")
    assert sorted(points(axes)) == [(10, 2), (20, 3), (30, 1)]
    (line,) = axes.lines
    assert line.get_xydata().tolist() == [[10, 2], [20, 3], [30, 1]]
    assert caption(figure) == "3 outcomes"


def test_a_picture_is_a_file(tmp_path: Path) -> None:
    figure = plot(curve(1, 2, 3), "x", "y")
    figure.savefig(tmp_path / "walk.png")
    figure.savefig(tmp_path / "walk.svg")
    from PIL import Image

    with Image.open(tmp_path / "walk.png") as image:
        assert image.size == (1280, 880)
    assert figure.dpi == 2 * mpl.rcParamsDefault["figure.dpi"]


def test_drawing_leaves_nothing_behind() -> None:
    before = dict(mpl.rcParams)
    pyplot_was_there = "matplotlib.pyplot" in sys.modules
    drawn(curve(1, 2), "x", "y")
    assert dict(mpl.rcParams) == before
    assert ("matplotlib.pyplot" in sys.modules) == pyplot_was_there


def test_points_of_other_parameters_are_not_joined() -> None:
    rows: Rows = [({"x": i, "a": i % 3}, {"y": i}) for i in range(10)]
    _, axes = drawn(notebook_of(rows), "x", "y")
    assert not axes.lines


def test_results_and_metadata_can_be_shown() -> None:
    rows: Rows = [({"a": i}, {"x": i, "y": i}) for i in range(3)]
    _, axes = drawn(notebook_of(rows), "x", "y")
    assert len(points(axes)) == 3
    _, axes = drawn(notebook_of(rows), Experiment.START_TIME, Experiment.ELAPSED_TIME)
    assert axes.get_xlabel() == "start time"
    assert axes.get_ylabel() == "elapsed time [s]"
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert any(label.startswith("03:0") for label in labels)


def test_what_failed_or_has_no_value_is_counted_not_shown() -> None:
    rows: Rows = [
        ({"x": 1}, {"y": 1.0}),
        ({"x": 2}, {"y": float("nan")}),
        ({"x": 3}, {"y": float("inf")}),
        ({"x": 4}, {}),
        ({"x": 5}, {"y": 5.0}),
    ]
    figure, axes = drawn(notebook_of(rows, failed=2), "x", "y")
    assert sorted(points(axes)) == [(1, 1), (5, 5)]
    assert caption(figure) == "2 outcomes, 2 failed, 3 without a finite value"


def test_of_an_experiment_the_newest_version_is_shown(tmp_path: Path) -> None:
    class Walk(Experiment):
        x = Parameter([1, 2, 3])

        def do(self, params: dict[str, Any]) -> dict[str, Any]:
            return {"y": params["x"] * float(type(self).version)}

    with SQLiteLabNotebook(tmp_path / "walks.db").open() as notebook:
        lab = labkit.Lab(notebook)
        for Walk.version in (1, 10):
            lab.runExperiment(Walk())
        figure, axes = drawn(notebook, "x", "y")
        assert sorted(axes.lines[0].get_ydata()) == [10, 20, 30]
        assert any("3 of an older version" in text.get_text() for text in figure.texts)
        both, _ = drawn(notebook, "labkit.experiment_version", "y")
        assert both is not None


def test_from_a_notebook_on_disk(tmp_path: Path) -> None:
    class Square(Experiment):
        """Areas."""

        side = Parameter([1, 2, 3], unit="m", doc="length of an edge")

        def do(self, params: dict[str, Any]) -> dict[str, Any]:
            return {"area": params["side"] ** 2}

    with SQLiteLabNotebook(tmp_path / "squares.db").open() as notebook:
        labkit.Lab(notebook).runExperiment(Square())
        figure, axes = drawn(notebook, "side", "area")
    assert axes.get_xlabel() == "side [m]\nlength of an edge"
    assert axes.get_ylabel() == "area"
    assert figure.get_suptitle() == "Square"
    assert sorted(points(axes)) == [(1, 1), (2, 4), (3, 9)]


# ---------- repeated outcomes ----------


def repeated(n: int, xs: Any = (1, 2, 3)) -> LabNotebook:
    """Return n outcomes at each x: x, x + 1, …"""
    return notebook_of([({"x": x}, {"y": float(x + i)}) for x in xs for i in range(n)])


def test_few_repetitions_have_mean_and_extremes() -> None:
    figure, axes = drawn(repeated(3), "x", "y")
    faint, mean = axes.lines
    assert len(faint.get_xydata()) == 9
    assert mean.get_xydata().tolist() == [[1, 2], [2, 3], [3, 4]]
    (band,) = axes.collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (1, 5)
    assert caption(figure) == "line: mean; band: smallest to largest · 9 outcomes"


def test_many_repetitions_have_an_interval_of_the_mean() -> None:
    figure, _ = drawn(repeated(10), "x", "y")
    assert "band: its 95 % confidence interval · 30 outcomes" in caption(figure)
    found = plotdata.summary([0] * 10, np.arange(10.0), is_log=False, has_interval=True)
    # 4.5 ± t(0.975, 9) · s / √10
    assert found.middle.tolist() == [4.5]
    assert found.high - found.middle == pytest.approx(2.2621572 * 3.0276504 / np.sqrt(10))
    assert found.middle - found.low == pytest.approx(found.high - found.middle)


def test_a_mean_says_over_what() -> None:
    rows: Rows = [({"x": x, "segment": s, "k": 1}, {"y": x * s}) for x in (1, 2) for s in range(3)]
    figure, _ = drawn(notebook_of(rows), "x", "y")
    assert caption(figure).startswith("line: mean over segment; band")
    wide: Rows = [({"x": i % 2, **{f"p{k}": i for k in range(6)}}, {"y": i}) for i in range(8)]
    figure, _ = drawn(notebook_of(wide), "x", "y")
    assert "over p0, p1, p2 and 3 more" in caption(figure)


def test_on_a_logarithmic_axis_the_mean_is_geometric() -> None:
    rows: Rows = [({"x": x}, {"y": 10.0**x * f}) for x in range(6) for f in (0.1, 10)]
    figure, axes = drawn(notebook_of(rows), "x", "y")
    assert axes.get_yscale() == "log"
    assert axes.lines[1].get_ydata() == pytest.approx([10.0**x for x in range(6)])
    assert "geometric mean" in caption(figure)


def test_true_and_false_are_a_fraction() -> None:
    rows: Rows = [({"x": x}, {"ok": i < x}) for x in (1, 2) for i in range(4)]
    _, axes = drawn(notebook_of(rows), "x", "ok")
    assert axes.lines[1].get_ydata().tolist() == [0.25, 0.5]


# ---------- axes ----------


def test_wide_ranges_are_logarithmic() -> None:
    _, axes = drawn(curve(1, 10, 100, 1000), "x", "y")
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "linear")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 1000], True),
        ([1, 99], False),
        ([0, 1000], False),
        ([-1, 1000], False),
        ([5], False),
        (np.geomspace(1, 300, 10), True),
        # close to zero by chance
        (np.linspace(0.0001, 1, 200), False),
    ],
)
def test_wide(values: Any, expected: bool) -> None:
    assert plotdata.is_wide(values) is expected


def test_few_values_of_x_are_the_ticks() -> None:
    _, axes = drawn(curve(50, 100, 200), "x", "y")
    assert [label.get_text() for label in axes.get_xticklabels()] == ["50", "100", "200"]
    # these would lie on each other
    _, axes = drawn(curve(1, 2, 3, 99), "x", "y")
    assert [label.get_text() for label in axes.get_xticklabels()] != ["1", "2", "3", "99"]


def test_categories_have_places() -> None:
    rows: Rows = [({"m": m}, {"y": i}) for m in ("stomp", "scamp") for i in range(3)]
    figure, axes = drawn(notebook_of(rows), "m", "y")
    assert [label.get_text() for label in axes.get_xticklabels()] == ["scamp", "stomp"]
    assert axes.get_xlim() == (-0.5, 1.5)
    assert caption(figure).startswith("marker: mean; bar: smallest to largest")
    _, axes = drawn(notebook_of([({"m": m}, {"y": 1}) for m in (True, False)]), "m", "y")
    assert [label.get_text() for label in axes.get_xticklabels()] == ["False", "True"]


def test_names_of_categories_do_not_overlap() -> None:
    names = ["nearest neighbour", "matrix profile", "random forest", "autoencoder"]
    _, axes = drawn(notebook_of([({"m": m}, {"y": 1}) for m in names]), "m", "y")
    assert "nearest\nneighbour" in [label.get_text() for label in axes.get_xticklabels()]
    names = [f"an algorithm with the number {i} and more" for i in range(12)]
    _, axes = drawn(notebook_of([({"m": m}, {"y": 1}) for m in names]), "m", "y")
    assert {label.get_rotation() for label in axes.get_xticklabels()} == {35}
    assert {len(label.get_text()) for label in axes.get_xticklabels()} == {28}


def test_titles() -> None:
    notebook = curve(1, 2)
    figure, axes = drawn(notebook, "x", "y")
    assert figure.get_suptitle() == "Walk"
    assert axes.get_title(loc="left") == ""
    notebook.setDescription("all walks")
    assert drawn(notebook, "x", "y")[1].get_title(loc="left") == "all walks"
    notebook.current().setDescription("to and fro")
    assert drawn(notebook, "x", "y")[1].get_title(loc="left") == "to and fro"


def test_another_result_set() -> None:
    notebook = curve(1, 2)
    notebook.addResultSet("empty")
    figure = plot(notebook, "x", "y", tag="walks")
    assert len(points(figure.axes[0])) == 2


def test_units_that_are_no_dict_are_no_units() -> None:
    """In a notebook that epyc has written, they are text."""
    notebook = notebook_of([({"x": 1}, {"y": 1})], units="{'x': 'm'}")
    assert drawn(notebook, "x", "y")[1].get_xlabel() == "x"


# ---------- colours ----------


def hued(hues: Any, n: int = 4) -> LabNotebook:
    return notebook_of(
        [({"x": x, "h": h}, {"y": x * (i + 1)}) for i, h in enumerate(hues) for x in range(n)],
        units={"h": "Hz"},
    )


@pytest.mark.parametrize("n", [2, 6, 7, 10])
def test_up_to_ten_values_have_a_colour_and_a_marker_each(n: int) -> None:
    figure, axes = drawn(hued([f"h{i}" for i in range(n)]), "x", "y", "h")
    (legend,) = figure.legends
    assert legend.get_title().get_text() == "h [Hz]"
    assert [t.get_text() for t in legend.get_texts()] == [f"h{i}" for i in range(n)]
    assert len({line.get_color() for line in axes.lines}) == n
    assert len({handle.get_marker() for handle in legend.legend_handles}) == n


def test_numbers_have_colours_in_their_order() -> None:
    figure, axes = drawn(hued([100, 9, 10]), "x", "y", "h")
    texts = [t.get_text() for t in figure.legends[0].get_texts()]
    assert texts == ["9", "10", "100"]
    lightness = [
        0.2 * c[0] + 0.7 * c[1] + 0.1 * c[2] for c in (ln.get_color() for ln in axes.lines)
    ]
    assert lightness == sorted(lightness)


@pytest.mark.parametrize("repeats", [1, 3])
def test_many_numbers_have_a_colour_bar(repeats: int) -> None:
    figure, axes = drawn(hued([h for h in range(20) for _ in range(repeats)]), "x", "y", "h")
    assert not figure.legends
    assert figure.axes[1].get_ylabel() == "h [Hz]"
    assert len(axes.lines) == (20 if repeats == 1 else 40)


def test_outcomes_that_share_no_colour_are_a_scatter() -> None:
    random = np.random.default_rng(0).random((300, 2)).tolist()
    notebook = notebook_of([({"a": a, "b": b}, {"y": a + b}) for a, b in random])
    figure, axes = drawn(notebook, "a", "y", "b")
    (scatter,) = axes.collections
    assert len(scatter.get_facecolors()) == 300
    assert len(figure.axes) == 2
    # each has the colour of its own number
    order = np.argsort([b for _, b in random])
    greens = scatter.get_facecolors()[order][:, 1]
    assert np.all(np.diff(greens) >= 0)


def test_a_wide_range_of_colours_is_logarithmic() -> None:
    figure, _ = drawn(hued(np.geomspace(1, 1e6, 15).tolist()), "x", "y", "h")
    assert figure.axes[1].get_yscale() == "log"


def test_dates_can_be_colours() -> None:
    figure, _ = drawn(curve(*range(20)), "x", "y", Experiment.START_TIME)
    labels = [label.get_text() for label in figure.axes[1].get_yticklabels()]
    assert any(label.startswith("03:") for label in labels)


def test_categories_stand_side_by_side() -> None:
    rows: Rows = [({"m": m, "h": h}, {"y": 1}) for m in "ab" for h in ("u", "v")]
    _, axes = drawn(notebook_of(rows), "m", "y", "h")
    xs = sorted(x for x, _ in points(axes))
    assert xs == pytest.approx([-0.15, 0.15, 0.85, 1.15])


# ---------- what cannot be shown ----------


def test_unknown_names_are_errors_that_name_the_known() -> None:
    notebook = notebook_of([({"window": 1}, {"distance": 1})])
    with pytest.raises(UnknownParameterError, match="no parameter, result or metadata wndow"):
        plot(notebook, "wndow", "distance")
    with pytest.raises(UnknownParameterError, match="did you mean distance"):
        plot(notebook, "window", "distence")
    with pytest.raises(UnknownParameterError, match="Known: distance"):
        plot(notebook, "window", "distance", "colour")
    with pytest.raises(UnknownResultSetError, match="did you mean walks"):
        plot(notebook, "window", "distance", tag="walk")


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (np.arange(3), "y holds a ndarray at each point: return one number"),
        ([1, 2], "y holds a list"),
        ({"a": 1}, "y holds a dict"),
        (1j, "complex"),
        ("text", "y holds no numbers"),
        (datetime(2026, 1, 1), "y holds no numbers"),
    ],
)
def test_what_is_no_number_is_refused(value: Any, why: str) -> None:
    notebook = notebook_of([({"x": 1}, {"y": value}), ({"x": 2}, {"y": value})])
    with pytest.raises(ParameterError, match=why):
        plot(notebook, "x", "y")


def test_arrays_are_refused_as_x_and_hue_too() -> None:
    notebook = notebook_of([({"x": 1, "l": [1, 2]}, {"y": 1})])
    with pytest.raises(ParameterError, match="l holds a list"):
        plot(notebook, "l", "y")
    with pytest.raises(ParameterError, match="l holds a list"):
        plot(notebook, "x", "y", "l")


def test_too_many_colours_are_refused() -> None:
    with pytest.raises(ParameterError, match="h has 11 values, too many"):
        plot(hued([f"h{i}" for i in range(11)]), "x", "y", "h")


def test_nothing_to_show() -> None:
    notebook = notebook_of([({"x": 1}, {"y": 1})])
    notebook.addResultSet("failed")
    with pytest.raises(UnknownParameterError):
        plot(notebook, "x", "y")
    metadata = {Experiment.STATUS: False}
    notebook.addResult({"parameters": {"x": 1}, "results": {"y": 1}, "metadata": metadata})
    with pytest.raises(NotebookError, match="failed has no successful outcome"):
        plot(notebook, "x", "y")
    notebook.addResultSet("nan")
    metadata = {Experiment.STATUS: True, Experiment.EXPERIMENT: "a.B"}
    nothing = {"y": float("nan")}
    notebook.addResult({"parameters": {"x": 1}, "results": nothing, "metadata": metadata})
    with pytest.raises(NotebookError, match="no outcome in result set nan has both x and y"):
        plot(notebook, "x", "y")


def test_one_outcome_is_a_picture() -> None:
    figure, axes = drawn(curve(1), "x", "y")
    assert points(axes) == [(1, 1)]
    assert caption(figure) == "1 outcome"
