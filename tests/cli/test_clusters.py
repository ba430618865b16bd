"""What is said of a start, whatever has come of it."""

from types import SimpleNamespace

import pytest

from labkit.cli import clusters
from labkit.cluster.arrival import Arrival

NONE = Arrival("h1", 2, 0, 0, None, ("No route to host",))


@pytest.mark.parametrize(
    ("controller", "unstopped", "end"),
    [
        ("runs", {}, "0 of 1 host whole, 1.5 s"),
        (None, {}, "1.5 s; nothing of it runs now"),
        (None, {"h1": "No route to host"}, "1.5 s; its controller has ended"),
    ],
)
def test_what_runs_on_is_told(controller, unstopped, end):
    cluster = SimpleNamespace(arrivals=[NONE], controller=controller, unstopped=unstopped)
    is_whole, text = clusters._arrivals(cluster, 1.5, as_json=False)
    assert not is_whole
    assert text.endswith(end)
    assert ("h1: engines may still run: No route to host" in text) is bool(unstopped)
