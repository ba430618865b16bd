"""What a lab asks its controller."""

import time

import labkit

from .test_clusterlab import until
from .test_resumed import shared

__all__ = ["shared"]


def test_a_hub_forgets_what_is_done_though_some_is_not(shared, notebook):
    with labkit.ClusterLab(notebook, url_file=shared) as lab:
        hub, engine = lab._connection.hub, lab._connection.client[0]
        done = engine.apply_async(int).msg_ids[0]
        under_way = engine.apply_async(time.sleep, 3).msg_ids[0]
        until(lambda: hub.completed([done, under_way]) == {done: True, under_way: False})
        assert hub.purge([under_way, done]) == [under_way]
        assert hub.completed([done, under_way]) == {under_way: False}
        until(lambda: hub.completed([under_way]) == {under_way: True})
        assert hub.purge([under_way]) == []
        assert hub.completed([under_way]) == {}
