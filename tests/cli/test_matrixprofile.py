"""``labkit matrix-profile``: what it computes, keeps, tells and refuses."""

import contextlib
import importlib
import json
import os
import pty
import re
import shutil
import subprocess
import termios
from dataclasses import replace
from typing import get_args

import click
import h5py
import numpy as np
import psutil
import pytest

import labkit
from labkit.cli import running
from labkit.cli.joins import Join, compute_in_lab
from labkit.cli.running import Place
from labkit.cluster.local import LocalCluster
from labkit.errors import MissingTilesError
from labkit.matrixprofile import abjoin, discords, motifs, recording, selfjoin
from labkit.matrixprofile.files.reading import Source
from labkit.matrixprofile.query import KINDS, Precision, Sides

from .conftest import LABKIT, listing, until

# the noise is there so that no two pairs of windows are exactly as near
NOISY = recording().samples[:5000] + np.random.default_rng(9).normal(size=5000)
PULSE, OTHER = NOISY[:1500], NOISY[4000:]
WINDOW = 50
BASE = ("matrix-profile", "pulse.csv:volt", "--window", WINDOW)


@pytest.fixture(autouse=True)
def series(folder):
    """Two series in files."""
    table = np.column_stack([np.arange(PULSE.size), PULSE])
    np.savetxt(folder / "pulse.csv", table, delimiter=",", header="second,volt", comments="")
    np.save(folder / "other.npy", OTHER)


def arrays(path):
    with np.load(path) as file:
        return {name: file[name] for name in file.files if name != "about"}


def equal(found, wanted):
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-9)
    return True


# ---------- in this process ----------


def test_a_self_join(labkit_):
    done = labkit_(*BASE, "-o", "out.npz")
    distance, index = selfjoin(PULSE, WINDOW)
    assert equal(arrays("out.npz").values(), (distance, index))
    (odd,) = discords(distance, WINDOW, k=1)
    (alike,) = motifs(distance, index, WINDOW, k=1, series=PULSE)
    first, speed, *found = done.stdout.splitlines()
    assert first == "pulse.csv:volt: 1,500 samples, windows of 50, kind 1nn"
    assert re.fullmatch(r"1,052,700 pairs of windows in .*s, [\d.e-]+ Gcells/s", speed)
    assert found == [
        f"Least like any other (discord): sample {odd.index:,}, distance {odd.distance:.4g}",
        f"Most alike (motif): samples {alike.a:,} and {alike.b:,}, distance {alike.distance:.4g}",
        "out.npz is written",
    ]
    assert done.stderr == ""


def test_two_series(labkit_):
    words = ("matrix-profile", "other.npy", "pulse.csv:1", "--window", "50")
    done = labkit_(*words, "-o", "out.npz")
    distance, index = abjoin(OTHER, PULSE, WINDOW)
    assert equal(arrays("out.npz").values(), (distance, index))
    assert "other.npy and pulse.csv:1: 1,000 and 1,500 samples" in done.stdout
    best = int(distance.argmin())
    where = f"sample {best:,} of other.npy and {index[best]:,} of pulse.csv:1"
    assert f"{where}, distance {distance[best]:.4g}\n" in done.stdout


OPTIONS = [
    ({"kind": "1nn_only", "exclusion": 0}, ["distance"]),
    ({"kind": "1nn", "exclusion": "scamp", "correlation": True}, ["correlation", "index"]),
    ({"kind": "sum", "threshold": 0.0}, ["sum"]),
    ({"kind": "knn", "k": 3, "threshold": 0.9}, ["distance", "index"]),
    ({"kind": "summary", "shape": (5, 7)}, ["distance"]),
    (
        {"kind": "1nn", "sides": "both"},
        ["left_distance", "left_index", "right_distance", "right_index"],
    ),
    ({"kind": "1nn", "precision": "single"}, ["distance", "index"]),
]


def typed(options):
    for name, value in options.items():
        yield f"--{name}"
        if value is not True:
            yield "x".join(map(str, value)) if name == "shape" else str(value)


def flat(result):
    """Return the arrays of a result, whatever its form."""
    if isinstance(result, np.ndarray):
        yield result
    else:
        for part in result:
            yield from flat(part)


@pytest.mark.parametrize(("options", "names"), OPTIONS)
def test_options_reach_the_join_and_the_picture_is_drawn(labkit_, folder, options, names):
    words = list(typed(options))
    labkit_(*BASE, *words, "--threads", "1", "-o", "out.npz", "--plot", "out.png")
    found = arrays("out.npz")
    assert list(found) == names
    tolerance = 1e-2 if "precision" in options else 1e-9
    for one, other in zip(found.values(), flat(selfjoin(PULSE, WINDOW, **options)), strict=True):
        if one.dtype == float:
            np.testing.assert_allclose(one, other, atol=tolerance)
    with np.load("out.npz") as file:
        about = json.loads(str(file["about"]))
    assert about["series"] == ["pulse.csv:volt"]
    assert about["exclusion"] == options.get("exclusion", "stumpy")
    assert len(about["digest"][0]) == 32
    assert {k: tuple(v) if k == "shape" else v for k, v in about.items()}.items() >= options.items()
    assert (folder / "out.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "options", [{"sides": "both"}, {"aligned": True}, {"kind": "summary", "shape": (3, 4)}]
)
def test_options_of_two_series(labkit_, folder, options):
    words = ["matrix-profile", "other.npy", "pulse.csv:1", "--window", "50", *typed(options)]
    labkit_(*words, "-o", "out.npz", "--plot", "out.svg")
    assert equal(arrays("out.npz").values(), flat(abjoin(OTHER, PULSE, WINDOW, **options)))
    assert "other.npy" in (folder / "out.svg").read_text() or "kind" in options


def test_all_formats_at_once(labkit_, folder):
    files = ["a.h5", "a.npz", "a.csv", "a.txt"]
    done = labkit_(*BASE, *(word for file in files for word in ("-o", file)))
    told = [line.split()[0] for line in done.stdout.splitlines() if line.endswith(" is written")]
    assert told == [*files, "a_index.txt"]
    with h5py.File("a.h5") as file:
        distance = file["distance"][:]
        assert (file.attrs["window"], file.attrs["kind"]) == (50, "1nn")
    assert distance.tolist() == np.loadtxt("a.txt").tolist()
    assert distance.tolist() == np.loadtxt("a.csv", delimiter=",", skiprows=1)[:, 1].tolist()


def test_a_series_without_any_match(labkit_, folder):
    np.save(folder / "gap.npy", np.full(200, np.nan))
    done = labkit_("matrix-profile", "gap.npy", "--window", "20", "-o", "a.csv", "--plot", "a.png")
    assert "No window has a match." in done.stdout


# ---------- what is refused ----------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pulse.csv", "--window", "50"], "has 2 columns: second, volt"),
        (["pulse.csv:vlt", "--window", "50"], "did you mean volt?"),
        (["puls.csv", "--window", "50"], "did you mean pulse.csv?"),
        (["walks.py", "--window", "50"], "the suffix .py"),
        (["other.npy"], "Missing option '--window'"),
        (["other.npy", "--window", "x"], "'x' is not a valid integer"),
        (["other.npy", "--window", "2"], "the shortest possible is 3"),
        (["other.npy", "--window", "2000"], "only 1000 samples"),
        (["other.npy", "--window", "50", "--kind", "2nn"], "is not one of '1nn', '1nn_only'"),
        (["other.npy", "--window", "50", "--threshold", "0.5"], "threshold"),
        (["other.npy", "--window", "50", "--k", "2"], "k"),
        (["other.npy", "--window", "50", "--shape", "2x3"], "shape"),
        (["other.npy", "--window", "50", "--kind", "summary"], "shape"),
        (["other.npy", "--window", "50", "--shape", "2"], "'2' is not HEIGHTxWIDTH"),
        (["other.npy", "--window", "50", "--exclusion", "stumpi"], 'use "stumpy", "scamp"'),
        (["other.npy", "--window", "50", "--exclusion", "-1"], "exclusion is -1"),
        (["other.npy", "--window", "50", "--aligned"], "--aligned is for two series"),
        (["other.npy"] * 3 + ["--window", "50"], "give one series, or two to be joined, not 3"),
        ([], "Missing argument 'SERIES [SERIES_B]'"),
        (["other.npy", "--window", "50", "--tile", "100"], "--tile goes with --engines"),
        (
            ["other.npy", "--window", "50", "--engines", "2", "--profile", "p"],
            "one of --engines and --profile",
        ),
        (["other.npy", "--window", "50", "-o", "out.cvs"], "did you mean .csv?"),
        (["other.npy", "--window", "50", "-o", "no/out.csv"], "there is no folder no"),
        (["other.npy", "--window", "50", "-o", "pulse.csv"], "pulse.csv exists already"),
        (["other.npy", "--window", "50", "--plot", "out.pgn"], "did you mean png?"),
        (["other.npy", "--window", "50", "--plot", "no/out.png"], "there is no folder no"),
        (["other.npy", "--window", "50", "--plot", "picture.png"], "picture.png exists already"),
        (["other.npy", "--window", "50", "-o", "a.csv", "-o", "./a.csv"], "written twice"),
        (
            ["pulse.csv:1", "--window", "50", "-o", "pulse.csv", "--force"],
            "pulse.csv is needed itself",
        ),
        (["other.npy", "--window", "50", "--notebook", "walks.py"], "is not an SQLite notebook"),
        (["other.npy", "--window", "50", "--notebook", "no/a.db"], "there is no folder no"),
        (
            ["other.npy", "--window", "50", "--notebook", "a.db", "-o", "a.h5"],
            "a.h5 is needed itself",
        ),
    ],
)
def test_wrong_usage(labkit_, folder, words, message):
    (folder / "picture.png").touch()
    before = listing(folder)
    done = labkit_("matrix-profile", *words, status=2)
    assert message in done.stderr
    assert done.stderr.splitlines()[-1].startswith("Error: ")
    assert "Traceback" not in done.output
    assert done.stdout == ""
    assert listing(folder) == before


def test_files_are_replaced_by_force(labkit_, folder):
    for name in ("out.txt", "out_index.txt", "out.png"):
        (folder / name).write_text("old")
    labkit_(*BASE, "-o", "out.txt", "--plot", "out.png", "--force")
    assert np.loadtxt("out_index.txt").size == PULSE.size - WINDOW + 1
    assert (folder / "out.png").stat().st_size > 10_000


def test_choices_are_those_of_the_joins():
    command = importlib.import_module("labkit.cli.matrixprofile").matrix_profile
    choices = {p.name: p.type.choices for p in command.params if isinstance(p.type, click.Choice)}
    assert {name: set(values) for name, values in choices.items()} == {
        "kind": set(KINDS),
        "sides": set(get_args(Sides)),
        "precision": set(get_args(Precision)),
    }


# ---------- tiles in a notebook ----------


def tiles(path, tag=None):
    """Return the tiles in a notebook, and make sure that each was computed once."""
    with labkit.SQLiteLabNotebook(path).open() as notebook:
        assert notebook.numberOfAllPendingResults() == 0
        (found,) = [tag] if tag else [t for t in notebook.resultSets() if "-" in t]
        numbers = [rc["parameters"]["tile"] for rc in notebook.results(found)]
    assert len(set(numbers)) == len(numbers)
    return len(numbers)


TILED = (*BASE, "--tile", "300")


@pytest.mark.parametrize(("options", "names"), OPTIONS[:-1])
def test_tiles_in_this_process(labkit_, options, names):
    done = labkit_(*TILED, *typed(options), "--notebook", "tiles.db", "-o", "out.npz")
    found = arrays("out.npz")
    assert list(found) == names
    assert equal(found.values(), flat(selfjoin(PULSE, WINDOW, **options)))
    assert tiles("tiles.db") > 1
    assert f"Running {tiles('tiles.db')} points in this process\n" in done.stdout
    assert f"tiles.db keeps the tiles (result set {options['kind']}-50-" in done.stdout


def test_the_same_command_again_computes_nothing(labkit_):
    first = labkit_(*TILED, "--notebook", "tiles.db").stdout
    again = labkit_(*TILED, "--notebook", "tiles.db", "-o", "out.npz").stdout
    assert equal(arrays("out.npz").values(), selfjoin(PULSE, WINDOW))
    assert "Running" not in again
    assert "Gcells/s" not in again
    assert next(line for line in first.splitlines() if "Least like" in line) in again
    count = tiles("tiles.db")
    labkit_("matrix-profile", "pulse.csv:volt", "--window", "60", "--notebook", "tiles.db")
    with labkit.SQLiteLabNotebook("tiles.db").open() as notebook:
        assert sum(notebook.numberOfResults(tag) > 0 for tag in notebook.resultSets()) == 2
        assert count in {notebook.numberOfResults(tag) for tag in notebook.resultSets()}


def test_on_own_engines_beside_the_series(labkit_, folder):
    (folder / "data").mkdir()
    np.save(folder / "data" / "pulse.day1.npy", PULSE)
    words = ("data/pulse.day1.npy", "other.npy", "--window", 50, "--tile", 300)
    done = labkit_("matrix-profile", *words, "--engines", "2", "-o", "out.npz")
    assert "points on 2 engines" in done.stdout
    assert equal(arrays("out.npz").values(), abjoin(PULSE, OTHER, WINDOW))
    assert tiles("data/pulse-matrix-profile.db") > 4


def test_tiles_are_cut_for_the_engines_that_there_will_be(folder, monkeypatch):
    np.save(folder / "long.npy", np.arange(2.0**17))
    join = Join((Source.parse("long.npy"),), 100, "1nn")
    cut = []

    def run(request, place, tell):
        cut.append(len(request.experiment.tiles()))
        raise InterruptedError

    monkeypatch.setattr(running, "run", run)
    for place in (Place(engines=1), Place(engines=8), Place(profile="lent")):
        with pytest.raises(InterruptedError):
            compute_in_lab(join, folder / "tiles.db", place, print)
    few, some, many = cut
    assert few < 64 <= some < 400 < many


def test_another_number_of_engines_goes_on_with_the_tiles_that_were_begun(folder, monkeypatch):
    np.save(folder / "long.npy", np.random.default_rng(6).normal(size=2**16).cumsum())
    join = Join((Source.parse("long.npy"),), 100, "1nn")
    real, sides = running.run, []

    def run_two(request, place, tell):
        sides.append(request.experiment.side)
        return real(replace(request, ranges={"tile": [0, 1]}), Place(serial=True), tell)

    monkeypatch.setattr(running, "run", run_two)
    for wanted, engines in ((join, 1), (replace(join, tile=5000), 1), (join, 64)):
        with pytest.raises(MissingTilesError):
            compute_in_lab(wanted, folder / "tiles.db", Place(engines=engines), print)
    few, told, again = sides
    assert few == again != told == 5000
    with pytest.raises(MissingTilesError):
        compute_in_lab(join, folder / "other.db", Place(engines=64), print)
    assert sides[-1] < few


def test_on_the_cluster_of_a_profile(labkit_, folder, monkeypatch):
    cluster = LocalCluster(1)
    try:
        cluster.connect().close()
        profile = folder / "ipython" / "profile_lent" / "security"
        profile.mkdir(parents=True)
        shutil.copy(cluster.connection_file, profile)
        monkeypatch.setenv("IPYTHONDIR", str(folder / "ipython"))
        done = labkit_(*TILED, "--profile", "lent", "-o", "out.npz")
    finally:
        cluster.stop()
    assert "on the cluster of profile lent" in done.stdout
    assert equal(arrays("out.npz").values(), selfjoin(PULSE, WINDOW))


# ---------- Ctrl-C ----------


@pytest.fixture
def long(folder):
    """The words for a join that takes some seconds."""
    np.save(folder / "long.npy", np.random.default_rng(3).normal(size=200_000).cumsum())
    return ("matrix-profile", "long.npy", "--window", "100", "-o", "out.npz")


def test_ctrl_c_keeps_tiles_and_again_goes_on(start, labkit_, folder, long):
    words = (*long, "--tile", "8192", "--notebook", "tiles.db")
    run = start(*words, "--threads", "1")
    until(lambda: (folder / "tiles.db").exists() and has_tiles("tiles.db"))
    run.interrupt()
    status, out, err = run.ended()
    assert status == 130
    assert "Interrupted: what is running will finish and be recorded." in err
    assert "run the same command again to go on" in out
    assert "Traceback" not in err
    assert not (folder / "out.npz").exists()
    count = tiles("tiles.db")
    done = labkit_(*words)
    missing = int(re.search(r"Running (\d+) points? in this process", done.stdout)[1])
    assert missing > 0
    assert tiles("tiles.db") == count + missing
    assert arrays("out.npz")["distance"].size == 200_000 - 99


def has_tiles(path):
    with contextlib.suppress(Exception), labkit.SQLiteLabNotebook(path).open() as notebook:
        return any(notebook.numberOfResults(tag) for tag in notebook.resultSets())
    return False


def test_ctrl_c_without_a_notebook_also_while_kernels_compile(start, folder, long, monkeypatch):
    monkeypatch.setenv("LABKIT_CACHE", str(folder / "cache"))
    np.save(folder / "long.npy", np.random.default_rng(3).normal(size=2**20).cumsum())
    run = start(*long)
    process = psutil.Process(run.process.pid)
    until(lambda: any("long.npy" in place.path for place in process.memory_maps()))
    read = process.cpu_times().user
    until(lambda: process.cpu_times().user > read + 1)
    run.interrupt()
    status, out, err = run.ended(timeout_s=20)
    assert (status, out) == (130, "")
    assert err == "\nInterrupted. With --notebook FILE, what is finished would be kept.\n"
    assert not (folder / "out.npz").exists()


def test_a_terminal_gets_a_bar_with_the_time_to_go(folder, long):
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    np.save(folder / "long.npy", np.random.default_rng(3).normal(size=60_000).cumsum())
    command = [LABKIT, *long, "--threads", "1"]
    with subprocess.Popen(command, stderr=theirs, stdout=subprocess.DEVNULL) as process:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError), os.fdopen(ours, "rb", buffering=0) as stream:
            while data := stream.read(4096):
                shown += data
    assert process.returncode == 0
    assert re.search(r"\d+%\|.*\| 00:0\d<00:\d\d", shown.decode())
