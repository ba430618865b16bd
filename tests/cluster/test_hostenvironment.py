"""How what a host gets appears there."""

import os

from labkit.cluster import hostenvironment


def test_what_has_a_name_is_on_the_disk(tmp_path, monkeypatch):
    made, place = tmp_path / "made", tmp_path / "place"
    made.mkdir()
    synced = []
    # no power cut can be had that a test survives
    monkeypatch.setattr(os, "sync", lambda: synced.append(place.exists()))
    hostenvironment._put(made, place)
    assert synced == [False]
    assert place.is_dir()
