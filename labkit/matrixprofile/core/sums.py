"""The correlations above a threshold, added up in bands."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from labkit.matrixprofile.core.bands import BLOCK, band_of, cut, enter, piece
from labkit.matrixprofile.core.blocks import GROUP, Buffers, Side, add_above, add_above_of_rows
from labkit.matrixprofile.core.compiling import compiled
from labkit.matrixprofile.core.exact import apart
from labkit.matrixprofile.core.simd import WIDTH_BYTES
from labkit.matrixprofile.core.statistics import Windows

__all__ = [
    "Sums",
    "add_bands",
    "add_cells",
]

Array = NDArray[np.float64]


class Sums(NamedTuple):
    """The correlations added up so far."""

    rows: Array
    """(w_a,)"""
    columns: Array
    """(w_b,) Empty where nobody wants them."""


@compiled
def add_bands(
    a: Windows,
    b: Windows,
    bands: NDArray[np.int64],
    work: Buffers,
    sums: Sums,
    threshold: float,
) -> None:
    """Add up the correlations above a threshold, for each row and each column of bands.

    Parameters
    ----------
    a, b, bands, work : Windows, Windows, ndarray of int64, Buffers
        As in :func:`search_bands`.
    sums : Sums
        What is added to.
    threshold : float
        Only correlations strictly above it are added.
    """
    lanes = WIDTH_BYTES // work.covariances.itemsize
    least = work.covariances.dtype.type(threshold)
    for n in range(bands.shape[0]):
        band = band_of(bands[n])
        pieces = cut(band, work)
        for p in range(pieces.pieces):
            part = piece(band, pieces, p, work)
            enter(a, b, band, part, work)
            across = part.run + part.groups * GROUP
            work.rows.kept[: part.run * lanes] = 0.0
            work.columns.kept[: across * lanes] = 0.0
            for k in range(0, part.run, BLOCK):
                end = min(k + BLOCK, part.run)
                if sums.columns.size:
                    for group in range(part.groups):
                        add_above(work, group, k, end, least)
                else:
                    for group in range(part.groups):
                        add_above_of_rows(work, group, k, end, least)
            _keep_sums(work.rows, part.starts, part.run, sums.rows)
            if sums.columns.size:
                _keep_sums(work.columns, part.starts + band.first, across, sums.columns)


@compiled
def _keep_sums(side: Side, starts: NDArray[np.int64], count: int, sums: Array) -> None:
    lanes = WIDTH_BYTES // side.kept.itemsize
    for lane in range(lanes):
        start = starts[lane]
        for k in range(max(-start, 0), min(sums.size - start, count)):
            sums[start + k] += side.kept[k * lanes + lane]


@compiled
def add_cells(
    a: Windows,
    b: Windows,
    bands: NDArray[np.int64],
    sums: Sums,
    threshold: float,
) -> None:
    """Add up the correlations above a threshold in all cells of bands, one by one."""
    for n in range(bands.shape[0]):
        band = band_of(bands[n])
        for i in range(band.top, band.bottom):
            for j in range(max(band.left, i + band.first), min(band.right, i + band.last)):
                correlation = 1.0 - apart(a, i, b, j)
                if correlation > threshold:
                    sums.rows[i] += correlation
                    if sums.columns.size:
                        sums.columns[j] += correlation
