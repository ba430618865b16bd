"""How a lab is connected to its cluster."""

import gc

import psutil
import pytest

from labkit.errors import ClusterError
from labkit.labs.connection import Connection
from labkit.labs.leftovers import ALIVE, OWN

NOWHERE = {"url_file": None, "profile": None, "profile_dir": None, "cluster_id": None}


def nothing():
    """Wake nobody."""


def test_another_cluster_has_the_same_name_again(cluster):
    connection = Connection(None, {**NOWHERE, "url_file": cluster.connection_file}, nothing)
    with pytest.raises(ClusterError, match="is closed: open it"):
        connection.hub.idle()
    connection.open()
    client, name = connection.client, connection.name
    connection.open()
    assert connection.client is client, "it was open"
    assert connection.hub.idle() == client.ids
    assert str(cluster.connection_file) in name
    assert not connection.is_lost()
    connection.end()
    assert not connection.is_open
    connection.open()
    assert connection.name == name
    connection.close()


def test_an_own_cluster_ends_with_it_or_when_nobody_holds_it():
    connection = Connection(1, NOWHERE, nothing)
    assert connection.own is None, "it is started when it is needed"
    connection.open()
    assert {connection.name} & ALIVE
    assert connection.name.startswith(OWN)
    first, name = psutil.Process(connection.own._supervisor.pid), connection.name
    connection.end()
    assert not first.is_running()
    assert name not in ALIVE
    connection.open()
    second = psutil.Process(connection.own._supervisor.pid)
    del connection
    gc.collect()
    assert not second.is_running()
