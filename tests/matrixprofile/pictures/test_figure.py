"""The picture: what is on it, and that it leaves nothing behind."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib import rc_context
from matplotlib.colors import same_color, to_rgb

from labkit.errors import SeriesError
from labkit.matrixprofile import (
    Discord,
    Motif,
    Recording,
    discords,
    motifs,
    plot,
    recording,
    selfjoin,
)
from labkit.matrixprofile.chaining import Chain
from labkit.matrixprofile.pictures.links import colours
from labkit.matrixprofile.pictures.marks import DISCORD, MOTIFS
from tests.matrixprofile.seeing import cut_off, overlapping

PULSE = recording()
WINDOW = 100
DISTANCE, INDEX = selfjoin(PULSE.samples, WINDOW)
ODD = discords(DISTANCE, WINDOW)
PAIRS = motifs(DISTANCE, INDEX, WINDOW)


@pytest.fixture(scope="module")
def figure():
    return plot(PULSE, DISTANCE, WINDOW, discords=ODD, motifs=PAIRS)


def lines_of(axes, colour: str):
    return [line for line in axes.lines if same_color(line.get_color(), colour)]


def test_axes_are_labelled_with_units(figure) -> None:
    above, below, odd, pair = figure.axes
    assert above.get_title(loc="left") == "Pulse at a finger"
    assert above.get_ylabel() == "Photoplethysmogram [a.u.]"
    assert below.get_ylabel() == "Distance to the nearest\nother window (0.855 s)"
    assert below.get_xlabel() == "Time [s]"
    assert (odd.get_title(loc="left"), pair.get_title(loc="left")) == ("Discord 1", "Motif 1")
    assert pair.get_xlabel() == "Time in window [s]"
    assert above.get_shared_x_axes().joined(above, below)


def test_discords_and_motifs_are_marked_where_they_are(figure) -> None:
    above, below, *_ = figure.axes
    for discord, line in zip(ODD, lines_of(above, DISCORD), strict=True):
        times_s = PULSE.times_s[discord.index : discord.index + WINDOW]
        assert np.array_equal(line.get_xdata(), times_s)
    assert [text.get_text() for text in above.texts] == ["1", "2", "3"]
    for motif, colour in zip(PAIRS, MOTIFS, strict=False):
        starts = [line.get_xdata()[0] for line in lines_of(above, colour)]
        assert starts == [PULSE.times_s[motif.a], PULSE.times_s[motif.b]]
        (dots,) = lines_of(below, colour)
        assert dots.get_ydata().tolist() == [motif.distance] * 2
    assert len(above.patches) == len(ODD) + 2 * len(PAIRS)


def test_the_legend_names_them_all_and_hides_no_data(figure) -> None:
    figure.canvas.draw()
    (legend,) = figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert [name.split(" (")[0] for name in names] == [
        *("Discord 1", "Discord 2", "Discord 3"),
        *("Motif 1", "Motif 2", "Motif 3"),
    ]
    box = legend.get_window_extent()
    assert not any(box.overlaps(axes.get_window_extent()) for axes in figure.axes)


def test_it_is_written_as_png_and_shows_itself(figure, tmp_path: Path) -> None:
    figure.savefig(tmp_path / "a.png")
    for png in ((tmp_path / "a.png").read_bytes(), figure._repr_png_()):
        assert png.startswith(b"\x89PNG")
        assert len(png) > 20_000


def test_a_bare_series_counts_samples() -> None:
    figure = plot(PULSE.samples.tolist(), DISTANCE, WINDOW)
    above, below = figure.axes
    assert (above.get_ylabel(), below.get_xlabel()) == ("Value", "Sample")
    assert not figure.legends


def test_only_motifs() -> None:
    figure = plot(PULSE.samples, DISTANCE, WINDOW, motifs=PAIRS[:1])
    assert figure.axes[-1].get_xlabel() == "Sample in window"
    figure.canvas.draw()


def test_gaps_stay_gaps() -> None:
    x = np.where(np.arange(300) == 100, np.nan, np.sin(np.arange(300)))
    distance, _ = selfjoin(x, 20)
    figure = plot(Recording(x, rate_hz=10.0), distance, 20)
    drawn = figure.axes[1].lines[0].get_ydata()
    assert np.array_equal(np.isnan(drawn), np.isinf(distance))
    figure.canvas.draw()


def test_a_flat_discord_can_be_drawn() -> None:
    x = np.r_[np.zeros(10), np.random.default_rng(0).normal(size=100)]
    distance, _ = selfjoin(x, 10)
    plot(
        x, distance, 10, discords=[d for d in discords(distance, 10) if d.index == 0]
    ).canvas.draw()


def test_further_occurrences_are_hollow_marks_on_the_profile() -> None:
    (motif,) = motifs(DISTANCE, INDEX, WINDOW, k=1, series=PULSE.samples, radius=2)
    figure = plot(PULSE, DISTANCE, WINDOW, motifs=[motif])
    above, below, shapes = figure.axes
    further = list(motif.occurrences)
    assert len(further) > 3
    assert len(lines_of(above, MOTIFS[0])) == 2 + len(further)
    assert len(lines_of(shapes, MOTIFS[0])) == 1 + len(further)
    _, hollow = lines_of(below, MOTIFS[0])
    assert np.array_equal(hollow.get_ydata(), DISTANCE[further])
    assert same_color(hollow.get_markerfacecolor(), "white")
    assert f"{len(further)} more" in figure.legends[0].get_texts()[0].get_text()


def test_correlations_have_their_marks_on_the_curve() -> None:
    correlation = 1 - DISTANCE**2 / (2 * WINDOW)
    figure = plot(PULSE, correlation, WINDOW, discords=ODD, motifs=PAIRS, correlation=True)
    below = figure.axes[1]
    assert below.get_ylabel() == "Correlation with nearest\nother window (0.855 s)"
    for discord, line in zip(ODD, lines_of(below, DISCORD), strict=True):
        assert line.get_ydata() == pytest.approx([correlation[discord.index]])
    assert below.get_ylim()[0] > 0


def test_a_chain_runs_through_the_colours() -> None:
    chain = Chain((100, 900, 2500, 4000, 9000))
    figure = plot(PULSE, DISTANCE, WINDOW, chain=chain)
    above, _, track, stack = figure.axes
    (dots,) = track.collections
    middles = PULSE.times_s[list(chain)] + (WINDOW - 1) / 2 / PULSE.rate_hz
    assert middles == pytest.approx(dots.get_offsets()[:, 0].data)
    shades = colours(len(chain))
    brightness = [to_rgb(shade) @ np.array([0.3, 0.6, 0.1]) for shade in shades]
    assert brightness == sorted(brightness)
    for start, shade in zip(chain, shades, strict=True):
        (line,) = lines_of(above, shade)
        assert line.get_xdata()[0] == PULSE.times_s[start]
        assert len(lines_of(stack, shade)) == 1
    tops = [line.get_ydata().mean() for line in stack.lines]
    assert tops == sorted(tops, reverse=True)
    assert [label.get_text() for label in stack.get_yticklabels()] == list("12345")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["Chain of 5"]


def test_a_long_chain_shows_some_of_its_links() -> None:
    chain = Chain(tuple(range(0, 9000, 30)))
    figure = plot(PULSE, DISTANCE, WINDOW, chain=chain)
    above, _, track, stack = figure.axes
    assert len(above.lines) == 1 + len(chain)
    assert not above.patches
    for numbers in (track.texts, stack.get_yticklabels()):
        shown = [int(text.get_text()) for text in numbers]
        assert shown[0], shown[-1] == (1, len(chain))
        assert len(shown) < 20


def test_no_spike_of_a_long_series_is_lost() -> None:
    x = np.sin(np.arange(2**20) / 1e4)
    x[[12_345, 700_001]] = 9, -9
    profile = np.ones(x.size - 9)
    profile[500_000], profile[600_000:600_500] = 7, np.inf
    figure = plot(x, profile, 10, discords=[Discord(500_000, 7.0)])
    above, below, _ = figure.axes
    drawn = above.lines[0]
    assert (drawn.get_ydata().min(), drawn.get_ydata().max()) == (-9, 9)
    assert drawn.get_xdata()[np.argmax(drawn.get_ydata())] == 12_345
    assert drawn.get_xdata().size < 20_000
    assert np.nanmax(below.lines[0].get_ydata()) == 7
    assert np.isnan(below.lines[0].get_ydata()).any()


def test_a_value_between_gaps_is_a_dot() -> None:
    x = np.where(np.arange(100) % 50 == 25, np.inf, np.sin(np.arange(100)))
    x[[60, 62]] = np.nan
    figure = plot(x, np.full(91, np.inf), 10)
    curve, dots = figure.axes[0].lines
    assert np.isnan(curve.get_ydata()).sum() == 4
    assert dots.get_xdata()[np.isfinite(dots.get_ydata())].tolist() == [61]
    assert dots.get_marker() == "."


def test_nothing_matched_is_said() -> None:
    figure = plot([1, 2, 3], [np.inf], 3)
    assert [text.get_text() for text in figure.axes[1].texts] == ["No window has a match"]


def test_another_profile_can_be_named() -> None:
    figure = plot(PULSE, -DISTANCE, WINDOW, label="Sum of correlations")
    assert figure.axes[1].get_ylabel() == "Sum of correlations"
    assert figure.axes[1].get_ylim()[0] < -5


MANY = motifs(DISTANCE, INDEX, WINDOW, k=8, series=PULSE.samples, radius=1.5)
WALK = np.cumsum(np.random.default_rng(0).normal(size=300_000)) * 1e6


@pytest.mark.parametrize(
    "draw",
    [
        lambda: plot(PULSE, DISTANCE, WINDOW, discords=ODD, motifs=MANY, chain=Chain((9, 400))),
        lambda: plot(PULSE, -DISTANCE, WINDOW, correlation=True, chain=Chain((9, 400, 8000))),
        lambda: plot(WALK, np.ones(WALK.size - 99), 100, motifs=[Motif(7, 200_000, 0.123456)]),
        lambda: plot(WALK, np.ones(WALK.size - 99), 100, discords=[Discord(299_000, 123.4)] * 2),
        lambda: plot([1, 2, 3], [1.0], 3, discords=[Discord(0, 1.0)], chain=Chain((0,))),
        lambda: plot([0] * 30, [0] * 21, 10, motifs=[Motif(0, 12, 0.0, (18,))]),
        lambda: plot(np.full(30, np.nan), np.full(21, np.nan), 10),
        lambda: plot(
            Recording(WALK[:200], title="Long title " * 20, quantity="Quantity " * 9),
            np.ones(101),
            100,
            label="Distance to the nearest window of another_recording_of_the_same_day.csv",
        ),
    ],
)
def test_words_are_whole_and_clear_of_each_other(draw) -> None:
    figure = draw()
    assert not cut_off(figure)
    assert not overlapping(figure)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: plot(PULSE, DISTANCE[1:], WINDOW),
            "9284 values, but 9384 samples have 9285 windows of 100",
        ),
        (lambda: plot([1, 2, 3], [[1.0]], 3), r"shape \(1, 1\); draw a summary by heatmap"),
        (
            lambda: plot([1, 2, 3], [1.0], 3, discords=[Discord(1, 1.0)]),
            "Discord 1 has a window at 1, but there are 1 windows",
        ),
        (
            lambda: plot([1, 2, 3], [1.0], 3, motifs=[Motif(0, 0, 1.0, (-1,))]),
            "Motif 1 has a window at -1",
        ),
        (lambda: plot([1, 2, 3], [1.0], 3, chain=Chain((5,))), "the chain has a window at 5"),
    ],
)
def test_what_does_not_belong_together_is_refused(call, message: str) -> None:
    with pytest.raises(SeriesError, match=message):
        call()


def test_a_dollar_is_a_dollar() -> None:
    shown = Recording(PULSE.samples, title="p$a_$.npy", quantity=r"Price $\beta$", unit="US$")
    page = io.StringIO()
    with rc_context({"svg.fonttype": "none"}):
        plot(shown, DISTANCE, WINDOW, label="of ${b").savefig(page, format="svg")
    for text in ("p$a_$.npy", r"Price $\beta$ [US$]", "of ${b"):
        assert f">{text}</text>" in page.getvalue()


def test_pyplot_is_left_alone(tmp_path: Path) -> None:
    code = (
        "import sys; from labkit.matrixprofile import plot; "
        "plot([0, 1, 0, 2], [1.0, 1.0], 3).savefig('f.png'); "
        "print('matplotlib.pyplot' in sys.modules)"
    )
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    assert (tmp_path / "f.png").exists()
