"""The recording that comes with labkit, and what is odd and what is regular in it."""

import gzip
import hashlib
from importlib import resources

import numpy as np
import pytest

from labkit.matrixprofile import Recording, discords, motifs, recording, selfjoin

DIGEST = "98089a7dfdfbe732c448738b804c611f507e4e1548ef6da2c20e9bd77b1c0181"


def test_it_is_the_file_that_its_readme_describes() -> None:
    whole = recording(whole=True)
    assert whole.samples.shape == (15_000,)
    assert (whole.samples.min(), whole.samples.max()) == (0, 789)
    assert whole.times_s[-1] == pytest.approx(128.21)
    assert "MIT" in whole.source
    data = resources.files("labkit") / "data"
    text = gzip.decompress((data / "pulse.csv.gz").read_bytes())
    assert hashlib.sha256(text).hexdigest() == DIGEST
    readme = (data / "README.md").read_text(encoding="utf-8")
    assert "Permission is hereby granted" in readme
    assert "116.988 Hz" in readme


def test_by_default_it_begins_with_the_pulse() -> None:
    pulse, whole = recording(), recording(whole=True)
    assert pulse.samples.size >= 8_000
    assert np.array_equal(pulse.samples, whole.samples[-pulse.samples.size :])
    assert pulse.times_s == pytest.approx(whole.times_s[-pulse.samples.size :])


def test_discords_are_movements_and_motifs_are_beats() -> None:
    pulse = recording()
    distance, index = selfjoin(pulse.samples, 100)
    odd = pulse.times_s[[d.index for d in discords(distance, 100, k=3)]]
    assert all(any(abs(t - moved) < 2 for moved in (64, 79)) for t in odd)
    peaks = np.flatnonzero(pulse.samples > 590)
    for motif in motifs(distance, index, 100, k=3):
        for start in (motif.a, motif.b):
            beats = peaks[(peaks >= start) & (peaks < start + 100)]
            assert 1 <= np.count_nonzero(np.diff(beats, prepend=-99) > 20) <= 2


def test_without_a_rate_samples_are_counted() -> None:
    assert Recording(np.zeros(3)).times_s.tolist() == [0, 1, 2]
