"""One run of a point, in whatever process: its outcome, its cost, what it printed."""

from __future__ import annotations

import functools
import os
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import epyc

from labkit.batch import Batch
from labkit.engine.capture import Capture
from labkit.experiment import Experiment
from labkit.outcome import KEY, METADATA, Outcome, failure, flatten

__all__ = ["Run", "Runner", "batch_of"]

#: getrusage counts kilobytes, but bytes on macOS.
_RUSAGE_UNIT = 1 if sys.platform == "darwin" else 1024

#: The peak of memory counts anew no more often than this, in seconds of processor time: for quick
#: points that would take a tenth of all, and in so little time no large memory is filled.
_RESET_S = 1e-3


class Run(NamedTuple):
    """What one run gave."""

    outcomes: list[Outcome]
    """Its single outcomes: several for repetitions."""
    log: str
    """What it printed and logged."""

    @property
    def has_failed(self) -> bool:
        """Whether an outcome failed."""
        return not all(single[METADATA].get(Experiment.STATUS) for single in self.outcomes)


def batch_of(sweep: str, runs: Sequence[tuple[int, Run]], facts: Mapping[str, Any]) -> Batch:
    """Return runs of a sweep as a batch: the number of each point, and its run."""
    batch = Batch.of(sweep, [(number, run.outcomes) for number, run in runs], facts)
    batch.logs = {number: run.log for number, run in runs if run.log}
    return batch


class Runner:
    """Runs one experiment at many points.

    Parameters
    ----------
    experiment : epyc.Experiment
        Ours, or one written for epyc.
    """

    def __init__(self, experiment: epyc.Experiment) -> None:
        self._experiment = experiment
        self._reset_next = 0.0

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
        cpu_before = time.process_time()
        if cpu_before > self._reset_next:
            _reset_peak_memory()
            cpu_before = time.process_time()
            self._reset_next = cpu_before + _RESET_S
        try:
            outcomes = flatten(self._experiment.set(dict(parameters)).run())
        except (Exception, SystemExit) as e:
            outcomes = [failure(parameters, e)]
        used = resource.getrusage(resource.RUSAGE_SELF)
        # in microseconds, and so perhaps below what was before
        cpu_time = max(used.ru_utime + used.ru_stime - cpu_before, 0.0)
        for single in outcomes:
            metadata = single[METADATA]
            metadata[KEY] = key
            metadata["labkit.cpu_time"] = cpu_time
            metadata["labkit.peak_memory"] = used.ru_maxrss * _RUSAGE_UNIT
        return Run(outcomes, capture.take())


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
