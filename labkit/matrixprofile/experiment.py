"""The demonstration experiment: where a recording looks least like itself."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labkit.errors import SeriesError
from labkit.experiment import Experiment
from labkit.matrixprofile.joins import selfjoin
from labkit.matrixprofile.patterns import discords, motifs
from labkit.matrixprofile.recordings import recording
from labkit.matrixprofile.series import as_series
from labkit.parameter import Parameter

__all__ = ["Discords"]

SEGMENTS = 8


class Discords(Experiment):
    """Find where a recording looks least like itself, and where most.

    The recording is cut into eight equal segments. At each point, one segment is joined
    with itself.

    Parameters
    ----------
    series : array_like, shape (n,), optional
        The recording; by default the one that comes with labkit, read where the point
        runs. Another series has other points: its digest is part of their keys.

    Raises
    ------
    SeriesError
        For a series that cannot be used, or one too short for eight segments.

    Examples
    --------
    >>> outcome = Discords().set({"window": 100, "segment": 2}).run()["results"]
    >>> sorted(outcome)
    ['discord', 'distance', 'matrix_profile', 'motif_a', 'motif_b', 'motif_distance']
    >>> outcome["matrix_profile"].shape
    (1074,)
    """

    version = 1
    window = Parameter([50, 100, 200], unit="samples", doc="subsequence length")
    segment = Parameter(range(SEGMENTS), doc="which eighth of the recording")

    def __init__(self, series: ArrayLike | None = None) -> None:
        super().__init__()
        self._series = None if series is None else as_series(series)
        if self._series is not None and self._series.size < SEGMENTS:
            raise SeriesError(
                f"series has {self._series.size} samples; {SEGMENTS} segments need at least "
                f"{SEGMENTS} times the window"
            )

    def identity(self) -> str:
        """Name the class and, unless it is labkit's own, the recording by its digest."""
        name = super().identity()
        if self._series is None:
            return name
        digest = hashlib.blake2b(self._series.tobytes(), digest_size=16).hexdigest()
        return f"{name}({digest})"

    def do(self, params: dict[str, Any]) -> dict[str, Any]:
        """Join one segment with itself.

        Parameters
        ----------
        params : dict
            ``window``: subsequence length m in samples; ``segment``: 0 to 7.

        Returns
        -------
        dict
            ``discord`` (int) and ``distance`` (float): the window that is farthest from
            its nearest neighbour, and how far; ``motif_a``, ``motif_b`` (int) and
            ``motif_distance`` (float): the pair that is nearest, flat windows apart;
            ``matrix_profile`` (float64 array, one value a window of the segment). Indices
            count samples from the beginning of the recording. Where there is no such
            window they are None, and the distance NaN.
        """
        window = params["window"]
        start, samples = self._cut(params["segment"])
        distance, index = selfjoin(samples, window)
        odd = next(iter(discords(distance, window, k=1)), None)
        pair = next(iter(motifs(distance, index, window, k=1, series=samples)), None)
        return {
            "discord": odd and start + odd.index,
            "distance": odd.distance if odd else math.nan,
            "motif_a": pair and start + pair.a,
            "motif_b": pair and start + pair.b,
            "motif_distance": pair.distance if pair else math.nan,
            "matrix_profile": distance,
        }

    def _cut(self, segment: int) -> tuple[int, NDArray[np.float64]]:
        if segment not in range(SEGMENTS):
            raise SeriesError(f"segment is {segment!r}; the recording has 0 to {SEGMENTS - 1}")
        samples = recording().samples if self._series is None else self._series
        start, stop = (samples.size * (segment + i) // SEGMENTS for i in (0, 1))
        return start, samples[start:stop]
