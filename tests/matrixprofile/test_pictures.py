"""The picture: what is on it, and that it leaves nothing behind."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import same_color

from labkit.errors import SeriesError
from labkit.matrixprofile import Recording, discords, motifs, plot, recording, selfjoin
from labkit.matrixprofile.pictures import DISCORD, MOTIFS

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


def test_a_profile_of_another_series_is_refused() -> None:
    with pytest.raises(SeriesError, match="9284 values, but 9384 samples have 9285 windows of 100"):
        plot(PULSE, DISTANCE[1:], WINDOW)


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
