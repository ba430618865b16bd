"""Which code a hand imports, without an engine."""

import io
import pickle
import zipfile

import cloudpickle
import numpy as np
import pytest

import labkit
from labkit.attachment import Attachment
from labkit.bundle import Bundle
from labkit.engine import hand
from labkit.engine.hand import ask, run_chunk
from labkit.engine.messages import Chunk
from labkit.engine.store import Store
from labkit.errors import MissingAttachmentError

from .answers import runs_in


class Uses(labkit.Experiment):
    """Calls a module that is nowhere to be found."""

    def do(self, params):
        import gears

        return {"teeth": gears.TEETH}


def bundle(name, text):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(f"{name}.py", text)
    return Bundle(name, Attachment(np.frombuffer(buffer.getvalue(), np.uint8)))


def outcome_with(*bundles):
    points, code = [("k", {})], pickle.dumps(bundles)
    chunk = Chunk("c", "sweep", 0, cloudpickle.dumps(Uses()), {}, points, bundles=code)
    answer = pickle.loads(run_chunk(chunk.order, pickle.dumps(chunk)))
    ((_, run),) = runs_in(answer.records)
    return run["results"]["teeth"], run["metadata"]["labkit.pid"]


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    """A store, and a hand that knows it."""
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path))
    hand._made_for.cache_clear()
    yield Store()
    hand._made_for.cache_clear()


def test_another_version_is_for_another_hand(store):
    first, second = bundle("gears", "TEETH = 7"), bundle("gears", "TEETH = 9")
    for each in (first, second):
        store.put(each.archive)
    teeth, pid = outcome_with(first)
    assert (teeth, pid) == (7, outcome_with(first, bundle("numpy", "not this one"))[1])
    teeth, other = outcome_with(second)
    assert teeth == 9
    assert other != pid
    assert outcome_with(second) == (9, other)


def test_what_is_not_there_is_said():
    gears = bundle("gears", "TEETH = 8")
    assert pickle.loads(ask("lacking", pickle.dumps((gears,)))) == [gears.archive.digest]
    with pytest.raises(MissingAttachmentError, match=gears.archive.digest):
        outcome_with(gears)
