"""Experiments from packages that lie beside the notebook, and that engines may not have."""

import importlib
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import labkit

from .test_attachments import ROOT, Host, two_engines, until

PACKAGE = {
    "walks/__init__.py": "",
    "walks/walk.py": """
        import time
        import labkit
        from .steps import length

        class Walk(labkit.Experiment):
            x = labkit.Parameter(range(6))
            seconds = 0.0

            def do(self, params):
                import units.metres
                time.sleep(self.seconds)
                return {"y": length(params["x"]) * units.metres.PER_STEP, "file": __file__}
    """,
    "walks/steps.py": """
        from importlib.resources import files
        from scaling import BY

        def length(x):
            return x * BY * int((files("walks") / "data" / "steps.txt").read_text())
    """,
    "walks/data/steps.txt": "10",
    "units/metres.py": "PER_STEP = 1",
    "scaling.py": "BY = 1",
    "sides.py": """
        from enum import StrEnum

        class Side(StrEnum):
            LEFT = "left"
    """,
}

PACKAGES = ("walks", "scaling", "units", "sides")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The folder of a package and of a module beside it, which only the lab can import."""
    folder = tmp_path / "beside"
    for name, text in PACKAGE.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(textwrap.dedent(text))
    monkeypatch.syspath_prepend(folder)
    yield folder
    forget()


def forget():
    for name in [n for n in sys.modules if n.partition(".")[0] in PACKAGES]:
        del sys.modules[name]


def walk():
    """Import the package as a restarted lab does, and return its experiment."""
    forget()
    importlib.invalidate_caches()
    return importlib.import_module("walks.walk").Walk()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with two_engines(tmp_path_factory.mktemp("one")) as started:
        yield started


@pytest.fixture
def lab(cluster, notebook, tmp_path, monkeypatch):
    """A lab on another host."""
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path / "lab"))
    with labkit.ClusterLab(notebook, url_file=cluster.connection_file) as made:
        yield made


def outcomes(lab):
    assert lab.wait(timeout=60)
    return lab.dataframe()[["x", "y", "file"]].sort_values("x")


def test_a_package_travels_once_to_each_host(lab, cluster, place, sent):
    lab.runExperiment(walk())
    found = outcomes(lab)
    assert list(found["y"]) == [0, 10, 20, 30, 40, 50]
    files = [Path(file) for file in found["file"]]
    assert [f for f in files if not f.is_relative_to(cluster.one.store.folder)] == []
    assert [function for _, function in sent].count("receive") == 3, "walks, units, scaling"
    sent.clear()
    lab["x"] = [6]
    lab.runExperiment(walk())
    assert list(outcomes(lab)["y"])[6:] == [60]
    assert sent == []


def test_parameters_may_be_of_such_a_class(lab, place):
    experiment = walk()
    lab["x"] = [1]
    lab["side"] = list(importlib.import_module("sides").Side)
    lab.runExperiment(experiment)
    assert list(outcomes(lab)["y"]) == [10]


@pytest.mark.parametrize(
    ("file", "text", "factor"),
    [("scaling.py", "BY = 3", 30), ("walks/data/steps.txt", "11", 11)],
)
def test_what_a_package_imports_and_reads_is_new_when_it_was_edited(lab, place, file, text, factor):
    lab["x"] = [1]
    lab.runExperiment(walk())
    assert list(outcomes(lab)["y"]) == [10]
    (place / file).write_text(text)
    lab["x"] = [2]
    lab.runExperiment(walk())
    assert list(outcomes(lab)["y"]) == [10, 2 * factor]


def test_where_engines_import_the_same_nothing_travels(notebook, place, sent):
    with labkit.ClusterLab(notebook, n=1) as lab:
        lab["x"] = [1]
        lab.runExperiment(walk())
        assert list(outcomes(lab)["file"]) == [str(place / "walks" / "walk.py")]
        (place / "scaling.py").write_text("BY = 5")
        lab["x"] = [2]
        lab.runExperiment(walk())
        assert list(outcomes(lab)["y"]) == [10, 100]
        assert sent == []


def test_a_host_that_comes_later_gets_it(lab, cluster, place, sent, tmp_path):
    host = Host(cluster, tmp_path / "another")
    experiment = walk()
    experiment.seconds = 0.2
    lab["x"] = range(1000)
    lab.runExperiment(experiment)
    sent.clear()
    host.start_engine()

    def is_at_work():
        lab.updateResults()
        return any(Path(f).is_relative_to(host.store.folder) for f in lab.dataframe()["file"])

    try:
        until(is_at_work, 60)
        lab.drain()
        found = outcomes(lab)
        assert list(found["y"]) == [10 * x for x in found["x"]]
        assert found["x"].is_unique
        assert [function for _, function in sent].count("receive") == 3
    finally:
        host.stop()
        until(lambda: lab.numberOfEngines() == 2)


LAB = """
    import sys
    sys.path[:0] = [{root!r}, {place!r}]
    import labkit
    from walks.steps import length

    class Stroll(labkit.Experiment):
        x = labkit.Parameter([1, 2])

        def do(self, params):
            return {{"y": length(params["x"]) + 1}}

    with labkit.ClusterLab(url_file={url!r}) as lab:
        lab.runExperiment(Stroll())
        print(lab.wait(60), sorted(lab.dataframe()["y"]))
"""


def test_a_class_of_main_brings_the_package_that_it_uses(cluster, place, tmp_path):
    script = LAB.format(root=str(ROOT), place=str(place), url=str(cluster.connection_file))
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env={**os.environ, "LABKIT_CACHE": str(tmp_path / "lab")},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "True [11, 21]\n", done.stderr


def test_processes_of_this_machine_get_it_too(notebook, place, tmp_path, monkeypatch):
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path / "cache"))
    with labkit.ParallelLab(notebook, cores=1) as lab:
        lab.runExperiment(walk())
        assert list(outcomes(lab)["y"]) == [0, 10, 20, 30, 40, 50]
