"""From MODULE:CLASS to an experiment."""

import os
import sys

import pytest

from labkit import Experiment, RepeatedExperiment
from labkit.cli.loading import load
from labkit.errors import ExperimentError


def test_a_class_in_a_file(folder):
    loaded = load("walks.py:Walk")
    assert isinstance(loaded, Experiment)
    assert loaded.identity() == "walks.Walk"


def test_file_and_module_are_the_same(folder):
    assert load("walks.py:Walk").identity() == load("walks:Walk").identity()
    assert type(load("walks.py:Walk")) is type(load("walks:Walk"))


def test_a_file_in_another_folder_imports_its_neighbours(folder):
    below = folder / "below"
    below.mkdir()
    (below / "neighbour.py").write_text("STEPS = [1, 2]\n")
    (below / "runs.py").write_text(
        "import labkit, neighbour\n"
        "class Run(labkit.Experiment):\n"
        "    steps = labkit.Parameter(neighbour.STEPS)\n"
    )
    assert type(load("below/runs.py:Run")).steps.range == [1, 2]
    assert sys.path[0] == os.fspath(below)


def test_a_class_in_a_package(folder):
    (folder / "project").mkdir()
    (folder / "project" / "walks.py").write_text((folder / "walks.py").read_text())
    assert load("project.walks:Walk").identity() == "project.walks.Walk"


def test_an_experiment_that_is_made_already(folder):
    loaded = load("walks.py:thrice")
    assert isinstance(loaded, RepeatedExperiment)
    assert loaded.repetitions() == 3


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("walks.py", r"walks.py: write MODULE:CLASS"),
        ("walks.py:", r"write MODULE:CLASS"),
        (":Walk", r"write MODULE:CLASS"),
        ("walks.py:Wlk", r"no Wlk in walks.py; did you mean Walk\? Known: .*Slow.*thrice"),
        ("wlks.py:Walk", r"no file wlks.py; did you mean walks.py\?"),
        ("nowhere:Walk", r"no module nowhere here or installed.*nowhere.py"),
        ("walks.deeper:Walk", r"no module walks.deeper"),
        ("walks.py:number", r"number in walks.py is a int, not an experiment"),
        ("walks.py:Path", r"Path in walks.py is a type, not an experiment"),
        (
            "walks.py:Needy",
            r"Needy .* arguments \(size\): .*needy = Needy\(...\), and run walks.py:needy",
        ),
        ("walks.py:Broken", r"Broken\(\) in walks.py failed: RuntimeError: cannot be made"),
        ("empty.py:Walk", r"no Walk in empty.py; it defines no experiment"),
        ("syntax.py:Walk", r"syntax.py cannot be imported: SyntaxError: .*line 2"),
        ("raises.py:Walk", r"raises.py cannot be imported: ZeroDivisionError: .*raises.py, line 2"),
        ("exits.py:Walk", r"exits.py cannot be imported: SystemExit"),
        ("lacks.py:Walk", r"lacks.py cannot be imported: ModuleNotFoundError: .*absent_module"),
        ("random.py:Walk", r"another module of that name. Rename"),
        ("numpy.py:Walk", r"another module of that name. Rename"),
        ("two words.py:Walk", r"that is no name. Rename"),
    ],
)
def test_what_cannot_be_loaded(folder, target, message):
    import numpy  # noqa: F401, so that it is there

    for name, text in {
        "empty": "",
        "syntax": "x = 1\nx x\n",
        "raises": "x = 0\n1 / x\n",
        "exits": "import sys; sys.exit(3)\n",
        "lacks": "import absent_module\n",
        "random": "",
        "numpy": "",
        "two words": "",
    }.items():
        (folder / f"{name}.py").write_text(text)
    with pytest.raises(ExperimentError, match=message):
        load(target)


def test_a_file_of_the_name_of_one_loaded_before(folder):
    load("walks.py:Walk")
    (folder / "below").mkdir()
    (folder / "below" / "walks.py").write_text("")
    with pytest.raises(ExperimentError, match="another module of that name"):
        load("below/walks.py:Walk")
