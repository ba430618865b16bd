"""The short form of the chaos; the long one is ``make chaos``."""

from .chaos import chaos, plan_of

SEED = 20271655
"""Kills a hand, an engine or engines in each of three rounds, and then what is worse."""


def test_nothing_is_lost_and_nothing_recorded_twice(tmp_path):
    killed, wrong = chaos(tmp_path, plan_of(rounds=3, seed=SEED))
    assert wrong == []
    assert {"all", "lab", "engine", "controller"} <= set(killed), "each kind, whatever the load"
