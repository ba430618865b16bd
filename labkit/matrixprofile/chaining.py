"""Chains: patterns that drift, so that each is near to the next, and the last unlike the first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labkit.errors import SeriesError
from labkit.matrixprofile.patterns import whole_number

__all__ = ["Chain", "chain_from", "chains"]

Index = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Chain:
    """Windows in order of time, each pair of adjacent ones mutually nearest.

    The later is the nearest neighbour that the earlier has on its right, and the earlier
    the nearest that the later has on its left.
    """

    starts: tuple[int, ...]
    """First samples of its windows, rising."""

    def __len__(self) -> int:
        return len(self.starts)

    def __iter__(self) -> Iterator[int]:
        return iter(self.starts)


def chains(
    left_index: ArrayLike, right_index: ArrayLike, *, k: int | None = None, shortest: int = 2
) -> list[Chain]:
    """Find all chains of a series. The first of them is the unanchored chain: the longest.

    Parameters
    ----------
    left_index, right_index : array_like of int, shape (w,)
        Where the nearest neighbour before each window starts, and where the nearest after
        it; -1 where there is none. ``selfjoin(..., sides="both")`` returns them.
    k : int, optional
        How many chains at most. By default all.
    shortest : int
        How many windows a chain has at least.

    Returns
    -------
    list of Chain
        The longest first; of equals the one that begins earlier. No two share a window.

    Raises
    ------
    SeriesError
        For indices that do not belong to one self-join, and for a number that cannot be
        used.

    Notes
    -----
    Zhu, Imamura, Nikovski & Keogh, "Matrix Profile VII: Time Series Chains: A New Primitive
    for Time Series Data Mining", ICDM 2017: the all-chain set (ALLC), less chains below
    ``shortest``. Time and memory are O(w).

    Examples
    --------
    >>> chains([-1, -1, 0, 1, 2], [2, 3, 4, -1, -1])
    [Chain(starts=(0, 2, 4)), Chain(starts=(1, 3))]
    """
    following = _links(left_index, right_index)
    most = following.size if k is None else whole_number("k", k)
    heads, lengths = _heads(following)
    long_enough = lengths >= whole_number("shortest", shortest)
    heads, lengths = heads[long_enough], lengths[long_enough]
    longest_first = np.argsort(-lengths, kind="stable")[:most]
    after = following.tolist()
    return [Chain(tuple(_walk(after, head))) for head in heads[longest_first].tolist()]


def chain_from(start: int, left_index: ArrayLike, right_index: ArrayLike) -> Chain:
    """Find the chain that is anchored at a window: it begins there and is followed to its end.

    Parameters
    ----------
    start : int
        The first sample of the window.
    left_index, right_index : array_like of int, shape (w,)
        As in :func:`chains`.

    Returns
    -------
    Chain
        Of one window where nothing follows.

    Raises
    ------
    SeriesError
        For a window that is not there, and indices that do not belong to one self-join.

    Notes
    -----
    ATSC of the paper that :func:`chains` names.

    Examples
    --------
    >>> chain_from(2, [-1, -1, 0, 1, 2], [2, 3, 4, -1, -1])
    Chain(starts=(2, 4))
    """
    following = _links(left_index, right_index)
    first = whole_number("start", start)
    if first >= following.size:
        raise SeriesError(
            f"start is {first}, but there are {following.size} windows; "
            f"pass one of 0 to {following.size - 1}"
        )
    return Chain(tuple(_walk(following, first)))


def _links(left_index: ArrayLike, right_index: ArrayLike) -> Index:
    """Give the window that follows each in a chain, or -1: the two must be mutual neighbours."""
    left, right = _neighbours(left_index, "left_index"), _neighbours(right_index, "right_index")
    if left.size != right.size:
        raise SeriesError(
            f"left_index has {left.size} values, right_index {right.size}; "
            "pass the two sides of one self-join"
        )
    here = np.arange(left.size)
    _refuse("left_index", left, left >= here, "before")
    _refuse("right_index", right, (right != -1) & ((right <= here) | (right >= here.size)), "after")
    # where there is none, -1 looks up the last window, whose left neighbour is no match either
    mutual = (right != -1) & (left[right] == here)
    return np.where(mutual, right, -1)


def _neighbours(given: ArrayLike, name: str) -> Index:
    values = np.asarray(given)
    if values.ndim != 1 or (values.size and values.dtype.kind not in "iu"):
        raise SeriesError(
            f"{name} has dtype {values.dtype} and shape {values.shape}; "
            'pass the indices that selfjoin(..., sides="both") returns'
        )
    return values.astype(np.int64)


def _refuse(name: str, index: Index, wrong: NDArray[np.bool_], side: str) -> None:
    wrong |= index < -1
    if wrong.any():
        i = int(np.argmax(wrong))
        raise SeriesError(
            f"{name}[{i}] is {index[i]}, no window {side} {i} of {index.size}; "
            'pass what selfjoin(..., sides="both") returns, the left side first'
        )


def _heads(following: Index) -> tuple[Index, Index]:
    """Give the windows that no other leads to, and the lengths of the chains that begin there."""
    led_to = np.zeros(following.size, dtype=bool)
    led_to[following[following >= 0]] = True
    heads = np.flatnonzero(~led_to)
    lengths = np.ones(heads.size, dtype=np.int64)
    growing, at = np.arange(heads.size), heads
    # one step of all chains that still grow: each window is visited once
    while growing.size:
        at = following[at]
        more = at >= 0
        growing, at = growing[more], at[more]
        lengths[growing] += 1
    return heads, lengths


def _walk(following: Index | list[int], first: int) -> Iterator[int]:
    at = first
    while at >= 0:
        yield at
        at = int(following[at])
