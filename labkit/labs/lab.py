"""A lab in this process, and what all labs have in common."""

from __future__ import annotations

import contextlib
import difflib
import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Self

import epyc

from labkit.designs import FactorialDesign, columns_of
from labkit.engine.capture import Capture
from labkit.engine.runner import Runner
from labkit.errors import (
    DesignException,
    ExperimentError,
    NotebookInUseError,
    ParameterError,
    SourceChangedWarning,
    UnknownParameterError,
    suggestion,
)
from labkit.experiment import declared, space
from labkit.garbage import uncollected
from labkit.labs.leftovers import Leftovers
from labkit.labs.progress import Progress
from labkit.labs.recording import Recorder
from labkit.labs.sweep import (
    ONLY,
    Block,
    Group,
    Sweep,
    blocks_of_columns,
    blocks_of_pairs,
    plan,
)
from labkit.notebook import LabNotebook
from labkit.outcome import ATTEMPT
from labkit.parameter import values
from labkit.provenance import of_process

if TYPE_CHECKING:
    from labkit.designs import Design
    from labkit.notebook import ResultSet

__all__ = ["Lab", "checked_chunk"]

logger = logging.getLogger(__name__)


class Lab(epyc.Lab):
    """Runs experiments in this process, one point after another.

    Parameters
    ----------
    notebook : LabNotebook, optional
        Where outcomes go; by default into memory.
    design : Design, optional
        What turns ranges into points; by default all combinations.

    Attributes
    ----------
    progress : bool or None
        Show a progress bar; None where somebody looks: a terminal, or Jupyter.

    Examples
    --------
    >>> from labkit import Experiment, Lab
    >>> class Square(Experiment):
    ...     def do(self, params):
    ...         return {"y": params["x"] ** 2}
    >>> lab = Lab()
    >>> lab["x"] = range(4)
    >>> lab.runExperiment(Square())
    >>> sorted(lab.dataframe()["y"])
    [0, 1, 4, 9]
    """

    progress: bool | None = None

    _notebook: LabNotebook
    _design: Design

    def __init__(self, notebook: LabNotebook | None = None, design: Design | None = None) -> None:
        if not isinstance(notebook, LabNotebook | None):
            raise ParameterError(
                f"a lab writes a notebook of labkit's, not {notebook!r}: "
                "for example labkit.SQLiteLabNotebook('walks.db')"
            )
        if not isinstance(design, epyc.Design | None):
            raise DesignException(
                f"design={design!r} is no design: for example labkit.SobolDesign(n=64)"
            )
        # not super(): epyc's other labs are beside this class, with constructors of their own
        epyc.Lab.__init__(
            self,
            LabNotebook() if notebook is None else notebook,
            FactorialDesign() if design is None else design,
        )
        self._is_draining = False
        self._warned: set[tuple[Any, ...]] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def notebook(self) -> LabNotebook:
        """Return the notebook."""
        return self._notebook

    def close(self) -> None:
        """Close the notebook: it is free for another writer, and can be used again."""
        self.notebook().close()

    # ---------- parameters ----------

    def addParameter(self, k: str, r: Any) -> None:
        """Set the range of a parameter: a value, an iterable, or a :class:`labkit.Range`.

        Raises
        ------
        ParameterError
            When the range is empty, or the name is no text.
        """
        if not isinstance(k, str):
            raise ParameterError(f"the name of a parameter must be text, not {k!r}")
        self._parameters[k] = values(k, r)

    def __getitem__(self, k: str) -> Any:
        try:
            return self._parameters[k]
        except KeyError:
            known = suggestion(str(k), self._parameters)
            raise UnknownParameterError(f"the lab has no parameter {k}{known}") from None

    def experiments(
        self, e: epyc.Experiment | None
    ) -> list[tuple[epyc.Experiment, dict[str, Any]]]:
        """Return all points, each with the experiment to run there.

        The ranges are those of the experiment's space; the lab's own override and extend
        them.

        Raises
        ------
        DesignException
            When the ranges do not fit the design.
        """
        pairs: list[tuple[epyc.Experiment, dict[str, Any]]]
        pairs = self._design.experiments(e, self._ranges(e))
        return pairs

    def _blocks(self, e: epyc.Experiment) -> Iterator[Block]:
        """Return all points, as columns where the design tells them so."""
        if getattr(self.experiments, "__func__", None) is not _EXPERIMENTS:
            # a user's, which may choose among the points
            return blocks_of_pairs(self.experiments(e))
        ranges = self._ranges(e)
        columns = columns_of(self._design, ranges)
        if columns is None:
            return blocks_of_pairs(self._design.experiments(e, ranges))
        return blocks_of_columns(e, columns)

    def _ranges(self, e: epyc.Experiment | None) -> dict[str, Any]:
        """Return the values of each parameter; warn of one that may be a slip."""
        ranges = {} if e is None else space(e)
        for name in self._parameters.keys() - ranges.keys() if ranges else ():
            close = difflib.get_close_matches(name, ranges, n=1)
            if close:
                warnings.warn(
                    f"{type(e).__qualname__} declares {close[0]}, and the lab has {name} besides: "
                    f"if that is a slip, del lab[{name!r}]",
                    stacklevel=_outside(),
                )
        return ranges | self._parameters

    # ---------- running ----------

    def runExperiment(
        self,
        e: epyc.Experiment,
        only: str = "all",
        *,
        timeout: float | None = None,
        chunk: int | None = None,
    ) -> None:
        """Run an experiment at the points of its space.

        Parameters
        ----------
        e : Experiment
            What to run.
        only : {"all", "missing", "failed"}
            Which points: all; those without a successful outcome in the current result
            set; or those whose outcomes have all failed.
        timeout : float, optional
            How long a point may run, in seconds: then it is stopped, also inside C code, and
            recorded as failed. A lab that runs points in this process cannot do that.
        chunk : int, optional
            How many points an engine is given at a time. By default, labs learn what a point
            costs. Nothing changes where points run in this process.

        Raises
        ------
        ParameterError, DesignException, ExperimentError
            When the space, the experiment or an option cannot be used.
        NotebookInUseError, LabNotebookLockedException, ResultSetLockedException
            When outcomes could not be written. All these come before any work starts.
        """
        timeout_s, chunk = self._limits(timeout, chunk)
        self.notebook().assertWritable()
        self._is_draining = False
        if only != "all":
            self._settle()
        sweep = self._plan(e, only)
        if not len(sweep):
            if only == "all":
                logger.warning("%s has no parameters, and so no points", type(e).__qualname__)
            return
        sweep.timeout_s, sweep.chunk = timeout_s, chunk
        self._run(sweep)

    def _limits(self, timeout: float | None, chunk: int | None) -> tuple[float | None, int | None]:
        """Return the options of a run.

        Raises
        ------
        ParameterError
            When they cannot be used here.
        """
        if timeout is not None:
            raise ParameterError(
                f"timeout={timeout!r}: {type(self).__name__} runs points in this process, and "
                "cannot stop one; ParallelLab and ClusterLab can"
            )
        return None, checked_chunk(chunk)

    def _plan(self, e: Any, only: str) -> Sweep:
        if not isinstance(e, epyc.Experiment):
            made = f"; make one: {e.__name__}()" if isinstance(e, type) else ""
            raise ExperimentError(f"runExperiment takes an experiment, not {e!r}{made}")
        if only not in ONLY:
            raise ParameterError(f"only={only!r}{suggestion(str(only), ONLY)}")
        rs = self.notebook().current()
        with uncollected():
            sweep = plan(self._blocks(e), only, rs)
        for group in sweep.groups:
            self._warn_if_changed(group.facts, rs)
        sweep.groups = [group for group in sweep.groups if group.points]
        _note_declarations(e, rs)
        return sweep

    def _warn_if_changed(self, facts: dict[str, Any], rs: ResultSet) -> None:
        """Warn, once, when outcomes of the same version come from another source."""
        described = (facts[f"labkit.{k}"] for k in ("experiment", "experiment_version", "source"))
        name, version, source = mark = tuple(described)
        known = rs.source_digests(name, version)
        if source and known and source not in known and mark not in self._warned:
            self._warned.add(mark)
            warnings.warn(
                f"the source of {name} is not that of the earlier outcomes of version "
                f"{version!r}: if it computes something else now, give the class another version",
                SourceChangedWarning,
                stacklevel=_outside(),
            )

    def _settle(self) -> None:
        """Take what has arrived, and find out what is pending in vain: its cluster has ended."""
        if self.notebook().anyPending():
            Leftovers(self.notebook(), "", set()).tidy()

    def missing(self, e: epyc.Experiment) -> list[dict[str, Any]]:
        """Return the points without a successful outcome in the current result set.

        Points that are pending are not missing.

        Raises
        ------
        ParameterError, DesignException
            When the space cannot be used.
        """
        with contextlib.suppress(NotebookInUseError):  # its writer settles that
            self._settle()
        sweep = plan(self._blocks(e), "missing", self.notebook().current())
        return [parameters for _, parameters in sweep.points()]

    def _run(self, sweep: Sweep) -> None:
        try:
            with (
                Progress(len(sweep), self.progress) as bar,
                Capture(echo=True, aside=bar.aside) as capture,
            ):
                for group in sweep.groups:
                    self._run_group(sweep, group, capture, bar)
        finally:
            self.notebook().commit()

    def _run_group(self, sweep: Sweep, group: Group, capture: Capture, bar: Progress) -> None:
        notebook = self.notebook()
        runner = Runner(group.experiment)
        facts = {**group.facts, **of_process(), ATTEMPT: 1}
        with Recorder(notebook, notebook.currentTag(), sweep.name, facts) as recorder:
            for number, (key, parameters) in enumerate(group.points, group.first):
                if self._is_draining:
                    return
                run = runner.run(parameters, key, capture)
                recorder.add(number, run)
                bar.add(1, int(run.has_failed))

    def drain(self) -> None:
        """Finish the points that are running, and begin no others.

        May be called from a signal handler or another thread. What was not begun is
        missing, and ``runExperiment(e, only="missing")`` goes on with it.
        """
        self._is_draining = True

    def abandon(self) -> None:
        """Let go of all that is under way. In this process, nothing is."""

    def cancel(self, tag: str | None = None, params: Mapping[str, Any] | None = None) -> int:
        """Give up what is pending. Here nothing is: ``runExperiment`` returns when all is done.

        See :meth:`labkit.ClusterLab.cancel`.
        """
        return 0

    def wait(self, timeout: float = -1) -> bool:
        """Wait until nothing is pending.

        Parameters
        ----------
        timeout : float
            In seconds; negative waits for ever.

        Returns
        -------
        bool
            Whether everything is there.
        """
        return bool(self.notebook().numberOfAllPendingResults() == 0)

    def createWith(  # noqa: PLR0913, PLR0917  # epyc's arguments, in epyc's order
        self,
        tag: str,
        f: Callable[[Any], Any],
        description: str | None = None,
        propagate: bool = True,
        delete: bool = True,
        finish: bool = False,
        deleteAllParameters: bool = True,  # noqa: N803
    ) -> bool:
        """Make sure that a result set exists: select it, or create it and call a function.

        Parameters
        ----------
        tag, description : str
            The result set.
        f : callable
            Called with the lab when the result set is new; it runs the experiments.
        propagate : bool
            Raise what the function raises; else return False.
        delete : bool
            Delete the result set when the function raises.
        finish : bool
            Wait for all results, then lock the result set.
        deleteAllParameters : bool
            Clear the lab's parameters before the function is called.

        Returns
        -------
        bool
            Whether the result set is there.
        """
        is_new = tag not in self.notebook()
        created = super().createWith(
            tag, f, description, propagate, delete, False, deleteAllParameters
        )
        if created and is_new and finish:
            self.wait()
            self.notebook().resultSet(tag).finish()
            self.notebook().commit()
        return bool(created)


#: What gives the points of the design, and no others.
_EXPERIMENTS = Lab.experiments


def _outside() -> int:
    """Return how many calls above this one's caller labkit was called, as warnings count it."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and _is_ours(frame):
        level, frame = level + 1, frame.f_back
    return level


def _is_ours(frame: FrameType) -> bool:
    name: str = frame.f_globals.get("__name__", "")
    return name.partition(".")[0] == "labkit"


def checked_chunk(chunk: Any) -> int | None:
    """Return a number of points.

    Raises
    ------
    ParameterError
        When it is none.
    """
    if chunk is None or (isinstance(chunk, int) and not isinstance(chunk, bool) and chunk > 0):
        return chunk
    raise ParameterError(f"chunk={chunk!r} is no number of points: 1 or more, or None")


def _note_declarations(e: epyc.Experiment, rs: Any) -> None:
    """Keep units and meanings of the parameters with the results, for tables and pictures."""
    for attribute, word in (("labkit.units", "unit"), ("labkit.docs", "doc")):
        noted = {n: getattr(p, word) for n, p in declared(e).items() if getattr(p, word)}
        if noted and (attribute not in rs or rs[attribute] != noted):
            rs[attribute] = noted
