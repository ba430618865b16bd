"""One run of a point, in whatever process: its outcome, its cost, what it printed."""

from __future__ import annotations

import functools
import os
import resource
import sys
import time
from typing import Any, NamedTuple

import epyc

from labkit.engine.capture import Capture
from labkit.outcome import KEY, METADATA, Outcome, failure, flatten

__all__ = ["Run", "Runner"]

#: getrusage counts kilobytes, but bytes on macOS.
_RUSAGE_UNIT = 1 if sys.platform == "darwin" else 1024


class Run(NamedTuple):
    """What one run gave."""

    outcome: Outcome
    """epyc's results dict, nested for repetitions."""
    log: str
    """What it printed and logged."""


class Runner:
    """Runs one experiment at many points.

    Parameters
    ----------
    experiment : epyc.Experiment
        Ours, or one written for epyc.
    facts : dict
        Metadata that is the same for all its runs.
    attempt : int
        The first try is 1.
    """

    def __init__(
        self, experiment: epyc.Experiment, facts: dict[str, Any], attempt: int = 1
    ) -> None:
        self._experiment = experiment
        self._facts = {**facts, "labkit.attempt": attempt}

    def run(self, parameters: dict[str, Any], key: str, capture: Capture) -> Run:
        """Run the experiment at a point. Whatever it raises is a failed outcome.

        Parameters
        ----------
        parameters : dict
            The point.
        key : str
            Its key.
        capture : Capture
            Gathers what the run prints.
        """
        _reset_peak_memory()
        cpu = time.process_time()
        try:
            outcome = self._experiment.set(dict(parameters)).run()
            singles = list(flatten(outcome))
        except (Exception, SystemExit) as e:
            outcome = failure(parameters, e)
            singles = [outcome]
        facts = {
            **self._facts,
            KEY: key,
            "labkit.cpu_time": time.process_time() - cpu,
            "labkit.peak_memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RUSAGE_UNIT,
        }
        for single in singles:
            single[METADATA].update(facts)
        return Run(outcome, capture.take())


@functools.cache
def _clear_refs() -> int | None:
    try:
        return os.open("/proc/self/clear_refs", os.O_WRONLY)
    except OSError:
        return None


# /proc/self of a file that was opened before a fork is the parent
os.register_at_fork(after_in_child=_clear_refs.cache_clear)


def _reset_peak_memory() -> None:
    """Let the peak of the resident memory count from now on, where the system can do that."""
    descriptor = _clear_refs()
    if descriptor is not None:
        # proc(5): 5 resets the peak resident set size
        os.write(descriptor, b"5")
