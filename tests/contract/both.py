"""Run one program on epyc and on labkit, and compare what it observed."""

import difflib
import functools
import importlib
import inspect
import pprint
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import ModuleType
from typing import Any, Protocol, runtime_checkable

import epyc
import numpy
import pytest

from .observation import Raised, plain


@runtime_checkable
class PerSide(Protocol):
    """A fixture that gives each side its own thing: a notebook, a lab."""

    def on(self, module: ModuleType) -> Any:
        """Give the thing for programs that run on this module."""


def on_both(program: Callable[..., Any]) -> Callable[..., None]:
    """Make a test of a program.

    The program takes the module under test as ``epyc``, and any fixtures, and returns what it
    observed. The test passes when it observes the same on labkit as on epyc.
    """
    signature = inspect.signature(program)
    wanted = [p for name, p in signature.parameters.items() if name != "epyc"]

    @functools.wraps(program)
    def test(**fixtures: Any) -> None:
        expected = run_on(epyc, program, fixtures)
        actual = run_on(importlib.import_module("labkit"), program, fixtures)
        compare(expected, actual)

    test.__signature__ = signature.replace(parameters=wanted)  # type: ignore[attr-defined]
    del test.__wrapped__  # type: ignore[attr-defined]
    return test


def run_on(module: ModuleType, program: Callable[..., Any], fixtures: dict[str, Any]) -> Any:
    """Run a program on one side and return its observation in plain values."""
    given = {k: v.on(module) if isinstance(v, PerSide) else v for k, v in fixtures.items()}
    numpy.random.seed(20261120)
    with epycs_warnings_ignored() if module is epyc else nullcontext():
        seen = program(module, **given)
    assert seen is not None, "the program observed nothing"
    return plain(seen)


@contextmanager
def epycs_warnings_ignored() -> Iterator[None]:
    """Ignore what pandas and ipyparallel say about epyc's own code, and nothing else."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"epyc\.")
        warnings.filterwarnings("ignore", message="The IPython parallel magics")
        warnings.filterwarnings("ignore", message="Passing unrecognized arguments to super")
        yield


def compare(expected: Any, actual: Any) -> None:
    """Fail, with the difference, unless labkit showed what epyc showed."""
    left, right = (
        pprint.pformat(side, width=96, sort_dicts=True).splitlines()
        for side in (expected, settled(expected, actual))
    )
    if left != right:
        difference = "\n".join(difflib.unified_diff(left, right, "epyc", "labkit", lineterm=""))
        pytest.fail(f"the same program shows something else on labkit\n{difference}", False)


def settled(expected: Any, actual: Any) -> Any:
    """Replace exceptions that a caller of epyc would have caught by the ones epyc raised."""
    if isinstance(expected, Raised) and isinstance(actual, Raised):
        return expected if actual.stands_for(expected) else actual
    if isinstance(expected, dict) and isinstance(actual, dict):
        return {k: settled(expected.get(k), v) for k, v in actual.items()}
    if isinstance(expected, list) and isinstance(actual, list) and len(expected) == len(actual):
        return [settled(e, a) for e, a in zip(expected, actual, strict=True)]
    return actual
