"""Attachments and the stores that hold them, without an engine."""

import copy
import gc
import os
import pickle
import subprocess
import sys
import textwrap
import time

import epyc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

import labkit
from labkit import attachment
from labkit.attachment import Attachment, digest_of, parts, store_folder
from labkit.cli.running import Request
from labkit.engine import store as engine_store
from labkit.engine.store import KEPT_S, Store, require, stock
from labkit.errors import (
    AttachmentStoreError,
    ExperimentError,
    MissingAttachmentError,
    ParameterError,
    UnknownParameterError,
)
from labkit.experiment import attachments, space

NUMBERS = np.arange(1000.0)

LAYOUTS = {
    "line": NUMBERS,
    "scalar": np.array(2.5),
    "empty": np.zeros((0, 3)),
    "columns first": np.asfortranarray(NUMBERS.reshape(10, 100)),
    "every second": NUMBERS[::2],
    "other end first": NUMBERS.astype(">f4"),
    "complex": NUMBERS + 1j,
    "long double": NUMBERS.astype(np.longdouble),
    "bool": NUMBERS > 10,
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A store of the test's own."""
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def elsewhere(attached):
    """Return an attachment as another process gets it."""
    function, arguments = attached.__reduce__()
    known = attachment._made.pop(attached.digest)
    try:
        return function(*arguments)
    finally:
        attachment._made[attached.digest] = known


def files(folder):
    return sorted(p.name for p in folder.iterdir())


# ---------- the array ----------


def test_nobody_can_change_it():
    mine = NUMBERS.copy()
    attached = Attachment(mine)
    mine[0] = -1
    assert attached.array[0] == 0
    with pytest.raises(ValueError, match="read-only"):
        attached.array[0] = 1
    hidden = mine.view()
    hidden.flags.writeable = False
    assert not np.shares_memory(Attachment(hidden).array, mine)


def test_what_cannot_change_is_not_copied(tmp_path):
    np.save(tmp_path / "a.npy", NUMBERS)
    fixed = NUMBERS.copy()
    fixed.flags.writeable = False
    for given_ in (fixed, np.load(tmp_path / "a.npy", mmap_mode="r")[10:]):
        assert np.shares_memory(Attachment(given_).array, given_)


@pytest.mark.parametrize("wrong", [["a"], [None], np.array("2020", "M8[D]")], ids=repr)
def test_only_numbers_are_attached(wrong):
    with pytest.raises(ExperimentError, match=r"an attachment holds numbers.*dtype"):
        Attachment(wrong)


@given(
    arrays(
        st.sampled_from("?bhqBHQefdFD").map(np.dtype),
        array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=9),
    )
)
def test_the_digest_is_that_of_dtype_shape_and_content(array):
    digest = digest_of(array)
    assert len(digest) == 32
    assert digest_of(np.array(array, order="F")) == digest
    assert digest_of(array.reshape(1, *array.shape)) != digest
    if array.size:
        other = array.copy()
        other.reshape(-1)[-1:].view(np.uint8)[0] ^= 1
        assert digest_of(other) != digest


def test_the_digest_does_not_depend_on_parts(monkeypatch):
    whole = {name: digest_of(a) for name, a in LAYOUTS.items()}
    monkeypatch.setattr(attachment, "PART_BYTES", 100)
    assert {name: digest_of(a) for name, a in LAYOUTS.items()} == whole
    assert len(list(parts(NUMBERS))) == 84


def test_a_pickle_carries_a_name():
    attached = Attachment(np.zeros(10**6))
    assert attached.nbytes == 8 * 10**6
    assert len(pickle.dumps(attached)) < 250
    assert pickle.loads(pickle.dumps(attached)) is attached, "this process has it"
    assert copy.deepcopy(attached) is attached
    known = elsewhere(attached)
    assert (known.dtype, known.shape, known.nbytes) == (np.float64, (10**6,), 8 * 10**6)
    with pytest.raises(MissingAttachmentError, match=attached.digest):
        _ = known.array


def test_what_nobody_holds_is_freed():
    attached = Attachment(np.zeros(10))
    digest = attached.digest
    del attached
    gc.collect()
    assert digest not in attachment._made


# ---------- the store ----------


@pytest.mark.parametrize("array", LAYOUTS.values(), ids=LAYOUTS)
def test_another_process_maps_the_file(array, cache):
    attached = Attachment(array)
    Store().put(attached)
    known = elsewhere(attached)
    np.testing.assert_array_equal(known.array, array)
    assert (known.array.dtype, known.array.shape) == (array.dtype, array.shape)
    assert not known.array.flags.writeable
    assert isinstance(known.array.base, np.memmap)
    assert files(cache / "attachments") == [attached.filename]


def test_where_it_is(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("LABKIT_CACHE", "~/fast")
    monkeypatch.setenv("HOME", "/home/alice")
    assert str(store_folder()) == "/home/alice/fast/attachments"
    monkeypatch.delenv("LABKIT_CACHE")
    assert store_folder() == tmp_path / "labkit" / "attachments"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert str(store_folder()) == "/home/alice/.cache/labkit/attachments"


def test_it_is_the_users_own(cache):
    Store().put(Attachment(NUMBERS))
    folder = cache / "attachments"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {p.stat().st_mode & 0o777 for p in folder.iterdir()} == {0o600}


def test_a_file_is_written_once(cache):
    attached = Attachment(NUMBERS)
    Store().put(attached)
    first = (cache / "attachments" / attached.filename).stat()
    Store().put(attached)
    assert (cache / "attachments" / attached.filename).stat().st_ino == first.st_ino


def test_parts_may_come_in_any_order_and_twice(monkeypatch, cache):
    monkeypatch.setattr(attachment, "PART_BYTES", 1000)
    attached = Attachment(NUMBERS)
    pieces = [(start, bytes(part)) for start, part in parts(NUMBERS)]
    for start, part in [*reversed(pieces), pieces[3]]:
        Store().write(attached, "a", start, part)
    assert not Store().has(attached)
    Store().finish(attached, "a")
    np.testing.assert_array_equal(elsewhere(attached).array, NUMBERS)


@pytest.mark.parametrize("damage", ["a part is missing", "a bit has changed"])
def test_what_has_another_digest_is_refused(damage, monkeypatch, cache):
    monkeypatch.setattr(attachment, "PART_BYTES", 1000)
    attached = Attachment(NUMBERS)
    for start, part in parts(NUMBERS if damage == "a part is missing" else NUMBERS + 1e-9):
        if damage != "a part is missing" or start != 3000:
            Store().write(attached, "a", start, part)
    with pytest.raises(AttachmentStoreError, match="not what was attached"):
        Store().finish(attached, "a")
    assert files(cache / "attachments") == []


def test_an_array_that_has_changed_is_refused(tmp_path, cache):
    changing = np.lib.format.open_memmap(tmp_path / "a.npy", "w+", float, (100,))
    attached = Attachment(changing)
    assert attached.digest
    changing[50] = 1
    with pytest.raises(AttachmentStoreError, match="its array has changed"):
        Store().put(attached)
    assert files(cache / "attachments") == []


@pytest.mark.parametrize("damage", ["cut off", "too long", "another array", "no array"])
def test_a_damaged_file_is_not_used_and_written_again(damage, cache):
    attached = Attachment(NUMBERS)
    Store().put(attached)
    path = cache / "attachments" / attached.filename
    match damage:
        case "cut off":
            os.truncate(path, path.stat().st_size - 8)
        case "too long":
            os.truncate(path, path.stat().st_size + 8)
        case "another array":
            np.save(path, NUMBERS.astype("f4"))
        case "no array":
            path.write_bytes(b"no array")
    known = elsewhere(attached)
    assert not known.is_here()
    Store().put(attached)
    np.testing.assert_array_equal(known.array, NUMBERS)


def test_a_store_that_cannot_be_written_is_said(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path / "file"))
    with pytest.raises(
        AttachmentStoreError, match=r"cannot be kept in .*file/attachments \(.*set LABKIT_CACHE"
    ):
        Store().put(Attachment(NUMBERS))
    said = stock([Attachment(NUMBERS)])
    assert (said.store, len(said.missing)) == ("", 1)
    assert "set LABKIT_CACHE" in said.problem


def test_a_store_that_can_only_be_read_is_used(cache):
    attached = Attachment(NUMBERS)
    Store().put(attached)
    # a full or read-only disk refuses the id: here something is in its place
    (cache / "attachments" / "id").mkdir()
    assert stock([attached]).missing == ()
    require([elsewhere(attached)])


def test_a_full_disk_is_said_before_anything_is_written(cache, monkeypatch):
    usage = engine_store.shutil._ntuple_diskusage(10**9, 10**9, 10)
    monkeypatch.setattr(engine_store.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(AttachmentStoreError, match=r"MB free.*needs.*LABKIT_CACHE"):
        Store().put(Attachment(NUMBERS))
    assert files(cache / "attachments") == []


def test_what_was_not_used_for_long_goes_when_something_comes(cache):
    long_ago = time.time() - KEPT_S - 60
    unused, used, fresh = (Attachment(NUMBERS + i) for i in range(3))
    for old in (unused, used):
        Store().put(old)
    Store().write(unused, "broken-off", 0, b"1")
    for path in (cache / "attachments").iterdir():
        os.utime(path, (long_ago, long_ago))
    assert elsewhere(used).is_here()
    Store().put(fresh)
    assert files(cache / "attachments") == sorted([used.filename, fresh.filename])


def test_an_engine_waits_for_what_may_be_coming(monkeypatch):
    attached = Attachment(NUMBERS)
    known = elsewhere(attached)
    monkeypatch.setattr(engine_store, "WAIT_S", 0.1)
    with pytest.raises(MissingAttachmentError) as caught:
        require([known], 3)
    assert (caught.value.digest, caught.value.engine) == (attached.digest, 3)
    assert caught.value.store == Store().id
    monkeypatch.setattr(engine_store, "WAIT_S", 20.0)
    looks = []

    def look(_):
        looks.append(1)
        Store().put(attached)

    monkeypatch.setattr(engine_store.time, "sleep", look)
    require([known], 3)
    assert looks == [1]


def test_an_error_comes_back_from_its_text():
    e = MissingAttachmentError("7f", "a3", 5)
    again = MissingAttachmentError.from_text(str(e))
    assert vars(again) == vars(e) == {"digest": "7f", "store": "a3", "engine": 5}
    assert vars(pickle.loads(pickle.dumps(e))) == vars(e)
    assert MissingAttachmentError.from_text(str(MissingAttachmentError("7f"))).digest == "7f"
    assert MissingAttachmentError.from_text("something else") is None


PUT = """
    import sys, numpy as np
    from labkit.attachment import Attachment
    from labkit.engine.store import Store
    attached = Attachment(np.arange(1e6))
    attached.digest
    print("ready", flush=True)
    sys.stdin.readline()
    print(Store().id, flush=True)
    Store().put(attached)
"""


def python(script, **more):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True, **more
    )


def test_processes_may_put_the_same_at_once(cache):
    with python(PUT, stdin=subprocess.PIPE) as a, python(PUT, stdin=subprocess.PIPE) as b:
        for process in (a, b):
            assert process.stdout.readline() == "ready\n"
        for process in (a, b):
            process.stdin.write("\n")
            process.stdin.flush()
        ids = {process.communicate(timeout=60)[0].strip() for process in (a, b)}
    assert (a.returncode, b.returncode) == (0, 0)
    assert ids == {Store().id}, "they see one store"
    attached = Attachment(np.arange(1e6))
    assert files(cache / "attachments") == sorted([attached.filename, "id"])
    np.testing.assert_array_equal(elsewhere(attached).array, attached.array)


def test_an_array_may_be_larger_than_memory(tmp_path, cache):
    script = """
        import resource, numpy as np
        from labkit.attachment import Attachment
        from labkit.engine.store import Store
        with open("/proc/self/status") as status:
            now = next(int(l.split()[1]) for l in status if l.startswith("VmData")) * 1024
        resource.setrlimit(resource.RLIMIT_DATA, (now + 64 * 2**20,) * 2)
        attached = Attachment(np.load({path!r}, mmap_mode="r"))
        Store().put(attached)
        print(attached.nbytes, Store().has(attached))
    """
    path = tmp_path / "large.npy"
    np.lib.format.open_memmap(path, "w+", float, (50 * 2**20,))
    with python(script.format(path=str(path))) as process:
        assert process.communicate(timeout=60)[0].split() == [str(400 * 2**20), "True"]


# ---------- what experiments say of themselves ----------


class Tiles(labkit.Experiment):
    """Has a space and an attachment that depend on how it was made."""

    tile = labkit.Parameter(range(100), doc="which part")
    scale = labkit.Parameter([1.0])

    def __init__(self, series=(1.0, 2.0), count=3):
        super().__init__()
        self.series, self.count = Attachment(series), count

    def space(self):
        return {**super().space(), "tile": range(self.count)}

    def do(self, params):
        return {"tile": params["tile"]}


class Plain(epyc.Experiment):
    """Was written for epyc."""

    def __init__(self):
        super().__init__()
        self.space = {"of": "its own"}


def test_a_space_may_depend_on_the_arguments():
    inside = Tiles(count=2)
    expected = {"tile": [0, 1], "scale": [1.0]}
    nested = labkit.SummaryExperiment(epyc.RepeatedExperiment(inside, 2))
    assert space(inside) == space(nested) == space(epyc.RepeatedExperiment(inside, 2)) == expected
    assert space(Plain()) == space(epyc.RepeatedExperiment(Plain(), 2)) == {}
    lab = labkit.Lab()
    lab.runExperiment(labkit.RepeatedExperiment(inside, 2))
    assert sorted(lab.dataframe()["tile"]) == [0, 0, 1, 1]
    lab["tile"] = [7]
    assert [p["tile"] for _, p in lab.experiments(inside)] == [7]


def test_the_command_line_takes_the_parameters_of_the_space(tmp_path):
    class Named(Tiles):
        def space(self):
            return {"piece": range(self.count)}

    assert len(Request(Named(), tmp_path / "a.db").keys()) == 3
    assert len(Request(Named(), tmp_path / "a.db", {"piece": [1]}).keys()) == 1
    with pytest.raises(UnknownParameterError, match="did you mean piece"):
        Request(Named(), tmp_path / "a.db", {"pice": [1]}).keys()


def test_a_space_without_values_is_said():
    with pytest.raises(ParameterError, match="tile is empty"):
        labkit.Lab().runExperiment(Tiles(count=0))


def test_attachments_are_found_in_attributes_each_once():
    inside = Tiles()
    inside.again = Attachment([1.0, 2.0])
    inside.other = Attachment([3.0])
    outer = labkit.RepeatedExperiment(inside, 2)
    outer.own = Attachment([4.0])
    theirs = Plain()
    theirs.series = Attachment([5.0])
    assert [a.array.tolist() for a in attachments(inside)] == [[1.0, 2.0], [3.0]]
    assert [a.array.tolist() for a in attachments(outer)] == [[4.0], [1.0, 2.0], [3.0]]
    assert [len(attachments(epyc.RepeatedExperiment(e, 2))) for e in (inside, theirs)] == [2, 1]
