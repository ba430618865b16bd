"""``labkit demo``, from end to end, as a user types it."""

import sys
import time

import numpy as np
import pandas as pd
import pytest

import labkit
from labkit.cli import demonstration, running
from labkit.matrixprofile import recording

MODULE = (sys.executable, "-m", "labkit")


def size_of_png(path):
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def test_twice(start, folder):
    status, out, err = start("demo").ended(timeout_s=150)
    assert (status, err) == (0, "")
    assert "Running 24 points on 2 engines\n" in out
    assert "discords): 79.2 s (9.66), 63.8 s (8.74)." in out
    assert "motifs): 90.3 and 91.2 s (0.49)" in out
    with labkit.SQLiteLabNotebook("demo/discords.db").open() as notebook:
        frame = notebook.dataframe()
    assert len(frame) == 24
    assert set(frame["labkit.engine"]) <= {0, 1}
    picture = folder / "demo" / "discords.png"
    width, height = size_of_png(picture)
    assert width > 1200
    assert height > 600

    picture.unlink()
    started = time.monotonic()
    status, again, err = start("demo", program=MODULE).ended()
    assert (status, err) == (0, "")
    assert time.monotonic() - started < 20
    assert "Nothing is missing" in again
    assert "Running" not in again
    assert again.splitlines()[2:] == out.splitlines()[2:]
    assert size_of_png(picture) == (width, height)
    with labkit.SQLiteLabNotebook("demo/discords.db").open() as notebook:
        assert notebook.numberOfResults() == 24


def test_no_engine_is_started_when_nothing_is_missing(folder, monkeypatch):
    monkeypatch.setattr(running.Place, "lab", lambda self, notebook, points: labkit.Lab(notebook))
    lines = []
    assert demonstration.show(folder / "new", 2, lines.append) == 0
    assert "Running 24 points on 2 engines" in lines
    monkeypatch.setattr(running.Place, "lab", lambda *_: pytest.fail("a lab is made"))
    lines.clear()
    assert demonstration.show(folder / "new", 2, lines.append) == 0
    assert "Nothing is missing: all points are in the notebook already." in lines


def test_a_run_that_fails_is_told_as_any_other(folder, monkeypatch):
    def fails(self, params):
        raise ValueError("no such finger")

    monkeypatch.setattr(running.Place, "lab", lambda self, notebook, points: labkit.Lab(notebook))
    monkeypatch.setattr(demonstration.Discords, "do", fails)
    lines = []
    assert demonstration.show(folder / "new", 2, lines.append) == 1
    assert any("ValueError: no such finger" in line for line in lines)
    assert not (folder / "new" / "discords.png").exists()


def test_findings_of_a_segment_without_any():
    heart = recording()
    length = heart.samples.size // 8 - demonstration.WINDOW + 1
    profiles = [np.full(length, 1.0 + segment) for segment in range(8)]
    profiles[7][:] = np.nan
    outcomes = pd.DataFrame(
        {
            "window": demonstration.WINDOW,
            "segment": range(8),
            "matrix_profile": profiles,
            "motif_a": [0.0, 1200, 2400, 3600, 4800, 6000, 7200, np.nan],
            "motif_b": [200.0, 1400, 2600, 3800, 5000, 6200, 7400, np.nan],
            "motif_distance": [3.0, 1.0, 2.0, 4.0, 5.0, 6.0, 7.0, np.nan],
            "discord": [1.0, 2, 3, 4, 5, 6, 7, np.nan],
            "distance": [1.0, 2, 3, 4, 5, 6, 7, np.nan],
        }
    ).sample(frac=1, random_state=1)
    found = demonstration.findings(outcomes, heart)
    assert [d.distance for d in found.discords] == [7.0, 7.0]
    assert [m.distance for m in found.motifs] == [1.0, 2.0, 3.0]
    assert np.isnan(found.distance[length : heart.samples.size // 8]).all()
    text = "\n".join(demonstration.told(found, heart))
    assert text.splitlines()[10].split() == ["7", "-", "-", "-", "-", "-"]
