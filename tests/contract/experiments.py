"""Experiments that several programs run, each made from the module under test.

They are local classes that refer to nothing of this package, so that they travel by value.
"""

from pathlib import Path
from types import ModuleType
from typing import Any


def adding(epyc: ModuleType) -> Any:
    """Make an experiment that adds up its parameters."""

    class Adding(epyc.Experiment):  # type: ignore[misc,name-defined]
        def do(self, params: dict[str, Any]) -> dict[str, Any]:
            return {"total": sum(params.values())}

    return Adding()


def failing_at(epyc: ModuleType, *values: Any) -> Any:
    """Make an experiment that doubles its parameter ``a``, and fails at some of its values."""

    class Failing(epyc.Experiment):  # type: ignore[misc,name-defined]
        def do(self, params: dict[str, Any]) -> dict[str, Any]:
            if params["a"] in values:
                raise ValueError(f"not at {params['a']}")
            return {"double": 2 * params["a"]}

    return Failing()


def slow(epyc: ModuleType, seconds: float) -> Any:
    """Make an experiment that returns its parameter ``a`` after a while."""

    class Slow(epyc.Experiment):  # type: ignore[misc,name-defined]
        def do(self, params: dict[str, Any]) -> dict[str, Any]:
            import time

            time.sleep(seconds)
            return {"same": params["a"]}

    return Slow()


def waiting(epyc: ModuleType, gate: Path) -> Any:
    """Make an experiment that returns its parameter ``a`` when a file is there, or in a minute."""

    class Waiting(epyc.Experiment):  # type: ignore[misc,name-defined]
        def do(self, params: dict[str, Any]) -> dict[str, Any]:
            import time

            end = time.monotonic() + 60
            while not gate.exists() and time.monotonic() < end:
                time.sleep(0.02)
            return {"same": params["a"]}

    return Waiting()
