"""The fixtures of the contract: notebooks and labs of each kind, and one cluster for all."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import epyc
import ipyparallel
import pytest

from . import sides

PROFILE = "epyctest"
MODULES = "modules"
CHECKOUT = Path(__file__).parents[2]
QUICK_HEARTBEAT = "c = get_config()\nc.HeartMonitor.period = 500\n"


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Run two engines on a private profile, and give the profile's directory.

    The empty cluster id is what lets epyc's ClusterLab find it; the name of the profile is the
    one that epyc's own tests look for. The engines import what lies in the folder
    ``modules`` beside the profile.
    """
    ipython_dir = tmp_path_factory.mktemp("ipython")
    modules = ipython_dir / MODULES
    modules.mkdir()
    profile_dir = ipython_dir / f"profile_{PROFILE}"
    profile_dir.mkdir()
    (profile_dir / "ipcontroller_config.py").write_text(QUICK_HEARTBEAT)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PYTHONPATH", f"{modules}{os.pathsep}{CHECKOUT}", prepend=os.pathsep)
        running = ipyparallel.Cluster(
            n=2, profile_dir=str(profile_dir), cluster_id="", log_level=30
        )
        running.start_cluster_sync()
    try:
        client = running.connect_client_sync()
        client.wait_for_engines(2, timeout=60)
        client.close()
        yield profile_dir
    finally:
        running.stop_cluster_sync()


@pytest.fixture
def tame_epyc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let epyc's ClusterLab look for results ten times a second, not twice a minute, and lose none.

    It closes its connection right after it has submitted. What ipyparallel had not sent by
    then is lost, on a busy machine now and then, and is waited for without end.
    """
    close = epyc.ClusterLab.close

    def close_when_all_is_sent(lab: epyc.ClusterLab) -> None:
        if lab._client is not None:
            wait_until_sent(lab._client)
        close(lab)

    monkeypatch.setattr(epyc.ClusterLab, "WaitingTime", 0.1)
    monkeypatch.setattr(epyc.ClusterLab, "close", close_when_all_is_sent)


def wait_until_sent(client: ipyparallel.Client) -> None:
    """Wait until the client's thread has sent all tasks that were submitted."""
    is_sent = threading.Event()

    def look() -> None:
        if client._task_stream.sending():
            client._io_loop.call_later(0.01, look)
        else:
            is_sent.set()

    client._io_loop.add_callback(look)
    assert is_sent.wait(60)


@pytest.fixture(params=[sides.MEMORY, sides.JSON, sides.HDF5, sides.SQLITE])
def notebooks(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sides.Notebooks]:
    """Every kind of notebook."""
    yield from _notebooks(request.param, tmp_path)


@pytest.fixture(params=[sides.JSON, sides.HDF5, sides.SQLITE])
def kept_notebooks(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sides.Notebooks]:
    """Every kind of notebook that outlives its object."""
    yield from _notebooks(request.param, tmp_path)


@pytest.fixture(params=[sides.JSON, sides.HDF5])
def file_notebooks(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sides.Notebooks]:
    """The kinds of notebook that epyc keeps in files."""
    yield from _notebooks(request.param, tmp_path)


def _notebooks(kind: str, directory: Path) -> Iterator[sides.Notebooks]:
    made = sides.Notebooks(kind, directory)
    yield made
    made.close()


@pytest.fixture(params=["Lab", "ParallelLab", "ClusterLab"])
def labs(request: pytest.FixtureRequest) -> Iterator[sides.Labs]:
    """Every class of lab."""
    if request.param == "ClusterLab":
        yield request.getfixturevalue("cluster_labs")
        return
    made = sides.Labs(request.param, {"cores": 2} if request.param == "ParallelLab" else {})
    yield made
    made.close()


@pytest.fixture
def cluster_labs(cluster: Path, tame_epyc: None) -> Iterator[sides.Labs]:
    """Labs on the cluster."""
    made = sides.Labs("ClusterLab", {"profile_dir": str(cluster)})
    yield made
    made.close()
