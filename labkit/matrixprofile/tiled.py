"""Matrix profiles in a lab: experiments whose points are tiles of the distance matrix."""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labkit import point
from labkit.attachment import Attachment
from labkit.engine.threads import processors
from labkit.errors import MissingTilesError, SeriesError
from labkit.experiment import Experiment, identity
from labkit.matrixprofile import joins, tiles
from labkit.matrixprofile.core.statistics import SMALLEST_NORM, summarise
from labkit.matrixprofile.kinds import Part, Tile, kind_of
from labkit.matrixprofile.query import Kind, Precision, Query, Sides, ask
from labkit.matrixprofile.series import Exclusion, as_series, as_window
from labkit.notebook import LabNotebook
from labkit.outcome import KEY, METADATA, RESULTS
from labkit.parameter import Parameter, Range

__all__ = ["ABJoin", "SelfJoin"]

LARGEST_INT32 = 2**31 - 1

STRIDE = 2**20
"""Samples that are looked at together: there may be more than memory has room for."""


class _TiledJoin(Experiment):
    """What both joins have in common."""

    version = 1
    tile = Parameter([0], doc="which tile of the distance matrix")

    _query: Query
    _a: Attachment
    _b: Attachment
    _side: int
    _threads: int | None
    _tiles: list[Tile] | None

    def _set_up(
        self,
        query: Query,
        series: tuple[Attachment, Attachment],
        side: int | None,
        threads: int | None,
        engines: int | None,
    ) -> None:
        self._query, (self._a, self._b) = query, series
        for attached in {attachment.digest: attachment for attachment in series}.values():
            _refuse_underflow(attached.array, query.window)
        self._threads = joins.checked_threads(threads)
        engines = _checked("engines", engines, "how many will compute")
        self._side = _checked("tile", side, "the number of windows along its side") or (
            tiles.side_for(query, engines or processors())
        )
        self._tiles = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave the tiles behind: an engine can cut them itself, and there can be thousands."""
        return {**vars(self), "_tiles": None}

    def identity(self) -> str:
        """Name the class, and by a digest the series, the options and the cut into tiles."""
        return f"{super().identity()}({self.digest(self._side)})"

    def digest(self, *more: object) -> str:
        """Return a digest of the series and the options, whatever the tiles, and of what else."""
        about = repr((self._a.digest, self._b.digest, self._query, *more))
        return hashlib.blake2b(about.encode(), digest_size=16).hexdigest()

    @property
    def side(self) -> int:
        """How many windows there are along a side of a tile; another one cuts others."""
        return self._side

    @side.setter
    def side(self, windows: int) -> None:
        self._side, self._tiles = windows, None

    def space(self) -> dict[str, list[Any] | Range]:
        """Return the numbers of the tiles."""
        return {"tile": list(range(len(self.tiles())))}

    def tiles(self) -> list[Tile]:
        """Return the tiles; a point is the number of one."""
        if self._tiles is None:
            self._tiles = tiles.cut(self._query, self._side)
        return self._tiles

    def do(self, params: dict[str, Any]) -> dict[str, Any]:
        """Compute a tile.

        Parameters
        ----------
        params : dict
            ``tile``: its number.

        Returns
        -------
        dict
            Arrays for the windows of its rows and columns, by the kind of matrix profile, and
            ``cells`` (int): the area of the tile.
        """
        tile = self.tiles()[params["tile"]]
        part = joins.compute(self._query, self._a.array, self._b.array, tile, threads=self._threads)
        area = (tile.bottom - tile.top) * (tile.right - tile.left)
        return {**_narrowed(part), "cells": area}

    def result(
        self, notebook: LabNotebook, tag: str | None = None, *, partial: bool = False
    ) -> Any:
        """Put together what the tiles have given.

        Parameters
        ----------
        notebook : LabNotebook
            Where their outcomes are.
        tag : str, optional
            In which result set; by default in the current one.
        partial : bool
            Take what there is. Then each distance is an upper bound of the final one; a
            correlation is a lower bound, and a sum lacks what is missing.

        Returns
        -------
        distance, index or others
            What :func:`labkit.matrixprofile.selfjoin` or
            :func:`labkit.matrixprofile.abjoin` would return. It does not depend on the order
            of the tiles, or on who has computed them; only engines with different vector
            registers may, as they estimate differently, decide a near tie differently, and
            differ in the last digits of a sum.

        Raises
        ------
        MissingTilesError
            When tiles are missing, unless ``partial``.
        """
        kind = kind_of(self._query)
        whole = kind.begin()
        missing = set(range(len(self.tiles())))
        for number, part in self._parts(notebook, tag):
            # once each: sums would count a tile twice
            if number in missing:
                missing.discard(number)
                kind.put(whole, part, self.tiles()[number])
        if missing and not partial:
            raise MissingTilesError(sorted(missing), len(self.tiles()))
        return joins.finish(self._query, whole, self._a.array, self._b.array)

    def _parts(self, notebook: LabNotebook, tag: str | None) -> Iterator[tuple[int, Part]]:
        key_of = point.keys(identity(self), self.version)
        keys = {key_of({"tile": number}): number for number in range(len(self.tiles()))}
        results = notebook.resultSet(tag) if tag is not None else notebook.current()
        for outcome in results.iter_results(keys):
            if outcome[METADATA][Experiment.STATUS]:
                yield keys[outcome[METADATA][KEY]], outcome[RESULTS]


class SelfJoin(_TiledJoin):
    """A self-join, tile by tile: :func:`labkit.matrixprofile.selfjoin` for a lab.

    ::

        job = SelfJoin(series, 100)
        lab.runExperiment(job, only="missing")
        lab.wait()
        distance, index = job.result(lab.notebook())

    The series travels to each host once. The notebook keeps what each tile gave, so that a
    run that was broken off goes on with the tiles that are missing.

    Parameters
    ----------
    series : array_like, shape (n,)
        Samples, as in :func:`labkit.matrixprofile.selfjoin`; a memory map of float64 may be
        larger than memory, others are copied.
    window : int
        Subsequence length m in samples, 3 <= m <= n.
    kind, k, threshold, shape, exclusion, correlation, sides, precision
        As in :func:`labkit.matrixprofile.selfjoin`.
    tile : int, optional
        Windows along a side of a tile. By default it is chosen from the length of the series,
        the engines, and how fast a processor here is measured to be. Another side makes other
        points: what was computed before is not theirs.
    threads : int, optional
        Of each tile; None for all that an engine may use. One by default, as there are many
        engines.
    engines : int, optional
        How many will compute, such as ``lab.numberOfEngines()``; by default as many as this
        process may use processors. It only matters for the tiles' side.

    Raises
    ------
    SeriesError
        For a series, window or option that cannot be used; the message says what to do.

    Examples
    --------
    >>> import numpy as np
    >>> from labkit import Lab
    >>> job = SelfJoin(np.random.default_rng(1).normal(size=500).cumsum(), 20, tile=200)
    >>> len(job.tiles())
    6
    >>> lab = Lab()
    >>> lab.runExperiment(job)
    >>> distance, index = job.result(lab.notebook())
    >>> distance.shape
    (481,)
    """

    def __init__(  # noqa: PLR0913  # the options of a join
        self,
        series: ArrayLike,
        window: int,
        *,
        kind: Kind = "1nn",
        k: int | None = None,
        threshold: float | None = None,
        shape: Sequence[int] | None = None,
        exclusion: Exclusion = "stumpy",
        correlation: bool = False,
        sides: Sides = "one",
        precision: Precision = "double",
        tile: int | None = None,
        threads: int | None = 1,
        engines: int | None = None,
    ) -> None:
        super().__init__()
        values = as_series(series)
        window = as_window(window, values.size)
        query = ask(
            window,
            values.size - window + 1,
            values.size - window + 1,
            is_self=True,
            kind=kind,
            k=k,
            threshold=threshold,
            shape=shape,
            exclusion=exclusion,
            correlation=correlation,
            sides=sides,
            aligned=False,
            precision=precision,
        )
        attached = Attachment(values)
        self._set_up(query, (attached, attached), tile, threads, engines)


class ABJoin(_TiledJoin):
    """A join of two series, tile by tile: :func:`labkit.matrixprofile.abjoin` for a lab.

    Parameters
    ----------
    a, b : array_like, shapes (n,) and (k,)
        Samples, as in :class:`SelfJoin`.
    window : int
        Subsequence length m in samples, 3 <= m <= min(n, k).
    kind, k, threshold, shape, exclusion, correlation, sides, aligned, precision
        As in :func:`labkit.matrixprofile.abjoin`.
    tile, threads, engines
        As in :class:`SelfJoin`.

    Raises
    ------
    SeriesError
        For a series, window or option that cannot be used; the message says what to do.

    Examples
    --------
    >>> import numpy as np
    >>> from labkit import Lab
    >>> walks = np.random.default_rng(1).normal(size=(2, 300)).cumsum(axis=1)
    >>> job, lab = ABJoin(*walks, 20, kind="sum", tile=150), Lab()
    >>> lab.runExperiment(job)
    >>> job.result(lab.notebook()).shape
    (281,)
    """

    def __init__(  # noqa: PLR0913  # the options of a join
        self,
        a: ArrayLike,
        b: ArrayLike,
        window: int,
        *,
        kind: Kind = "1nn",
        k: int | None = None,
        threshold: float | None = None,
        shape: Sequence[int] | None = None,
        exclusion: Exclusion | None = None,
        correlation: bool = False,
        sides: Sides = "one",
        aligned: bool = False,
        precision: Precision = "double",
        tile: int | None = None,
        threads: int | None = 1,
        engines: int | None = None,
    ) -> None:
        super().__init__()
        values_a, values_b = as_series(a, "a"), as_series(b, "b")
        window = as_window(window, values_a.size, values_b.size)
        query = ask(
            window,
            values_a.size - window + 1,
            values_b.size - window + 1,
            is_self=False,
            kind=kind,
            k=k,
            threshold=threshold,
            shape=shape,
            exclusion=exclusion,
            correlation=correlation,
            sides=sides,
            aligned=aligned,
            precision=precision,
        )
        attached = Attachment(values_a), Attachment(values_b)
        self._set_up(query, attached, tile, threads, engines)


def _refuse_underflow(series: NDArray[np.float64], window: int) -> None:
    """Raise what the join in one process would raise: here, before any work starts."""
    largest, smallest_step = 0.0, np.inf
    for start in range(0, series.size, STRIDE):
        samples = series[start : start + STRIDE + 1]
        samples = samples[np.isfinite(samples)]
        with np.errstate(over="ignore"):
            steps = np.abs(np.diff(samples))
        largest = np.abs(samples).max(initial=largest)
        smallest_step = steps[steps > 0].min(initial=smallest_step)
    # a window's norm is at least 0.7 of a step in it; so this is nearly always enough
    if smallest_step < 4 * SMALLEST_NORM * largest:
        summarise(series, window)


def _checked(option: str, given: int | None, meaning: str) -> int | None:
    if given is None:
        return None
    try:
        number = operator.index(given)
    except TypeError:
        number = 0
    if number < 1 or isinstance(given, bool):
        raise SeriesError(f"{option} is {given!r}; pass {meaning}, 1 or more")
    return number


def _narrowed(part: Part) -> Part:
    """Let indices take four bytes where they fit: most of what travels are such arrays."""
    return {
        name: array.astype(np.int32)
        if array.dtype == np.int64 and array.max(initial=0) <= LARGEST_INT32
        else array
        for name, array in part.items()
    }
