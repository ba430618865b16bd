"""Running an experiment as the command line asks for it, and what came of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import epyc

from labkit.cli.census import Census, census, estimate
from labkit.cli.glance import Failure, Glance
from labkit.cli.group import INTERRUPTED
from labkit.cli.interruption import Interruption
from labkit.cli.opening import reading
from labkit.engine.threads import processors
from labkit.errors import (
    ClusterError,
    ClusterStartError,
    ParameterError,
    UnknownParameterError,
    suggestion,
)
from labkit.experiment import space
from labkit.labs.lab import Lab
from labkit.labs.sweep import blocks_of_pairs, plan
from labkit.notebook import LabNotebook, ResultSet, SQLiteLabNotebook

__all__ = ["Forecast", "Place", "Report", "Request", "forecast", "run"]


@dataclass(frozen=True, slots=True)
class Request:
    """What is to run, and where its outcomes go."""

    experiment: epyc.Experiment
    """The experiment."""
    notebook: Path
    """The notebook's file; it is made when there is work to do."""
    ranges: Mapping[str, list[Any]] = field(default_factory=dict)
    """Values of parameters, over those that are declared."""
    tag: str | None = None
    """The result set; None for the notebook's current one."""
    only: str = "missing"
    """Which points, as ``lab.runExperiment`` takes it."""
    timeout_s: float | None = None
    """How long a point may run."""
    chunk: int | None = None
    """How many points an engine is given at a time; None to learn it."""

    def keys(self) -> list[str]:
        """Return the keys of all points.

        Raises
        ------
        UnknownParameterError
            When a parameter was set that a declared space does not have.
        ParameterError, DesignException
            When there are no points, or there can be none.
        """
        known = space(self.experiment)
        for name in self.ranges:
            if known and name not in known:
                raise UnknownParameterError(
                    f"{type(self.experiment).__name__} declares no parameter "
                    f"{name}{suggestion(name, known)}"
                )
        if not known and not self.ranges:
            raise ParameterError(
                f"{type(self.experiment).__name__} declares no parameters: "
                "name one by --set, such as --set x=1,2,3"
            )
        pairs = self.prepare(Lab()).experiments(self.experiment)
        return [key for key, _ in plan(blocks_of_pairs(pairs), "all", ResultSet()).points()]

    def prepare(self, lab: Lab) -> Lab:
        """Give a lab the ranges, and return it."""
        for name, values in self.ranges.items():
            lab[name] = values
        return lab


@dataclass(frozen=True, slots=True)
class Place:
    """Where points run: by default on this machine, an engine a core."""

    engines: int | None = None
    """So many engines of an own cluster."""
    profile: str | None = None
    """The IPython profile of a cluster that runs."""
    serial: bool = False
    """In this process."""

    def width(self, points: int) -> int | None:
        """Return how many engines will work on so many points; None when only the profile knows."""
        if self.profile is not None:
            return None
        wanted = 1 if self.serial else self.engines or processors()
        return max(1, min(wanted, points))

    def lab(self, notebook: LabNotebook, points: int) -> Lab:
        """Return a lab; it starts an own cluster, or connects to the profile's."""
        if self.serial:
            return Lab(notebook)
        from labkit.labs.clusterlab import ClusterLab

        if self.profile is not None:
            return ClusterLab(notebook, profile=self.profile)
        return ClusterLab(notebook, n=self.width(points))

    def words(self, points: int) -> str:
        """Say where so many points run."""
        if self.serial:
            return "in this process"
        if self.profile is not None:
            return f"on the cluster of profile {self.profile}"
        engines = self.width(points)
        return "on one engine" if engines == 1 else f"on {engines} engines"


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a request would meet."""

    request: Request
    """The request."""
    tag: str
    """The result set."""
    census: Census
    """The points."""
    points: int
    """How many would run."""
    estimate: str
    """How long that may take."""


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a request."""

    request: Request
    """The request."""
    tag: str
    """The result set."""
    before: Census
    """The points, before."""
    after: Census
    """The points, now."""
    points: int = 0
    """How many there were to run."""
    failures: list[Failure] = field(default_factory=list)
    """The runs that failed."""
    seconds: float = 0.0
    """How long it took."""
    interrupted: bool = False
    """Whether Ctrl-C ended it."""
    trouble: str = ""
    """What ended it, if something else did."""

    @property
    def exit_status(self) -> int:
        """0 when all succeeded, 1 when something is missing, 130 when it was interrupted."""
        if self.interrupted:
            return INTERRUPTED
        left_out = self.after.untried + self.after.pending if self.request.only != "failed" else 0
        return 1 if self.failures or self.trouble or left_out else 0


def run(request: Request, place: Place, tell: Callable[[str], object]) -> Report:
    """Run the points that a request asks for.

    Parameters
    ----------
    request, place : Request, Place
        What, and where.
    tell : callable
        Is told what begins.

    Raises
    ------
    LabkitError
        When that cannot be: before anything runs.
    """
    keys = request.keys()
    tag, before, *_ = _known(request, keys)
    points = before.chosen(request.only)
    if not points:
        return Report(request, tag, before, before)
    with _writing(request) as notebook:
        tag = notebook.currentTag()
        with Glance(request.notebook, tag) as glance:
            newest = glance.newest()
        started, trouble = time.monotonic(), ""
        with Interruption() as interruption:
            tell(f"Running {points:,} point{'s' * (points != 1)} {place.words(points)}")
            with place.lab(notebook, points) as lab:
                interruption.guard(lab)
                trouble = _work(request, lab, interruption)
        seconds = time.monotonic() - started
        after = census(keys, notebook.resultSet(tag))
    with Glance(request.notebook, tag) as glance:
        failures = glance.failures(since=newest)
    return Report(
        request, tag, before, after, points, failures, seconds, interruption.happened, trouble
    )


def _work(request: Request, lab: Lab, interruption: Interruption) -> str:
    request.prepare(lab).runExperiment(
        request.experiment, request.only, timeout=request.timeout_s, chunk=request.chunk
    )
    if interruption.happened:
        # a lab begins anew with each experiment, and may have forgotten
        lab.drain()
    try:
        lab.wait()
    except ClusterError as e:
        return str(e)
    except KeyboardInterrupt:
        lab.abandon()
        raise
    return ""


@contextmanager
def _writing(request: Request) -> Iterator[SQLiteLabNotebook]:
    """Open the notebook to write it, with the result set selected or added."""
    is_new = not request.notebook.exists()
    description = _first_line(request.experiment) if is_new else None
    notebook = SQLiteLabNotebook(request.notebook, description=description)
    try:
        with notebook.open():
            tag = request.tag
            if tag is not None and tag not in notebook:
                notebook.addResultSet(tag)
            elif tag is not None:
                notebook.select(tag)
            notebook.assertWritable()
            yield notebook
    except ClusterStartError:
        if is_new:
            request.notebook.unlink()
        raise


def _first_line(e: epyc.Experiment) -> str | None:
    documented = vars(type(e)).get("__doc__") or ""
    return documented.strip().partition("\n")[0] or None


def forecast(request: Request, place: Place) -> Forecast:
    """Return what a request would meet; nothing is started or written.

    Raises
    ------
    LabkitError
        When it could not be run.
    """
    keys = request.keys()
    tag, found, runs, seconds = _known(request, keys)
    points = found.chosen(request.only)
    return Forecast(
        request, tag, found, points, estimate(points, runs, seconds, place.width(points))
    )


def _known(request: Request, keys: Sequence[str]) -> tuple[str, Census, int, float]:
    """Return result set, points, how many runs succeeded, and their mean time in seconds."""
    tag, rs, runs, seconds = request.tag or LabNotebook.DEFAULT_RESULTSET, ResultSet(), 0, 0.0
    with ExitStack() as stack:
        if request.notebook.exists():
            notebook = stack.enter_context(reading(request.notebook))
            tag = request.tag or notebook.currentTag()
            if tag in notebook:
                rs = notebook.resultSet(tag)
                runs, seconds = stack.enter_context(Glance(request.notebook, tag)).elapsed()
        return tag, census(keys, rs), runs, seconds
