"""The short form of the chaos; the long one is ``make chaos``."""

from .chaos import chaos


def test_nothing_is_lost_and_nothing_recorded_twice(tmp_path):
    assert chaos(tmp_path, rounds=3, seed=20261120) == []
