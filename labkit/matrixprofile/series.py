"""What a join is given: series, window and exclusion zone, read and checked."""

from __future__ import annotations

import operator
import os
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labkit.errors import SeriesError

__all__ = ["MINIMUM_WINDOW", "Exclusion", "as_series", "as_window", "exclusion_zone"]

MINIMUM_WINDOW = 3
"""Two samples, z-normalised, are always the same or each other's mirror."""

Exclusion = int | Literal["stumpy", "scamp"]


def as_series(given: ArrayLike, name: str = "series") -> NDArray[np.float64]:
    """Turn what a user calls a series into a contiguous float64 array.

    Parameters
    ----------
    given : array_like, shape (n,)
        Any real numeric or bool dtype, strided as it likes; lists and pandas Series too.
        Masked and missing (``pandas.NA``) values become NaN.
    name : str
        The argument, for the error message.

    Returns
    -------
    ndarray of float64, shape (n,)
        The samples; may share memory with ``given``.

    Raises
    ------
    SeriesError
        For a series that is empty, not one-dimensional, or not of real numbers; and for
        numbers that float64 can only have rounded, such as nanoseconds since 1970.

    Examples
    --------
    >>> as_series([1, 2, True])
    array([1., 2., 1.])
    """
    if isinstance(given, str | os.PathLike):
        raise SeriesError(f"{name} is {given!r}; for a file, pass read_series({str(given)!r})")
    values, gaps = _read(given, name)
    if values.ndim != 1:
        raise SeriesError(
            f"{name} has {values.ndim} dimensions, shape {values.shape}; "
            "a series has one: pass a single column or call ravel()"
        )
    if values.size == 0:
        raise SeriesError(f"{name} is empty; pass at least as many samples as the window")
    if values.dtype.kind not in "buif":
        raise SeriesError(
            f"{name} has dtype {values.dtype}; a series holds real numbers: "
            "convert it to float, with NaN for what is missing"
        )
    converted = _exact(values, name)
    return converted if gaps is None else np.where(gaps, np.nan, converted)


def _exact(given: NDArray[Any], name: str) -> NDArray[np.float64]:
    """Convert to float64, or raise when that would round: to the distances, this is noise."""
    with np.errstate(over="ignore"):
        converted = np.ascontiguousarray(given, dtype=np.float64)
    if given.dtype.itemsize < 8 or given.dtype == np.float64:
        return converted
    is_exact = _is_exact(given, converted)
    if not is_exact.all():
        first = int(np.argmin(is_exact))
        raise SeriesError(
            f"{name} has {given[first]!s} at {first}, which float64 rounds to "
            f"{converted[first]:.17g}: subtract a level of it first, which changes no distance; "
            "or convert it to float64, if rounding does not matter"
        )
    return converted


def _is_exact(given: NDArray[Any], converted: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Mark what comes back the same from float64."""
    if given.dtype.kind == "f":
        is_same: NDArray[np.bool_] = (converted.astype(given.dtype) == given) | ~np.isfinite(given)
        return is_same
    limits = np.iinfo(given.dtype)
    # the largest one is rounded up here, and would not fit into its own type again
    fits = (converted >= float(limits.min)) & (converted < float(limits.max))
    fits[fits] = converted[fits].astype(given.dtype) == given[fits]
    return fits


def _read(given: Any, name: str) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """Return what is given as an array, and where something is missing that it cannot tell."""
    if isinstance(given, np.ma.MaskedArray) and given.dtype.kind in "buif":
        return given.filled(0), np.ma.getmaskarray(given)
    # pandas' nullable dtypes become objects unless they are asked for others
    if getattr(getattr(given, "dtype", None), "na_value", None) is not None:
        if given.dtype.kind in "iu":
            whole = given.fillna(0).to_numpy(dtype=given.dtype.numpy_dtype)
            return whole, np.asarray(given.isna())
        try:
            return np.asarray(given.to_numpy(dtype=np.float64, na_value=np.nan)), None
        except (TypeError, ValueError) as e:
            raise SeriesError(
                f"{name} has dtype {given.dtype}; a series holds real numbers: convert it to float"
            ) from e
    try:
        return np.asarray(given), None
    except ValueError as e:
        raise SeriesError(f"{name} is ragged ({e}); pass one number a sample") from e


def as_window(given: Any, *lengths: int) -> int:
    """Check a window against the lengths of the series that it slides over.

    Parameters
    ----------
    given : int
        Subsequence length in samples, any integer type.
    *lengths : int
        Samples of each series.

    Returns
    -------
    int
        The window.

    Raises
    ------
    SeriesError
        For a window that is no integer, below 3, or longer than a series.

    Examples
    --------
    >>> as_window(50, 1000)
    50
    """
    try:
        window = operator.index(given)
    except TypeError:
        window = None
    if window is None or isinstance(given, bool | np.bool_):
        raise SeriesError(
            f"window is {given!r}, not an integer; it counts samples: round seconds times rate"
        )
    if window < MINIMUM_WINDOW:
        raise SeriesError(f"window is {window}; the shortest possible is {MINIMUM_WINDOW} samples")
    shortest = min(lengths, default=window)
    if shortest < MINIMUM_WINDOW:
        raise SeriesError(
            f"the series has {shortest} samples; a window needs at least {MINIMUM_WINDOW}"
        )
    if window > shortest:
        raise SeriesError(
            f"window is {window}, but the series has only {shortest} samples; "
            f"choose a window of {MINIMUM_WINDOW} to {shortest}"
        )
    return window


def exclusion_zone(exclusion: Exclusion, window: int) -> int:
    """Say how near two windows of one series may not be to count as a match.

    Parameters
    ----------
    exclusion : int, "stumpy" or "scamp"
        A number ``z`` excludes ``|i - j| <= z``; ``"stumpy"`` is ``z = ceil(window / 4)``;
        ``"scamp"`` excludes ``|i - j| < window // 4``.
    window : int
        Subsequence length in samples.

    Returns
    -------
    int
        The largest excluded ``|i - j|``, at least 0: a window never matches itself.

    Raises
    ------
    SeriesError
        For another name, or a number that is no integer or negative.

    Examples
    --------
    >>> exclusion_zone("stumpy", 50), exclusion_zone("scamp", 50), exclusion_zone(7, 50)
    (13, 11, 7)
    """
    if isinstance(exclusion, str):
        zone = {"stumpy": -(-window // 4), "scamp": max(window // 4 - 1, 0)}.get(exclusion, -1)
    else:
        try:
            zone = operator.index(exclusion)
        except TypeError:
            zone = -1
    if zone < 0 or isinstance(exclusion, bool | np.bool_):
        raise SeriesError(
            f'exclusion is {exclusion!r}; use "stumpy", "scamp" or a number of samples, 0 or more'
        )
    return zone
