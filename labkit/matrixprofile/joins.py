"""Matrix profiles: the nearest neighbours of each window, in one series or in another."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labkit.errors import SeriesError
from labkit.matrixprofile.flat import outline
from labkit.matrixprofile.kinds import Part, Tile, kind_of
from labkit.matrixprofile.query import Kind, Precision, Query, Sides, ask
from labkit.matrixprofile.series import Exclusion, as_series, as_window

__all__ = ["abjoin", "checked_threads", "compute", "finish", "selfjoin"]

Array = NDArray[np.float64]
Progress = Callable[[float], object]


def selfjoin(  # noqa: PLR0913  # the options of a join
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
    threads: int | None = None,
    precision: Precision = "double",
    progress: Progress | None = None,
) -> Any:
    """Compare each window of a series with all others: the matrix profile.

    Parameters
    ----------
    series : array_like, shape (n,)
        Samples of any real numeric or bool dtype, in any unit. NaN, infinities and
        missing values are gaps.
    window : int
        Subsequence length m in samples, 3 <= m <= n. There are w = n - m + 1 windows.
    kind : str
        What to compute; see Returns.
    k : int, optional
        For ``"knn"``: how many neighbours; 1 by default.
    threshold : float, optional
        A correlation, -1 to 1. ``"sum"`` adds up those above it (default 0), ``"knn"``
        takes neighbours above it, ``"summary"`` shows what is not below it.
    shape : (int, int), optional
        For ``"summary"``: its height and width.
    exclusion : int, "stumpy" or "scamp"
        How near two windows may not be to count as a match: a number ``z`` excludes
        ``|i - j| <= z``, ``"stumpy"`` ``|i - j| <= ceil(m / 4)``, ``"scamp"``
        ``|i - j| < m // 4``.
    correlation : bool
        Give Pearson's correlations in place of distances, and NaN where there is none.
    sides : "one" or "both"
        ``"both"`` gives two results: of the neighbours before, and of those behind.
    threads : int, optional
        By default as many as this process may use processors. The result is the same.
    precision : "double" or "single"
        ``"single"`` is twice as fast and good for a preview: the distances are those of
        the neighbours it gives, but a nearer one may have been overlooked.
    progress : callable, optional
        Called in this thread with the part that is done, above 0 to 1.

    Returns
    -------
    distance, index : ndarrays of float64 and int64, shape (w,)
        ``kind="1nn"``: z-normalised Euclidean distance to the nearest neighbour, without
        unit, 0 to ``2 sqrt(m)``, inf where there is none; and where that window starts, -1
        where there is none. Of several that are exactly as near, the smallest: see Notes.
    distance : ndarray of float64, shape (w,)
        ``kind="1nn_only"``: without the index.
    distance, index : ndarrays of float64 and int64, shape (w, k)
        ``kind="knn"``: the k nearest, the nearest first.
    total : ndarray of float64, shape (w,)
        ``kind="sum"``: the correlations above the threshold, added up.
    matrix : ndarray of float64, shape (height, width)
        ``kind="summary"``: the smallest distance (or largest correlation) in each cell of
        the distance matrix, pooled; NaN where there is none. Only the upper triangle is filled.

    Raises
    ------
    SeriesError
        For a series, window or option that cannot be used; the message says what to do. A
        sentinel such as 1e200 in a series near 1 is none: replace it by NaN.

    Notes
    -----
    A window with a gap matches nothing. Two flat windows are at distance 0, a flat one
    and another at ``sqrt(m)``.

    The distances are within 1e-9 of the exact ones, whatever the level and the range of the
    series: a recurrence finds the neighbours, the distance to each is summed over its two
    windows, and where the recurrence leaves a doubt, every neighbour in question is. The sum
    is the recurrence's: a correlation within some 1e-12 of the threshold may count or not.

    Of neighbours that are exactly as near, the smallest index is given: always among windows
    that repeat, and among all windows of a series of at most 64 different values. Else two that
    differ, and are as near to within rounding, may come in either order.

    Time is O(n**2), memory O(n). Series whose windows are nearly all copies of each other, or
    whose spread changes by orders of magnitude within a window's length, take longer, at worst
    O(n**2 m).

    The matrix profile: Yeh et al., "Matrix Profile I: All Pairs Similarity Joins for Time
    Series", ICDM 2016. Its other kinds: Zimmerman et al., "Matrix Profile XIV: Scaling Time
    Series Motif Discovery with GPUs to Break a Quintillion Pairwise Comparisons a Day and
    Beyond", SoCC 2019.

    Examples
    --------
    >>> import numpy as np
    >>> beat = np.array([0.0, 1, 5, 2, 1])
    >>> series = np.concatenate([beat, [3, 1, 4, 1], beat])
    >>> distance, index = selfjoin(series, 5)
    >>> int(index[0]), float(distance[0])
    (9, 0.0)
    >>> left, right = selfjoin(series, 5, kind="knn", k=2, sides="both")
    >>> right[1].shape
    (10, 2)
    """
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
    return _join(query, values, values, checked_threads(threads), progress)


def abjoin(  # noqa: PLR0913  # the options of a join
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
    threads: int | None = None,
    precision: Precision = "double",
    progress: Progress | None = None,
) -> Any:
    """Compare each window of one series with all windows of another.

    Parameters
    ----------
    a, b : array_like, shapes (n,) and (k,)
        Samples, as in :func:`selfjoin`. The two may have different units.
    window : int
        Subsequence length m in samples, 3 <= m <= min(n, k).
    sides : "one" or "both"
        ``"one"`` gives the result for the windows of ``a``; ``"both"`` also that for the
        windows of ``b``.
    aligned : bool
        The series begin at the same time: windows that are near each other do not count.
    exclusion : int, "stumpy" or "scamp", optional
        How near; only with ``aligned``. By default as in :func:`selfjoin`.
    kind, k, threshold, shape, correlation, threads, precision, progress
        As in :func:`selfjoin`.

    Returns
    -------
    distance, index or others
        As :func:`selfjoin` returns them, with indices into the other series. Rows of a
        summary are windows of ``a``, columns windows of ``b``, and all of it is filled.

    Raises
    ------
    SeriesError
        For a series, window or option that cannot be used; the message says what to do.

    Examples
    --------
    >>> distance, index = abjoin([0, 4, 0, 5], [9, 9, 0, 16, 0, 9], 3)
    >>> index.tolist(), float(distance[0])
    ([2, 1], 0.0)
    """
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
    return _join(query, values_a, values_b, checked_threads(threads), progress)


def compute(
    query: Query,
    a: Array,
    b: Array,
    tile: Tile,
    *,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Part:
    """Compute a tile of a join.

    Parameters
    ----------
    query : Query
        The join.
    a, b : ndarray of float64, shapes (n,) and (k,)
        The whole series; only what the tile needs is read.
    tile : Tile
        Which part of the distance matrix. It is the same whatever else is computed.
    threads, progress
        As in :func:`selfjoin`.

    Returns
    -------
    dict
        Arrays for the windows of the tile.
    """
    from labkit.matrixprofile.core.crew import Crew
    from labkit.matrixprofile.core.statistics import summarise
    from labkit.matrixprofile.core.sweep import Area

    rows = summarise(a[tile.top : tile.bottom + query.window - 1], query.window)
    is_same = query.is_self and tile.top == tile.left and tile.bottom == tile.right
    columns = (
        rows if is_same else summarise(b[tile.left : tile.right + query.window - 1], query.window)
    )
    shift = tile.top - tile.left
    diagonals = [(first + shift, last + shift) for first, last in query.computed()]
    crew = Crew(threads, query.window, query.dtype, progress)
    part = kind_of(query).compute(Area(rows, columns, diagonals), crew, tile)
    crew.finish()
    return part


def finish(query: Query, whole: Part, a: Array, b: Array) -> Any:
    """Turn what all tiles have given into what the user gets."""
    of_a = outline(a, query.window)
    return kind_of(query).result(whole, of_a, of_a if query.is_self else outline(b, query.window))


def _join(query: Query, a: Array, b: Array, threads: int | None, progress: Progress | None) -> Any:
    if progress is not None and not callable(progress):
        raise SeriesError(f"progress is {progress!r}; pass a function that takes the part done")
    everything = Tile(0, query.rows, 0, query.columns)
    part = compute(query, a, b, everything, threads=threads, progress=progress)
    kind = kind_of(query)
    whole = kind.begin()
    kind.put(whole, part, everything)
    return finish(query, whole, a, b)


def checked_threads(given: int | None) -> int | None:
    """Return a number of threads, or None for all.

    Raises
    ------
    SeriesError
        When it is no number, or below 1.
    """
    if given is None:
        return None
    try:
        number = operator.index(given)
    except TypeError:
        number = 0
    if number < 1 or isinstance(given, bool):
        raise SeriesError(f"threads is {given!r}; pass a number, 1 or more")
    return number
