"""Series that know what they are: rate, unit, title and source; one comes with labkit."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from importlib import resources

import numpy as np
from numpy.typing import NDArray

__all__ = ["Recording", "recording"]

_STEPS, _DURATION_S = 14_999, 128.21
_PULSE_FROM = 5_616


@dataclass(frozen=True, eq=False, slots=True)
class Recording:
    """A series with its units. Only the samples must be given.

    Examples
    --------
    >>> import numpy as np
    >>> Recording(np.arange(300.0), rate_hz=100, start_s=5).times_s[:3]
    array([5.  , 5.01, 5.02])
    """

    samples: NDArray[np.float64]
    """(n,) The series, in `unit`."""
    rate_hz: float | None = None
    """Samples a second; None where samples are only counted."""
    unit: str = ""
    """Unit of the samples."""
    quantity: str = "Value"
    """What the samples measure, for an axis."""
    title: str = ""
    """What was recorded."""
    source: str = ""
    """Where it comes from, and its licence."""
    start_s: float = 0.0
    """Time of the first sample in seconds."""

    @property
    def times_s(self) -> NDArray[np.float64]:
        """(n,) Time of each sample in seconds; the sample's number where there is no rate."""
        return self.start_s + np.arange(self.samples.size) / (self.rate_hz or 1.0)


def recording(*, whole: bool = False) -> Recording:
    """Load the recording that comes with labkit: a pulse, measured by light at a finger.

    Parameters
    ----------
    whole : bool
        Begin with the first sample. By default the 48 s are left out in which the sensor
        lies idle, is put on, and settles.

    Returns
    -------
    Recording
        9,384 samples at 117 Hz in arbitrary units (15,000 with ``whole``); source and
        licence are in ``labkit/data/README.md``.

    Examples
    --------
    >>> pulse = recording()
    >>> pulse.samples.shape, round(pulse.rate_hz), round(pulse.start_s)
    ((9384,), 117, 48)
    """
    file = resources.files("labkit") / "data" / "pulse.csv.gz"
    with file.open("rb") as packed, gzip.open(packed, "rt") as text:
        samples = np.loadtxt(text, skiprows=1)
    rate_hz = _STEPS / _DURATION_S
    first = 0 if whole else _PULSE_FROM
    return Recording(
        samples=samples[first:],
        rate_hz=rate_hz,
        unit="a.u.",
        quantity="Photoplethysmogram",
        title="Pulse at a finger",
        source="heartpy/data/data2.csv of HeartPy 1.2.7, MIT licence",
        start_s=first / rate_hz,
    )
