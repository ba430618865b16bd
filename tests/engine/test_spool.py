"""Spools: what is in them after an engine has ended in the middle."""

import os
import signal
import subprocess
import sys

import pytest

from labkit.engine import spool


def test_records_come_back(tmp_path):
    written = spool.Spool(tmp_path, "c1")
    written.append(b"first")
    written.append(b"2")
    written.sync()
    assert written.finish() == "c1.spool"
    path = spool.find(tmp_path, "c1")
    assert list(spool.read(path)) == [b"first", b"2"]
    assert spool.leftovers(tmp_path) == [path]
    assert spool.chunk_of(path) == "c1"


def test_there_is_none():
    assert spool.find(spool.Path("/nonexistent"), "c") is None


@pytest.mark.parametrize("cut", [1, 5, 11])
def test_a_record_that_is_cut_off_ends_the_file(tmp_path, cut):
    written = spool.Spool(tmp_path, "c")
    written.append(b"sound")
    written.append(b"cut off")
    path = tmp_path / written.finish()
    path.write_bytes(path.read_bytes()[:-cut])
    assert list(spool.read(path)) == [b"sound"]


def test_a_damaged_record_ends_the_file(tmp_path):
    written = spool.Spool(tmp_path, "c")
    written.append(b"sound")
    written.append(b"damaged")
    path = tmp_path / written.finish()
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    assert list(spool.read(path)) == [b"sound"]


def test_zeros_in_the_place_of_a_record_end_the_file(tmp_path):
    written = spool.Spool(tmp_path, "c")
    written.append(b"sound")
    path = tmp_path / written.finish()
    path.write_bytes(path.read_bytes() + bytes(60))
    assert list(spool.read(path)) == [b"sound"]


def test_a_spool_is_read_in_portions_while_it_is_written(tmp_path):
    written = spool.Spool(tmp_path, "c")
    (path,) = spool.leftovers(tmp_path)
    assert spool.portion(path, 0, 10**6) == ([], spool.portion(path, 0, 1)[1])
    for record in (b"first", b"second", b"third"):
        written.append(record)
    one, place = spool.portion(path, 0, 1)
    assert one == [b"first"]
    rest, place = spool.portion(path, place, 10**6)
    assert rest == [b"second", b"third"]
    written.append(b"fourth")
    assert spool.portion(path, place, 10**6)[0] == [b"fourth"]
    written.finish()
    assert not path.exists()
    assert spool.portion(path, place, 10**6)[0] == [b"fourth"], "it has another name now"


def test_something_else_has_no_records(tmp_path):
    path = tmp_path / "other.spool"
    path.write_bytes(b"hello")
    assert list(spool.read(path)) == []
    assert spool.running(path) is None


def test_after_a_kill_records_and_the_running_point_are_there(tmp_path):
    script = (
        "import sys, os, signal; from pathlib import Path; from labkit.engine.spool import Spool\n"
        "s = Spool(Path(sys.argv[1]), 'c'); s.begin(0); s.append(b'done'); s.begin(1)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    ended = subprocess.run([sys.executable, "-c", script, os.fspath(tmp_path)], check=False)
    assert ended.returncode == -signal.SIGKILL
    path = spool.find(tmp_path, "c")
    assert path.name == "c.spool.running"
    assert list(spool.read(path)) == [b"done"]
    assert spool.running(path).point == 1


def test_a_spool_that_is_completed_meanwhile_is_read(tmp_path):
    written = spool.Spool(tmp_path, "c")
    written.append(b"record")
    seen = spool.find(tmp_path, "c")
    written.finish()
    assert not seen.exists()
    assert list(spool.read(seen)) == [b"record"]
