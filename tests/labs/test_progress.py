"""What a lab shows while it works."""

import contextlib
import os
import pty
import re
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

import labkit
from labkit.labs.progress import Progress

from .experiments import Fails, Waits

ROOT = Path(__file__).parents[2]


def test_it_shows_done_failed_rate_and_time_to_go(capsys):
    with Progress(4, wanted=True) as bar:
        bar.add(2, failed=1)
        bar.add(2)
    shown = capsys.readouterr().err
    assert "4/4" in shown
    assert "failed=1" in shown
    assert "point/s" in shown
    assert "<" in shown, "elapsed<to go"


def test_nothing_is_shown_where_nobody_looks(capsys):
    with Progress(4) as bar:
        bar.add(4)
    assert capsys.readouterr().err == ""


def read_all(terminal):
    """Yield what is written to a pseudo-terminal until its last writer has gone."""
    with contextlib.suppress(OSError), os.fdopen(terminal, "rb", buffering=0) as stream:
        while data := stream.read(4096):
            yield data.decode()


def test_a_terminal_gets_a_bar():
    script = (
        "import labkit\n"
        "from tests.labs.experiments import Fails\n"
        "lab = labkit.Lab(); lab.runExperiment(Fails())\n"
    )
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    with subprocess.Popen([sys.executable, "-c", script], stderr=theirs, cwd=ROOT) as process:
        os.close(theirs)
        shown = "".join(read_all(ours))
    assert process.returncode == 0
    assert "6/6" in shown
    assert "failed=3" in shown


@pytest.mark.parametrize("wanted", [True, False])
def test_a_lab_can_be_told(capsys, wanted):
    lab = labkit.Lab()
    lab.progress = wanted
    lab.runExperiment(Fails())
    assert ("6/6" in capsys.readouterr().err) == wanted
    assert len(lab.notebook().dataframe()) == 3, "the bar is not taken for what experiments print"


def test_a_bar_has_what_comes_meanwhile_whoever_records_it(
    cluster, notebook, capsys, monkeypatch, tmp_path
):
    def is_all_here():
        (tmp_path / "go").touch()
        while lab._traffic and not lab._traffic.has_arrivals():
            time.sleep(0.01)
        # as the thread that records does, which may be there at any moment
        lab.ingest()
        return really()

    with labkit.ClusterLab(notebook, url_file=cluster.connection_file) as lab:
        lab.progress = True
        really = lab._is_all_here
        monkeypatch.setattr(lab, "_is_all_here", is_all_here)
        lab["x"] = range(12)
        lab.runExperiment(Waits(tmp_path, free=2), chunk=1)
        while not lab._traffic.has_arrivals() and notebook.numberOfResults() < 2:
            time.sleep(0.01)
        assert lab.wait(timeout=60)
    done, total = re.findall(r"(\d+)/(\d+)", capsys.readouterr().err)[-1]
    assert done == total
