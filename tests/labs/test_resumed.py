"""What becomes of messages whose connection was lost, when there is another one."""

import time
from collections import Counter

import pytest

import labkit
from labkit.labs.resumed import Resumed, fetch

from .experiments import Tallies
from .test_clusterlab import until
from .test_stopping import cluster_in


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """The connection file of a cluster with a database on disk."""
    profile = tmp_path_factory.mktemp("shared") / "profile"
    with cluster_in(profile, "--IPController.db_class=sqlitedb"):
        yield profile / "security" / "ipcontroller-client.json"


@pytest.fixture(params=[30])
def sending(request, shared, notebook, tmp_path):
    """A lab in the middle of its points, whose hub is taken for lost; and where runs are told."""
    file = tmp_path / "runs"
    with labkit.ClusterLab(notebook, url_file=shared) as lab:
        lab["x"] = range(request.param)
        lab.runExperiment(Tallies(str(file)), chunk=1)
        deadline = time.monotonic() + 30
        while not file.exists() or len(file.read_text().splitlines()) < 4:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        lab._connection.hub.is_lost = True
        yield lab, file


def test_nothing_is_lost_or_run_twice(sending):
    lab, file = sending
    assert lab.wait(timeout=60)
    assert sorted(lab.dataframe()["y"]) == [x**2 for x in range(30)]
    assert Counter(map(int, file.read_text().split())) == dict.fromkeys(range(30), 1)


@pytest.mark.parametrize("sending", [100], indirect=True)
@pytest.mark.parametrize("way", ["cancel", "drain"])
def test_they_can_still_be_taken_back(sending, way):
    lab, file = sending
    lab.numberOfEngines()
    assert any(isinstance(future, Resumed) for future in lab._traffic.futures())
    getattr(lab, way)()
    lab.wait(timeout=30)
    assert not lab.notebook().anyPending()
    assert len(file.read_text().splitlines()) < 67


def test_an_answer_that_was_an_error_is_one(shared, notebook):
    with labkit.ClusterLab(notebook, url_file=shared) as lab:
        failing = lab.engines().apply_async(int, "no number")
        failing.wait()
        hub, message = lab._connection.hub, failing.msg_ids[0]
        # it may still have to read what has arrived
        until(lambda: hub.completed([message]).get(message))
        failed, unknown = Resumed(message), Resumed("unknown")
        fetch([failed, unknown], hub)
    assert "ValueError" in str(failed.exception())
    assert unknown.cancelled()


def test_a_hub_is_asked_about_any_number(shared, notebook):
    with labkit.ClusterLab(notebook, url_file=shared) as lab:
        hub = lab._connection.hub
        known = lab.engines().apply_async(int).msg_ids
        asked = [*map(str, range(2000)), *known]
        # it may still have to read what has arrived
        deadline = time.monotonic() + 30
        while set(hub.completed(asked)) != set(known):
            assert time.monotonic() < deadline, "it does not know them"
            time.sleep(0.1)
        assert hub.keeps([*map(str, range(2000)), *known]) == set(known)


def test_a_hub_without_a_database_lacks_nothing_that_it_could_tell(cluster, notebook):
    with labkit.ClusterLab(notebook, url_file=cluster.connection_file) as lab:
        assert not lab._connection.hub.lacks(["unknown"])
