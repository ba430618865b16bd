"""What the benchmarks of labs run: written for epyc, and so the same for both."""

from __future__ import annotations

import functools
import time
from typing import Any

import epyc
import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]


class Nothing(epyc.Experiment):
    """Does nothing: what is measured is all that is around it."""

    def do(self, params: dict[str, Any]) -> dict[str, Any]:
        return {}


class Spin(epyc.Experiment):
    """Takes as much of a processor as its parameter ``seconds`` says."""

    def do(self, params: dict[str, Any]) -> dict[str, Any]:
        spin(params["seconds"])
        return {}


class Fill(epyc.Experiment):
    """Returns an array of ``size`` numbers, another one at each point."""

    def do(self, params: dict[str, Any]) -> dict[str, Any]:
        return {"array": array(params["n"], params["size"])}


def spin(seconds: float) -> None:
    """Use the processor for so long; what others use of it meanwhile does not count."""
    stop = time.thread_time() + seconds
    while time.thread_time() < stop:
        pass


def array(n: int, size: int) -> Array:
    """Return numbers that do not compress, at the price of a copy."""
    numbers = _numbers(size).copy()
    numbers[0] = n
    return numbers


@functools.cache
def _numbers(size: int) -> Array:
    return np.random.default_rng(size).normal(size=size)
