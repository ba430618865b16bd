"""An engine's hand: it runs points, and may end without the engine."""

import ctypes
import os
import pickle
import signal
import subprocess
import sys
import threading
import time

import cloudpickle
import psutil
import pytest

import labkit
from labkit.engine.hand import _hand, ask, run_chunk
from labkit.engine.messages import Chunk
from labkit.engine.outbox import FLUSH_S
from labkit.engine.threads import limited
from labkit.errors import ExperimentError

from .answers import runs_in


class Ends(labkit.Experiment):
    """Ends its process at the second point."""

    def __init__(self, how):
        super().__init__()
        self.how = how

    def do(self, params):
        if params["x"] == 0:
            # what is quicker may be gathered with the next one, and end with it
            time.sleep(2 * FLUSH_S)
        if params["x"] == 1:
            if self.how == "segfault":
                ctypes.string_at(0)
            elif self.how == "exit":
                os._exit(3)
            elif self.how == "memory":
                os.kill(os.getpid(), signal.SIGKILL)  # as the system does it
            elif self.how == "fork":
                if os.fork() == 0:
                    time.sleep(60)
                    os._exit(0)
                os.kill(os.getpid(), signal.SIGKILL)
            elif self.how == "late":
                time.sleep(1.2)
            elif self.how == "sleep":
                subprocess.Popen(["sleep", "97531"])
                ctypes.CDLL(None).sleep(60)
        if params["x"] == 2 and self.how == "late":
            time.sleep(60)
        return {"pid": os.getpid(), "threads": os.environ["NUMBA_NUM_THREADS"]}


def answer_to(how, timeout_s=None, probe=None, points=3):
    chunk = Chunk(
        "c",
        "sweep",
        0,
        cloudpickle.dumps(Ends(how)),
        {},
        [(f"k{x}", {"x": x}) for x in range(points)],
        timeout_s=timeout_s,
        probe=probe,
    )
    return pickle.loads(run_chunk(chunk.order, pickle.dumps(chunk)))


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("segfault", "died, signal 11"),
        ("memory", "died, signal 9"),
        ("exit", "ended, status 3"),
    ],
)
def test_a_point_that_ends_its_process_is_told_and_what_was_finished_is_kept(how, said):
    answer = answer_to(how)
    assert (answer.stop.why, answer.stop.how, answer.stop.point) == ("died", said, 1)
    assert [job for job, _ in runs_in(answer.records)] == ["sweep-0"]
    assert answer_to("not").stop is None, "there is a new hand"


@pytest.mark.skipif(sys.platform != "linux", reason="others have no such call")
def test_a_python_that_cannot_be_told_of_an_end_runs_points(monkeypatch):
    _hand(os.getpid()).end()
    monkeypatch.delattr(os, "pidfd_open")
    assert answer_to("not").stop is None
    assert answer_to("memory").stop.how == "died, signal 9"
    _hand(os.getpid()).end()


@pytest.mark.parametrize("can_be_told", [True, False])
def test_the_end_of_a_hand_is_noticed_though_its_child_holds_the_connection(
    can_be_told, monkeypatch
):
    hand = sys.modules["labkit.engine.hand"]
    if can_be_told:
        monkeypatch.setattr(hand, "_LOOK_S", 1e4)
    else:
        monkeypatch.setattr(hand, "_sentinel", lambda process: None)
    _hand(os.getpid()).end()
    began = time.monotonic()
    assert (answer := answer_to("fork")).stop.how == "died, signal 9"
    assert time.monotonic() - began < 30, "before the child ends"
    assert answer.stop.point == 1
    _hand(os.getpid()).end()


def test_what_was_finished_a_second_ago_is_in_the_answer():
    answer = answer_to("late", timeout_s=5.0)
    assert answer.stop.point == 2
    assert [job for job, _ in runs_in(answer.records)] == ["sweep-0", "sweep-1"]


def test_a_point_is_stopped_inside_c_code_with_all_that_it_has_started():
    started = time.monotonic()
    answer = answer_to("sleep", timeout_s=1.0)
    assert time.monotonic() - started < 20
    assert (answer.stop.why, answer.stop.how, answer.stop.point) == ("timeout", "1 s", 1)
    deadline = time.monotonic() + 20
    while any(p.info["cmdline"] == ["sleep", "97531"] for p in psutil.process_iter(["cmdline"])):
        assert time.monotonic() < deadline, "what it has started goes on"
        time.sleep(0.05)


def test_the_spool_that_a_lab_sees_stays(tmp_path):
    (tmp_path / "probe").touch()
    answer = answer_to("exit", probe=str(tmp_path / "probe"))
    assert answer.spooled == "c.spool.running"
    assert (tmp_path / answer.spooled).exists()


def test_points_share_a_hand_with_one_thread():
    runs = [run for _, run in runs_in(answer_to("not").records)]
    results = [run["results"] for run in runs]
    assert {r["threads"] for r in results} == {"1"}
    (pid,) = {r["pid"] for r in results}
    assert pid == _hand(os.getpid())._process.pid != os.getpid()


def test_threads_are_what_the_engine_has():
    assert limited({"LABKIT_THREADS": "4"})["OMP_NUM_THREADS"] == "4"
    assert limited({"OMP_NUM_THREADS": "3"})["OMP_NUM_THREADS"] == "3"


def test_a_full_disk_under_the_spool_costs_no_outcome(tmp_path, monkeypatch):
    from labkit.engine import outbox, spool, worker

    def full(*_):
        raise OSError(28, "No space left on device")

    chunk = Chunk("c", "s", 0, cloudpickle.dumps(Ends("not")), {}, [("k", {"x": 0})] * 3)
    monkeypatch.setenv("NUMBA_NUM_THREADS", "1")
    monkeypatch.setattr(outbox, "FLUSH_S", 0.0)
    monkeypatch.setattr(spool.Spool, "append", full)
    answer = pickle.loads(worker.run(pickle.dumps(chunk), tmp_path, is_shared=True))
    assert len(list(runs_in(answer.records))) == 3
    assert answer.spooled is None
    assert list(tmp_path.iterdir()) == []


def test_a_point_begins_while_its_spool_is_given_up(tmp_path, monkeypatch):
    from labkit.engine import outbox, spool

    begin, discard = spool.Spool.begin, spool.Spool.discard

    def given_up_before(out, index):
        monkeypatch.setattr(spool.Spool, "begin", begin)
        box._do_without(out)
        out.begin(index)

    def begun_after(out):
        discard(out)
        box.begin(1)

    monkeypatch.setattr(spool.Spool, "begin", given_up_before)
    monkeypatch.setattr(spool.Spool, "discard", begun_after)
    box = outbox.Outbox(tmp_path, Chunk("c", "s", 0, b"", {}, []), {}, is_shared=True)
    box.begin(0)
    assert box.answer(0.0).spooled is None


def test_what_ends_the_hand_while_it_loads_is_said():
    class Bad(labkit.Experiment):
        def __reduce__(self):
            return os._exit, (5,)

    with pytest.raises(ExperimentError, match="ended, status 5"):
        ask("why_not_loadable", cloudpickle.dumps(Bad()), "")


def test_answers_are_not_mixed_up_when_a_question_is_interrupted(tmp_path):
    asked = tmp_path / "asked"

    class Slow(labkit.Experiment):
        def __reduce__(self):
            return eval, (f"open({str(asked)!r}, 'a').write('!') and __import__('time').sleep(2)",)

    def interrupt():
        while not asked.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    assert ask("why_not_loadable", cloudpickle.dumps(Slow()), "") == b""
    thread.join()
    assert asked.read_text() == "!!", "it was asked again"
    assert ask("why_not_loadable", b"nothing that can be loaded", "") != b""


def test_a_hand_ends_with_its_engine():
    code = (
        "import os, signal; from labkit.engine.hand import _hand; "
        "print(_hand(os.getpid())._process.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    process = subprocess.run([sys.executable, "-c", code], check=False, stdout=-1, text=True)
    pid = int(process.stdout)
    deadline = time.monotonic() + 20
    while psutil.pid_exists(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not psutil.pid_exists(pid)


def test_a_program_that_a_point_starts_has_a_module_path_of_its_own():
    class Starts(labkit.Experiment):
        def do(self, params):
            return {"path": os.environ.get("PYTHONPATH", "")}

    chunk = Chunk("c", "s", 0, cloudpickle.dumps(Starts()), {}, [("k", {"x": 0})])
    answer = pickle.loads(run_chunk(chunk.order, pickle.dumps(chunk)))
    ((_, run),) = runs_in(answer.records)
    assert run["results"]["path"] == os.environ.get("PYTHONPATH", "")
