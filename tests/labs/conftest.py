"""Labs of each kind, on one local cluster."""

import pytest

import labkit
from labkit.cluster.local import LocalCluster
from labkit.labs.delivery import _Delivery


@pytest.fixture(scope="session")
def cluster():
    """A controller and two engines for all tests that leave them alive."""
    started = LocalCluster(2)
    started.connect().close()
    yield started
    started.stop()


@pytest.fixture
def notebook(tmp_path):
    """A durable notebook."""
    with labkit.SQLiteLabNotebook(tmp_path / "lab.db").open() as nb:
        yield nb


@pytest.fixture(params=["Lab", "ParallelLab", "ClusterLab"])
def lab(request, notebook):
    """A lab of each kind."""
    if request.param == "ClusterLab":
        url_file = request.getfixturevalue("cluster").connection_file
        made = labkit.ClusterLab(notebook, url_file=url_file)
    elif request.param == "ParallelLab":
        made = labkit.ParallelLab(notebook, cores=2)
    else:
        made = labkit.Lab(notebook)
    with made:
        yield made


@pytest.fixture
def sizes_sent(monkeypatch):
    """Returns the list that receives how many points each chunk of a lab has that is sent."""

    def watch(lab):
        sent, submit = [], lab._submit

        def submit_noted(chunk, message):
            sent.append(len(chunk.points))
            return submit(chunk, message)

        monkeypatch.setattr(lab, "_submit", submit_noted)
        return sent

    return watch


@pytest.fixture
def sent(monkeypatch):
    """What engines were asked to do to get attachments and code: engine and function."""
    asked = []

    def send(self, function, arguments):
        asked.append((self.engine, function.__name__))
        return real(self, function, arguments)

    real = _Delivery._send
    monkeypatch.setattr(_Delivery, "_send", send)
    return asked
