"""``labkit run``: what it runs, what it says, and how it ends."""

import importlib
import os
import shutil

import click
import pytest

import labkit
from labkit.cli.running import Place
from labkit.cluster.local import LocalCluster
from labkit.labs.lab import Lab
from labkit.labs.sweep import ONLY

from .conftest import listing, until


def frame(path, tag=None):
    with labkit.SQLiteLabNotebook(path).open() as notebook:
        return notebook.dataframe(tag, only_successful=False)


# ---------- serial, in this process ----------


def test_a_run(labkit_, folder):
    done = labkit_("run", "walks.py:Walk", "--serial")
    assert "Running 6 points in this process\n" in done.stdout
    assert "walk.db: 6 of 6 points done in " in done.stdout
    assert "labkit notebook show walk.db\n" in done.stdout
    plot = "labkit notebook plot walk.db --x noise --y end --hue steps -o walk.png"
    assert done.stdout.splitlines()[-1].strip() == plot
    assert len(frame("walk.db")) == 6
    labkit_(*plot.split()[1:])
    assert (folder / "walk.png").stat().st_size > 10_000
    with labkit.SQLiteLabNotebook("walk.db").open() as notebook:
        assert notebook.description() == "How far does a walker get?"


def test_again_costs_nothing(labkit_, folder):
    labkit_("run", "walks.py:Walk", "--serial")
    before = listing(folder)
    done = labkit_("run", "walks.py:Walk")
    assert done.stdout.startswith(
        "Nothing to run: no point is missing\nwalk.db: 6 of 6 points done\n"
    )
    assert len(frame("walk.db")) == 6
    assert listing(folder).keys() == before.keys()
    labkit_("run", "walks.py:Walk", "--serial", "--only", "all")
    assert len(frame("walk.db")) == 12


def test_nothing_to_run_needs_no_writer(labkit_):
    labkit_("run", "walks.py:Walk", "--serial")
    with labkit.SQLiteLabNotebook("walk.db").open() as notebook:
        notebook.finish()
    assert "Nothing to run" in labkit_("run", "walks.py:Walk").stdout
    done = labkit_("run", "walks.py:Walk", "--only", "all", status=2)
    assert "Error: Lab notebook walk.db is finished and locked" in done.stderr


def test_set_replaces_and_extends(labkit_):
    labkit_("run", "walks.py:Walk", "--serial", "--set", "steps=3,4", "--set", "noise=0:1:0.25")
    found = frame("walk.db")
    assert sorted(set(found["steps"])) == [3, 4]
    assert sorted(set(found["noise"])) == [0, 0.25, 0.5, 0.75, 1]
    labkit_("run", "walks.py:Walk", "--serial", "--set", "steps=3:5", "--set", "noise=0.0")
    assert len(frame("walk.db")) == 11


def test_an_experiment_that_declares_nothing(labkit_):
    labkit_("run", "walks.py:Free", "--serial", "--set", "a=1,2", "--set", "b=0.5")
    assert sorted(frame("free.db")["sum"]) == [1.5, 2.5]


def test_an_experiment_that_is_made_already(labkit_):
    done = labkit_("run", "walks.py:thrice", "--serial", "--set", "noise=1.0")
    assert "thrice.db: 2 of 2 points done" in done.stdout
    assert len(frame("thrice.db")) == 6


def test_notebook_and_result_set(labkit_, folder):
    walk = ("run", "walks.py:Walk", "--serial", "--notebook", "my data.db", "--set", "steps=10")
    done = labkit_(*walk, "--result-set", "first")
    assert "my data.db (result set first): 3 of 3" in done.stdout
    assert "notebook show 'my data.db'\n" in done.stdout
    assert "3 of 3" in labkit_(*walk).stdout.splitlines()[1]  # the one used last
    labkit_(*walk, "--result-set", "second", "--set", "noise=0.0")
    labkit_(*walk, "--result-set", "first")
    assert len(frame("my data.db", "first")) == 3
    assert len(frame("my data.db", "second")) == 1
    assert not (folder / "walk.db").exists()


# ---------- failures ----------


def test_failed_points_are_told(labkit_, folder):
    done = labkit_("run", "walks.py:Stumbles", "--serial", status=1)
    assert "stumbles.db: 2 of 4 points done, 2 failed in " in done.stdout
    assert "2 points failed:\n" in done.stdout
    assert "  x=1: ValueError: a stone\n" in done.stdout
    (command,) = [line for line in done.stdout.splitlines() if "notebook log" in line]
    assert "now at" in labkit_(*command.split()[1:]).stdout
    labkit_("run", "walks.py:Stumbles", "--serial", status=1)  # they are missing still
    (folder / "mended").touch()
    done = labkit_("run", "walks.py:Stumbles", "--serial", "--only", "failed")
    assert "4 of 4 points done" in done.stdout
    done = labkit_("run", "walks.py:Stumbles", "--serial", "--only", "failed")
    assert done.stdout.startswith("Nothing to run: no point has failed\n")
    assert len(frame("stumbles.db")) == 8


def test_a_point_that_fails_after_a_success_counts(labkit_, folder):
    (folder / "mended").touch()
    labkit_("run", "walks.py:Stumbles", "--serial")
    (folder / "mended").unlink()
    done = labkit_("run", "walks.py:Stumbles", "--serial", "--only", "all", status=1)
    assert "2 points failed:" in done.stdout


def test_many_failures_are_not_all_shown(labkit_):
    done = labkit_("run", "walks.py:Stumbles", "--serial", "--set", "x=1:99:2", status=1)
    assert done.stdout.count("ValueError") == 3
    assert "… and 47 more" in done.stdout


# ---------- the dry run ----------


def test_a_dry_run_writes_nothing(labkit_, folder):
    before = listing(folder)
    done = labkit_("run", "walks.py:Walk", "--dry-run")
    assert done.stdout == (
        "walk.db: 0 of 6 points done, 6 not run\n"
        "To run (missing): 6 points\n"
        "No estimate: there are no earlier runs\n"
    )
    assert listing(folder) == before


def test_a_dry_run_counts_and_estimates(labkit_, folder):
    labkit_("run", "walks.py:Stumbles", "--serial", status=1)
    before = listing(folder)
    stumbles = ("run", "walks.py:Stumbles", "--dry-run", "--set", "x=0:9")
    first, to_run, estimate = labkit_(*stumbles, "--engines", "3").stdout.splitlines()
    assert first == "stumbles.db: 2 of 10 points done, 2 failed, 6 not run"
    assert to_run == "To run (missing): 8 points"
    assert estimate.startswith("Estimate: less than 1 ms on 3 engines, ")
    assert estimate.endswith(" core-hours; 2 earlier runs took less than 1 ms each")
    assert "To run (failed): 2 points" in labkit_(*stumbles, "--only", "failed").stdout
    assert "To run (all): 10 points" in labkit_(*stumbles, "--only", "all").stdout
    assert "10 not run" in labkit_(*stumbles, "--result-set", "other").stdout
    assert "among the engines of the profile" in labkit_(*stumbles, "--profile", "p").stdout
    assert listing(folder) == before


def test_a_dry_run_needs_no_lock(labkit_):
    with labkit.SQLiteLabNotebook("walk.db").open() as notebook:
        notebook.current().addPendingResults("sweep", [("no such key", {"steps": 1})])
        assert "6 not run" in labkit_("run", "walks.py:Walk", "--dry-run").stdout


# ---------- wrong usage ----------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["walks.py:Wlk"], "did you mean Walk?"),
        (
            ["walks.py:Walk", "--set", "stps=1"],
            "Walk declares no parameter stps; did you mean steps?",
        ),
        (["walks.py:Walk", "--set", "steps="], "a value is missing"),
        (["walks.py:Walk", "--set", "steps"], "NAME=VALUES"),
        (["walks.py:Free"], "declares no parameters: name one by --set"),
        (["walks.py:Walk", "--serial", "--engines", "2"], "one of --engines, --profile and"),
        (["walks.py:Walk", "--engines", "0"], "x>=1"),
        (["walks.py:Walk", "--serial", "--timeout", "5"], "where --timeout can stop none"),
        (["walks.py:Walk", "--timeout", "0"], "0 is no time in seconds above 0"),
        (["walks.py:Walk", "--timeout", "nan"], "nan is no time in seconds above 0"),
        (["walks.py:Walk", "--chunk", "0"], "x>=1"),
        (["walks.py:Walk", "--only", "some"], "'missing', 'failed', 'all'"),
        (["walks.py:Walk", "--notebook", "walks.py"], "is not an SQLite notebook"),
        ([], "Missing argument 'MODULE:CLASS'"),
    ],
)
@pytest.mark.parametrize("extra", [[], ["--dry-run"]])
def test_wrong_usage(labkit_, folder, words, message, extra):
    done = labkit_("run", *words, *extra, status=2)
    assert message in done.stderr
    assert "Error: " in done.stderr
    assert "Traceback" not in done.output
    assert not list(folder.glob("*.db"))


def test_no_folder_for_the_notebook(labkit_):
    done = labkit_("run", "walks.py:Walk", "--notebook", "no/such/walk.db", status=2)
    assert "there is no folder no/such" in done.stderr


def test_no_cluster_under_the_profile(labkit_, folder, monkeypatch):
    monkeypatch.setenv("IPYTHONDIR", str(folder / "ipython"))
    done = labkit_("run", "walks.py:Walk", "--profile", "absent", status=2)
    assert "there is no profile absent in " in done.stderr
    assert "6 not run" in labkit_("run", "walks.py:Walk", "--dry-run").stdout


def test_ranges_that_no_design_can_enumerate(labkit_, folder):
    (folder / "ranges.py").write_text(
        "import labkit\nclass R(labkit.Experiment):\n    x = labkit.Parameter(labkit.Range(0, 1))\n"
    )
    assert "give a list" in labkit_("run", "ranges.py:R", status=2).stderr
    assert not list(folder.glob("*.db"))


def test_choices_are_those_of_the_lab():
    command = importlib.import_module("labkit.cli.run").run
    (only,) = [p for p in command.params if p.name == "only"]
    assert isinstance(only.type, click.Choice)
    assert set(only.type.choices) == set(ONLY)


def test_a_notebook_that_another_process_writes(start, labkit_, folder):
    slow = start("run", "walks.py:Slow", "--serial", "--notebook", "shared.db")
    until(lambda: list(folder.glob("began-*")))
    done = labkit_("run", "walks.py:Walk", "--notebook", "shared.db", status=2)
    assert f"is being written by process {slow.process.pid} on" in done.stderr
    # while reading works
    assert "shared.db" in labkit_("notebook", "ls").stdout
    assert "has no outcomes yet" in labkit_("notebook", "show", "shared.db").stdout
    assert (
        "0 of 6 points done"
        in labkit_("run", "walks.py:Walk", "--notebook", "shared.db", "--dry-run").stdout
    )
    (folder / "go").touch()
    assert slow.ended()[0] == 0


# ---------- on engines ----------


def test_on_own_engines(start, folder):
    status, out, err = start("run", "walks.py:Stumbles").ended()
    assert (status, err) == (1, "")
    assert "2 of 4 points done, 2 failed" in out
    assert "x=1: ValueError: a stone" in out
    assert frame("stumbles.db")["labkit.engine"].notna().all()


def test_a_time_limit_for_a_point(start, folder):
    (folder / "stalls.py").write_text(
        "import ctypes, labkit\n"
        "class Stalls(labkit.Experiment):\n"
        "    x = labkit.Parameter(range(3))\n"
        "    def do(self, params):\n"
        "        if params['x'] == 1:\n"
        "            ctypes.CDLL(None).sleep(100)\n"
        "        return {'y': 0}\n"
    )
    words = ("run", "stalls.py:Stalls", "--engines", "1", "--timeout", "1.5")
    status, out, err = start(*words).ended()
    assert (status, err) == (1, "")
    assert "2 of 3 points done, 1 failed" in out
    assert "x=1: labkit.errors.PointTimeoutError: stopped after 1.5 s, its time limit" in out


@pytest.mark.parametrize("place", [["--serial"], ["--engines", "1"]])
def test_options_reach_the_lab(labkit_, monkeypatch, place):
    given = []
    run = Lab.runExperiment

    def noting(lab, e, only="all", **options):
        given.append((only, options))
        run(lab, e, only, **options)

    monkeypatch.setattr(Lab, "runExperiment", noting)
    limits = ["--timeout", "60"] if "--serial" not in place else []
    labkit_("run", "walks.py:Walk", *place, "--chunk", "2", *limits)
    assert given == [("missing", {"timeout": 60.0 if limits else None, "chunk": 2})]
    assert len(frame("walk.db")) == 6


def test_an_engine_a_core_but_not_more_than_points():
    assert Place().width(10**6) == len(os.sched_getaffinity(0))
    assert Place().width(1) == 1
    assert Place(engines=7).width(100) == 7
    assert Place(engines=7).width(3) == 3
    assert Place(serial=True).width(100) == 1
    assert Place(profile="p").width(100) is None
    assert Place(engines=7).words(7) == "on 7 engines"


def test_on_the_cluster_of_a_profile(folder, labkit_, tmp_path_factory, monkeypatch):
    """The engines cannot import the script: it travels."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    with monkeypatch.context() as there:
        there.chdir(elsewhere)
        cluster = LocalCluster(1)
    try:
        cluster.connect().close()
        profile = folder / "ipython" / "profile_lent" / "security"
        profile.mkdir(parents=True)
        shutil.copy(cluster.connection_file, profile)
        monkeypatch.setenv("IPYTHONDIR", str(folder / "ipython"))
        done = labkit_("run", "walks.py:Walk", "--profile", "lent")
    finally:
        cluster.stop()
    assert "on the cluster of profile lent" in done.stdout
    assert "6 of 6 points done" in done.stdout
    assert set(frame("walk.db")["labkit.engine"]) == {0}
