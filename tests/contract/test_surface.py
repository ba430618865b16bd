"""labkit has every public name of epyc, with every method, argument and constant."""

import importlib
import inspect
import subprocess
import sys
from typing import Any

import epyc
import pytest

PUBLIC = sorted(
    name for name, value in vars(epyc).items() if name[0] != "_" and not inspect.ismodule(value)
)
CLASSES = [name for name in PUBLIC if inspect.isclass(getattr(epyc, name))]
EXCEPTIONS = [name for name in CLASSES if issubclass(getattr(epyc, name), Exception)]
SHARED = [
    *EXCEPTIONS,
    *("Experiment", "ExperimentCombinator", "RepeatedExperiment", "SummaryExperiment"),
    *("Design", "FactorialDesign", "PointwiseDesign"),
]
OPERATORS = {"__init__", "__len__", "__contains__", "__getitem__", "__setitem__", "__delitem__"}
NAMES_THE_LIBRARY = {"Logger", "PackageContactInfo"}
DIFFERS_ON_PURPOSE = {("ResultSet", "ZeroMapping")}


def members(class_name: str) -> list[str]:
    """List what a program may use of one of epyc's classes."""
    found = getattr(epyc, class_name)
    own = {k for c in found.__mro__ if c.__module__.startswith("epyc.") for k in vars(c)}
    return sorted(k for k in own if k[0] != "_" or k in OPERATORS)


METHODS = [(c, m) for c in CLASSES for m in members(c) if callable(getattr(getattr(epyc, c), m))]
CONSTANTS = [
    (c, m)
    for c in CLASSES
    for m in members(c)
    if (c, m) not in METHODS and (c, m) not in DIFFERS_ON_PURPOSE
]


@pytest.fixture(scope="module")
def labkit() -> Any:
    """The module under test."""
    return importlib.import_module("labkit")


def test_the_surface_was_found() -> None:
    assert len(CLASSES) == 21
    assert len(METHODS) > 200
    assert ("ResultSet", "JOBID") in CONSTANTS


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_there(labkit: Any, name: str) -> None:
    assert hasattr(labkit, name)
    assert type(getattr(labkit, name)) is type(getattr(epyc, name)) or name in CLASSES


def test_a_star_import_brings_every_public_name() -> None:
    show = "from labkit import *; print(*sorted(dir()))"
    shown = subprocess.run(
        [sys.executable, "-c", show], capture_output=True, text=True, check=True, timeout=60
    )
    assert set(PUBLIC) <= set(shown.stdout.split())


@pytest.mark.parametrize("name", SHARED)
def test_what_is_sound_is_inherited(labkit: Any, name: str) -> None:
    assert issubclass(getattr(labkit, name), getattr(epyc, name))


def test_classes_inherit_from_each_other_as_epycs_do(labkit: Any) -> None:
    pairs = [
        (a, b)
        for a in CLASSES
        for b in CLASSES
        if a != b and issubclass(getattr(epyc, a), getattr(epyc, b))
    ]
    assert ("ClusterLab", "Lab") in pairs
    lost = [(a, b) for a, b in pairs if not issubclass(getattr(labkit, a), getattr(labkit, b))]
    assert lost == []


@pytest.mark.parametrize(("class_name", "method"), METHODS, ids=str)
def test_methods_take_epycs_arguments(labkit: Any, class_name: str, method: str) -> None:
    theirs, ours = (
        inspect.signature(getattr(getattr(m, class_name), method)) for m in (epyc, labkit)
    )
    expected = [_argument(p) for p in theirs.parameters.values()]
    actual = [_argument(p) for p in ours.parameters.values()]
    positional = [a for a in expected if a[1] != inspect.Parameter.VAR_KEYWORD]
    assert actual[: len(positional)] == positional
    assert set(expected) <= set(actual)
    added = list(ours.parameters.values())[len(positional) :]
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    assert all(p.default is not p.empty or p.kind in variable for p in added)


def _argument(parameter: inspect.Parameter) -> tuple[str, Any, Any]:
    return parameter.name, parameter.kind, parameter.default


@pytest.mark.parametrize(("class_name", "method"), METHODS, ids=str)
def test_methods_are_of_the_same_kind(labkit: Any, class_name: str, method: str) -> None:
    theirs, ours = (inspect.getattr_static(getattr(m, class_name), method) for m in (epyc, labkit))
    assert isinstance(ours, type(theirs)) or callable(ours)
    assert isinstance(ours, staticmethod) == isinstance(theirs, staticmethod)
    assert isinstance(ours, classmethod) == isinstance(theirs, classmethod)


@pytest.mark.parametrize(("class_name", "constant"), CONSTANTS, ids=str)
def test_constants_are_epycs(labkit: Any, class_name: str, constant: str) -> None:
    theirs, ours = (getattr(getattr(m, class_name), constant) for m in (epyc, labkit))
    assert ours == theirs


@pytest.mark.parametrize("name", sorted(set(PUBLIC) - set(CLASSES) - NAMES_THE_LIBRARY))
def test_type_names_are_epycs(labkit: Any, name: str) -> None:
    assert str(getattr(labkit, name)).replace("labkit.", "epyc.") == str(getattr(epyc, name))


@pytest.mark.parametrize("name", sorted(NAMES_THE_LIBRARY))
def test_what_names_the_library_is_text(labkit: Any, name: str) -> None:
    assert isinstance(getattr(labkit, name), str)
    assert getattr(labkit, name)


def test_a_lab_and_a_notebook_of_each_kind_can_be_made_with_nothing(labkit: Any) -> None:
    assert labkit.Lab().notebook().resultSets() == [labkit.LabNotebook.DEFAULT_RESULTSET]
    assert labkit.ParallelLab().notebook().resultSets() == [labkit.LabNotebook.DEFAULT_RESULTSET]
