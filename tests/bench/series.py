"""The series that are joined: a walk, and five that are hard on rounding."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Series = NDArray[np.float64]

SEED = 7


def walk(samples: int, seed: int = SEED) -> Series:
    """A random walk: what matrix profiles are usually timed on."""
    return np.cumsum(noise(samples, seed))


def walk_far_away(samples: int) -> Series:
    """The level eats half of the digits."""
    return walk(samples) + 1e8


def noisy_sine(samples: int) -> Series:
    """All windows of one phase are nearly alike."""
    return np.sin(np.arange(samples) * (2 * np.pi / 97)) + 1e-4 * noise(samples)


def burst(samples: int) -> Series:
    """A hundredth of it is larger by five orders of magnitude."""
    series = noise(samples)
    series[samples // 2 : samples // 2 + samples // 100] *= 1e5
    return series


def spikes(samples: int) -> Series:
    """Sixty samples, six orders above the rest."""
    series = noise(samples)
    series[np.random.default_rng(SEED + 1).choice(samples, 60, replace=False)] += 1e6
    return series


def ramp(samples: int) -> Series:
    """The slope hides the noise: windows differ by little more than it."""
    return noise(samples) + np.linspace(0, 1e7, samples)


def noise(samples: int, seed: int = SEED) -> Series:
    """Independent normal numbers."""
    return np.random.default_rng(seed).standard_normal(samples)


HARD: dict[str, Callable[[int], Series]] = {
    "random walk": walk,
    "walk + 1e8": walk_far_away,
    "sine + 1e-4 noise": noisy_sine,
    "one burst x 1e5": burst,
    "60 spikes of 1e6": spikes,
    "noise + ramp 1e7": ramp,
}
