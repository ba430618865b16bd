"""What a lab asks its controller."""

import time

import labkit

from .test_resumed import shared

__all__ = ["shared"]


def wait_for(condition, timeout_s=30):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_hub_forgets_what_is_done_though_some_is_not(shared, notebook):
    with labkit.ClusterLab(notebook, url_file=shared) as lab:
        hub, engine = lab._connection.hub, lab._connection.client[0]
        done = engine.apply_async(int).msg_ids[0]
        under_way = engine.apply_async(time.sleep, 3).msg_ids[0]
        wait_for(lambda: hub.completed([done, under_way]) == {done: True, under_way: False})
        assert hub.purge([under_way, done]) == [under_way]
        assert hub.completed([done, under_way]) == {under_way: False}
        wait_for(lambda: hub.completed([under_way]) == {under_way: True})
        assert hub.purge([under_way]) == []
        assert hub.completed([under_way]) == {}
