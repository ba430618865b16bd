"""Ctrl-C, in real processes and with a real signal."""

import signal

import pytest

import labkit
from labkit.cli.interruption import Interruption

from .conftest import until

POINTS = 8
MANY = 200

#: Long enough for engines to hear that they shall begin nothing else.
A_WHILE_S = "2"


class FakeLab:
    drained = 0

    def drain(self):
        self.drained += 1


def press():
    signal.raise_signal(signal.SIGINT)


# ---------- by itself ----------


def test_the_first_drains_and_the_second_ends(capfd):
    before = signal.getsignal(signal.SIGINT)
    lab, reached = FakeLab(), []
    with Interruption() as interruption:
        assert not interruption.happened
        interruption.guard(lab)
        press()
        assert lab.drained == 1
        reached.append("drained")
        press()
        reached.append("not this")
    assert reached == ["drained"]
    assert lab.drained == 1
    assert interruption.happened
    assert signal.getsignal(signal.SIGINT) is before
    first, second = capfd.readouterr().err.strip().splitlines()[0::2]
    assert "Press Ctrl-C again" in first
    assert "Stopping at once" in second


def test_before_there_is_a_lab_it_ends_at_once():
    with Interruption() as interruption:
        press()
        pytest.fail("the block goes on")
    assert interruption.happened


def test_other_exceptions_go_through():
    with pytest.raises(ZeroDivisionError), Interruption():
        raise ZeroDivisionError


# ---------- in real processes ----------


@pytest.fixture
def began(folder):
    """How often each point has begun."""

    def counted():
        return {p.name: len(p.read_text()) for p in folder.glob("began-*")}

    return counted


def recorded():
    """Return how many outcomes there are, and make sure that nothing is pending."""
    with labkit.SQLiteLabNotebook("slow.db").open() as notebook:
        assert notebook.numberOfAllPendingResults() == 0
        points = [rc["parameters"]["i"] for rc in notebook.results()]
    assert len(set(points)) == len(points)
    return len(points)


PLACES = pytest.mark.parametrize("place", [["--serial"], ["--engines", "2"]], ids="-".join)


@PLACES
def test_once_finishes_what_runs_and_again_goes_on(start, labkit_, folder, began, place):
    run = start("run", "walks.py:Slow", *place, "--set", f"i=0:{MANY - 1}")
    until(began, run)
    run.interrupt()
    until(lambda: "will finish" in run.told(), run)
    (folder / "go").write_text(A_WHILE_S)
    status, out, err = run.ended()
    assert status == 130
    assert "Interrupted: what is running will finish and be recorded." in err
    assert "Traceback" not in err
    assert "run the same command again to go on" in out
    count = len(began())
    assert 1 <= count < 10
    assert f"{count} of {MANY} points done, {MANY - count} not run" in out
    assert recorded() == count
    (folder / "go").write_text("")
    done = labkit_("run", "walks.py:Slow", "--serial", "--set", f"i=0:{MANY - 1}")
    assert f"Running {MANY - count} points" in done.stdout
    assert recorded() == MANY
    assert set(began().values()) == {1}


@PLACES
def test_twice_stops_at_once(start, labkit_, folder, began, place):
    run = start("run", "walks.py:Slow", *place, "--only", "all")
    until(began, run)
    run.interrupt()
    until(lambda: "will finish" in run.told(), run)
    run.interrupt()
    status, out, err = run.ended(timeout_s=20)
    assert status == 130
    assert "Stopping at once" in err
    assert "Traceback" not in err
    assert "run the same command again with --only missing" in out
    assert recorded() == 0
    (folder / "go").touch()
    labkit_("run", "walks.py:Slow", "--serial")
    assert recorded() == POINTS


def test_while_engines_start(start, folder):
    run = start("run", "walks.py:Slow", "--engines", "2")
    assert run.process.stdout.readline() == "Running 8 points on 2 engines\n"
    run.interrupt()
    status, out, err = run.ended(timeout_s=20)
    assert (status, err) == (130, "")
    assert "0 of 8 points done, 8 not run" in out
    assert recorded() == 0


def test_after_a_kill_the_rest_runs(start, labkit_, folder, began):
    run = start("run", "walks.py:Slow", "--engines", "2")
    until(began, run)
    run.process.kill()
    run.ended()
    (folder / "go").touch()
    assert "To run (missing): 8 points\n" in labkit_("run", "walks.py:Slow", "--dry-run").stdout
    assert "8 of 8 points done" in labkit_("run", "walks.py:Slow", "--serial").stdout
    assert recorded() == POINTS
