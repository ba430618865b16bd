"""The heat map: every cell where it belongs, and the series beside it in step."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from labkit.errors import SeriesError
from labkit.matrixprofile import Recording, recording
from labkit.matrixprofile.pictures.heatmaps import CELLS, NOTHING, heatmap
from tests.matrixprofile.seeing import cut_off, overlapping

PULSE = recording()
M = 100
WALK = np.cumsum(np.random.default_rng(0).normal(size=200_000)) * 1e7


def summary(height: int, width: int, *, upper: bool = False) -> np.ndarray:
    cells = np.random.default_rng(1).uniform(0.1, 0.9, (height, width))
    if upper:
        cells[np.tril_indices(height, -1, width)] = np.nan
    return cells


def parts(figure):
    left, above, center, bar = figure.axes
    return left, above, center, bar, center.images[0]


def shown(figure) -> np.ndarray:
    return np.ma.filled(parts(figure)[-1].get_array(), np.nan)


def test_cells_lie_where_their_windows_begin() -> None:
    cells = summary(20, 30)
    short = Recording(PULSE.samples[:1000], rate_hz=10.0, start_s=5.0)
    figure = heatmap(cells, short, PULSE, window=M)
    left, above, center, _, image = parts(figure)
    assert np.array_equal(shown(figure), cells)
    last_s = PULSE.times_s[-M] + 1 / PULSE.rate_hz
    assert image.get_extent() == pytest.approx([PULSE.start_s, last_s, 5 + 90.1, 5])
    assert (
        center.get_xlim()
        == above.get_xlim()
        == pytest.approx((PULSE.start_s, PULSE.times_s[-1] + 1 / PULSE.rate_hz))
    )
    assert center.get_ylim() == left.get_ylim() == pytest.approx((105, 5))
    assert above.lines[0].get_xdata() == pytest.approx(PULSE.times_s)
    assert left.lines[0].get_ydata() == pytest.approx(short.times_s)


@pytest.mark.parametrize(("n", "k", "ratio"), [(900, 900, 1), (900, 1200, 4 / 3), (300, 9000, 2.5)])
def test_samples_are_as_wide_as_high_and_the_sides_in_step(n: int, k: int, ratio: float) -> None:
    figure = heatmap(summary(9, 9), WALK[:n], WALK[:k], window=M)
    left, above, center, *_ = parts(figure)
    box = center.get_window_extent()
    assert box.width / box.height == pytest.approx(ratio)
    along, down = above.get_window_extent(), left.get_window_extent()
    assert (along.x0, along.x1) == pytest.approx((box.x0, box.x1))
    assert (down.y0, down.y1) == pytest.approx((box.y0, box.y1))


def test_axes_are_labelled_with_units() -> None:
    left, above, center, bar, _ = parts(heatmap(summary(9, 9), PULSE, window=M))
    assert above.get_title(loc="left") == "Pulse at a finger: Photoplethysmogram [a.u.]"
    assert left.get_ylabel() == center.get_xlabel() == "Time [s]"
    assert bar.get_ylabel() == "z-normalised distance (window: 0.855 s)"
    joined = heatmap(summary(9, 9), WALK[:500], PULSE, window=M, correlation=True)
    left, _, center, bar, _ = parts(joined)
    assert (left.get_ylabel(), center.get_xlabel()) == ("Value\nSample", "Time [s]")
    assert bar.get_ylabel() == "Pearson correlation (window: 100 samples)"


@pytest.mark.parametrize("correlation", [False, True])
def test_near_is_dark(correlation: bool) -> None:
    figure = heatmap([[0.1, 0.5, 0.9]], WALK[:500], window=M, correlation=correlation)
    image = parts(figure)[-1]
    bright = image.to_rgba(np.array([0.1, 0.5, 0.9]))[:, :3] @ [0.3, 0.6, 0.1]
    assert np.all(np.diff(bright) * (-1 if correlation else 1) > 0.1)


def test_what_has_no_match_is_grey_and_the_lower_triangle_empty() -> None:
    cells = summary(6, 6, upper=True)
    cells[1, 4] = np.inf
    figure = heatmap(cells, PULSE, window=M)
    image = parts(figure)[-1]
    assert image.get_alpha()[1, 4] == 1
    assert np.array_equal(image.get_alpha() == 0, np.tril(np.ones((6, 6)), -1) == 1)
    assert image.to_rgba(image.get_array())[1, 4, :3] == pytest.approx(to_rgb(NOTHING))
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["no match"]
    assert not heatmap(summary(6, 6, upper=True), PULSE, window=M).legends


@pytest.mark.parametrize("correlation", [False, True])
def test_a_mirror_image_fills_the_triangle(correlation: bool) -> None:
    cells = summary(6, 6, upper=True)
    cells[3, 1] = 0.05
    figure = heatmap(cells, PULSE, window=M, correlation=correlation, mirrored=True)
    drawn = shown(figure)
    expected = np.fmax(cells, cells.T) if correlation else np.fmin(cells, cells.T)
    assert np.array_equal(drawn, expected)
    assert drawn[1, 3] == drawn[3, 1] == (cells[1, 3] if correlation else 0.05)


@pytest.mark.parametrize("correlation", [False, True])
def test_no_match_is_lost_in_more_cells_than_pixels(correlation: bool) -> None:
    cells = np.full((700, 3000), np.nan)
    cells[:350] = 0.5
    cells[11, 2999], cells[300, 7] = (0.99, -0.9) if correlation else (0.01, 9.0)
    figure = heatmap(cells, WALK, WALK, window=M, correlation=correlation)
    drawn = shown(figure)
    assert drawn.shape == (CELLS, CELLS)
    assert drawn[11 * CELLS // 700, -1] == cells[11, 2999]
    assert np.nanmin(drawn) == (0.5 if correlation else 0.01)
    assert np.isnan(drawn[CELLS // 2 + 1 :]).all()


@pytest.mark.parametrize(
    "draw",
    [
        lambda: heatmap(summary(50, 50, upper=True), PULSE, window=M),
        lambda: heatmap(np.full((5, 5), np.nan), WALK, window=M),
        lambda: heatmap(np.full((5, 5), 2.0), WALK, WALK[:900], window=M, correlation=True),
        lambda: heatmap([[1.0]], [1, 2, 4], window=3),
        lambda: heatmap(
            summary(5, 5),
            Recording(WALK, title="Something that was recorded for a long time " * 3),
            Recording(WALK[:300], rate_hz=1e5, title="Recorded " * 15, unit="mV"),
            window=M,
        ),
    ],
)
def test_words_are_whole_and_clear_of_each_other(draw) -> None:
    figure = draw()
    assert not cut_off(figure)
    assert not overlapping(figure)


def test_it_shows_itself() -> None:
    assert heatmap(summary(9, 9), PULSE, window=M)._repr_png_().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: heatmap([1.0], [1, 2, 3], window=3), r"matrix has shape \(1,\); pass what a join"),
        (lambda: heatmap(np.empty((0, 3)), [1, 2, 3], window=3), r"shape \(0, 3\)"),
        (lambda: heatmap([[1.0]], [1, 2, 3], window=4), "window is 4, but the series has only 3"),
        (lambda: heatmap([[1.0]], [1, 2, 3], [["x"]], window=3), "b has 2 dimensions"),
        (
            lambda: heatmap([[1.0, 2.0]], [1, 2, 3], window=3, mirrored=True),
            r"shape \(1, 2\) and one series cannot be mirrored",
        ),
        (
            lambda: heatmap([[1.0]], [1, 2, 3], [1, 2, 3], window=3, mirrored=True),
            "two series cannot be mirrored",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_a_remedy(call, message: str) -> None:
    with pytest.raises(SeriesError, match=message):
        call()
