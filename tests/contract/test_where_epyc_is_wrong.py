"""Where epyc 1.7.2 is wrong, labkit is right: a test for each single fault.

Each shows the fault on epyc first. Should a later epyc mend one, that first half fails, and
the program belongs with the others, where both sides do the same.
"""

import importlib
import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import epyc
import numpy
import pandas
import pytest

from .both import run_on
from .experiments import adding, slow
from .observation import NOTHING_RAISED, frame, is_missing, made, outcomes, plain, raised
from .sides import close_if_it_can

ENDS_AT_ONCE = "ended at once"


@pytest.fixture
def labkit() -> ModuleType:
    """The module that is right."""
    return importlib.import_module("labkit")


def on(module: ModuleType, program: Callable[..., Any], **arguments: Any) -> Any:
    """Run a program on one side."""
    return run_on(module, program, arguments)


def first_name(error: Any) -> Any:
    """Name an exception by its class, or by epyc's or Python's that labkit's inherits."""
    return error if error == NOTHING_RAISED else error.names[0]


# ---------- fact 17: pending results are lost ----------


@pytest.mark.parametrize("ending", ["resolve", "cancel"])
def test_a_pending_result_is_lost_when_one_ends_and_another_is_added(labkit, ending):
    def program(epyc):
        nb = epyc.LabNotebook()
        for a in (1, 2, 3):
            nb.addPendingResult({"a": a}, f"job-{a}")
        if ending == "resolve":
            nb.resolvePendingResult(made(epyc, {"a": 1}, {"r": 1}), "job-1")
        else:
            nb.cancelPendingResult("job-1")
        nb.addPendingResult({"a": 4}, "job-4")
        resolved = raised(lambda: nb.resolvePendingResult(made(epyc, {"a": 3}, {"r": 3}), "job-3"))
        return sorted(nb.pendingResults()), first_name(resolved)

    assert on(epyc, program) == [["job-2", "job-4"], "PendingResultException"]
    assert on(labkit, program) == [["job-2", "job-4"], NOTHING_RAISED]


# ---------- fact 18: only the current result set is looked at ----------


@pytest.fixture
def pending_in_another_set(cluster_labs):
    """A lab on each side whose results are pending in a set that is not the current one."""

    def make(module):
        lab = cluster_labs.on(module).create()
        lab.notebook().addResultSet("one")
        lab["a"] = range(4)
        lab.runExperiment(slow(module, 0.3))
        lab.notebook().addResultSet("two")
        return lab

    return make


def test_wait_never_ends_when_another_set_is_pending(labkit, pending_in_another_set):
    def program(epyc, seconds):
        lab = pending_in_another_set(epyc)
        return lab.wait(timeout=seconds), lab.notebook().numberOfResults("one")

    assert on(epyc, program, seconds=2) == [False, 0]
    assert on(labkit, program, seconds=20) == [True, 4]


def test_updating_never_fetches_what_another_set_waits_for(labkit, pending_in_another_set):
    def program(epyc, seconds):
        lab = pending_in_another_set(epyc)
        end = time.monotonic() + seconds
        while time.monotonic() < end and lab.notebook().numberOfResults("one") < 4:
            lab.updateResults()
            time.sleep(0.05)
        return lab.notebook().numberOfResults("one")

    assert on(epyc, program, seconds=2) == 0
    assert on(labkit, program, seconds=20) == 4


# ---------- fact 19: finishing ----------


def test_a_set_created_on_a_cluster_and_finished_is_cancelled(labkit, cluster_labs):
    def program(epyc):
        def create(lab):
            lab["a"] = range(5)
            lab.runExperiment(slow(epyc, 0.1))

        lab = cluster_labs.on(epyc).create()
        created = lab.createWith("one", create, finish=True)
        rs = lab.notebook().resultSet("one")
        successful = len(rs.dataframe(only_successful=True))
        return created, rs.isLocked(), len(rs), successful

    assert on(epyc, program) == [True, True, 5, 0]
    assert on(labkit, program) == [True, True, 5, 5]


@pytest.mark.parametrize("what", ["the result set", "the notebook"])
def test_a_finished_notebook_still_waits_for_what_it_cancelled(labkit, cluster_labs, what):
    def program(epyc):
        nb = epyc.LabNotebook()
        lab = cluster_labs.on(epyc).create(nb)
        nb.addResultSet("one")
        nb.addPendingResult({"a": 1}, "job")
        if what == "the notebook":
            nb.finish()
        else:
            nb.current().finish()
        return nb.allPendingResults(), nb.numberOfAllPendingResults(), lab.wait(timeout=0.3)

    assert on(epyc, program) == [["job"], 1, False]
    assert on(labkit, program) == [[], 0, True]


# ---------- fact 20: this and that ----------


def test_the_ready_fraction_of_a_set_is_that_of_the_current_one(labkit):
    def program(epyc):
        nb = epyc.LabNotebook()
        nb.addResultSet("half")
        nb.addResult(made(epyc, {"a": 1}, {"r": 1}))
        nb.addPendingResult({"a": 2}, "job")
        nb.addResultSet("none")
        nb.addPendingResult({"a": 1}, "other")
        nb.addResultSet("all")
        return [nb.readyFraction(tag) for tag in ("half", "none", "all", nb.DEFAULT_RESULTSET)]

    assert on(epyc, program) == [1.0, 1.0, 1.0, 1.0]
    assert on(labkit, program) == [0.5, 0.0, 1.0, 1.0]


SEVERAL = {
    "list": lambda: [1, 2],
    "tuple": lambda: (1, 2),
    "set": lambda: {1, 2},
    "range": lambda: range(1, 3),
    "array": lambda: numpy.array([1, 2]),
    "iterator": lambda: iter([1, 2]),
}


@pytest.mark.parametrize("values", SEVERAL)
def test_results_for_several_values_of_a_parameter_cannot_be_had(labkit, values):
    def program(epyc):
        nb = epyc.LabNotebook()
        for a, b in [(1, 5), (2, 6), (5, 1), (2, 7)]:
            nb.addResult(made(epyc, {"a": a, "b": b}, {"r": a * b}))
        try:
            rows = frame(nb.dataframeFor({"a": SEVERAL[values]()}))["rows"]
        except ValueError as error:
            return type(error)
        return [[row["a"], row["b"]] for row in rows]

    assert on(epyc, program) == ([] if values in {"set", "iterator"} else "ValueError")
    assert on(labkit, program) == [[1, 5], [2, 6], [2, 7]]


def test_several_values_and_one_value_together(labkit):
    def program(epyc):
        rs = epyc.ResultSet()
        for a, b in [(1, 5), (2, 6), (5, 1), (2, 7)]:
            rs.addSingleResult(made(epyc, {"a": a, "b": b}, {"r": a * b}))
        rcs = rs.resultsFor({"a": [1, 2], "b": 6}) + rs.resultsFor({"a": [9], "b": [5, 6]})
        return [rc[epyc.Experiment.PARAMETERS] for rc in rcs]

    assert raised(lambda: on(epyc, program)) != NOTHING_RAISED
    assert on(labkit, program) == [{"a": 2, "b": 6}]


def test_pending_results_for_several_values_cannot_be_had(labkit):
    def program(epyc):
        rs = epyc.ResultSet()
        for a, b in [(1, 5), (2, 6), (5, 1)]:
            rs.addSinglePendingResult({"a": a, "b": b}, f"job-{a}")
        return rs.pendingResultsFor({"a": [1, 2]})

    assert raised(lambda: on(epyc, program)) != NOTHING_RAISED
    assert on(labkit, program) == ["job-1", "job-2"]


def hdf5(epyc, directory):
    """Create an HDF5 notebook."""
    return epyc.HDF5LabNotebook(str(directory / f"{epyc.__name__}.h5"), create=True)


def test_an_exception_that_is_no_ascii_breaks_hdf5(labkit, tmp_path):
    def program(epyc):
        class Failing(epyc.Experiment):
            def do(self, params):
                raise ValueError("größer als Ω")

        lab = epyc.Lab(hdf5(epyc, tmp_path))
        lab["a"] = [1]
        lab.runExperiment(Failing())
        nb = epyc.HDF5LabNotebook(lab.notebook().name())
        metadata = nb.results()[0][epyc.Experiment.METADATA]
        text = metadata[epyc.Experiment.TRACEBACK]
        return metadata[epyc.Experiment.EXCEPTION], text.splitlines()[-1]

    assert first_name(raised(lambda: on(epyc, program))) == "UnicodeEncodeError"
    assert on(labkit, program) == ["größer als Ω", "ValueError: größer als Ω"]


@pytest.mark.parametrize("where", ["parameter", "result", "attribute"])
def test_text_that_is_no_ascii_breaks_hdf5(labkit, tmp_path, where):
    def program(epyc):
        nb = hdf5(epyc, tmp_path)
        text = {k: "größer" if k == where else "plain" for k in ("parameter", "result")}
        nb.addResult(made(epyc, {"p": text["parameter"]}, {"r": text["result"]}))
        nb.current()["k"] = "größer" if where == "attribute" else "plain"
        nb.commit()
        nb = epyc.HDF5LabNotebook(nb.name())
        rc = nb.results()[0]
        return rc[epyc.Experiment.PARAMETERS], rc[epyc.Experiment.RESULTS], nb.current()["k"]

    assert first_name(raised(lambda: on(epyc, program))) == "UnicodeEncodeError"
    assert str(on(labkit, program)).count("größer") == 1


@pytest.mark.parametrize("dtype", ["float32", "float16", "longdouble"])
def test_a_short_float_breaks_json(labkit, tmp_path, dtype):
    def program(epyc):
        nb = epyc.JSONLabNotebook(str(tmp_path / f"{epyc.__name__}.json"), create=True)
        nb.addResult(made(epyc, {"a": 1}, {"r": numpy.dtype(dtype).type(1.5)}))
        nb.commit()
        nb = epyc.JSONLabNotebook(nb.name())
        return nb.results()[0][epyc.Experiment.RESULTS]

    assert first_name(raised(lambda: on(epyc, program))) == "TypeError"
    assert on(labkit, program) == {"r": 1.5}


def pointwise(epyc, lab):
    """Run over the diagonal of a space of nine points."""
    lab["a"] = [1, 2, 3]
    lab["b"] = [10, 20, 30]
    lab.runExperiment(adding(epyc))
    assert not hasattr(lab, "wait") or lab.wait(timeout=60)
    return len(lab), sorted(lab.dataframe()["total"].tolist())


def test_a_parallel_lab_takes_no_design(labkit):
    def program(epyc):
        lab = epyc.ParallelLab(cores=2, design=epyc.PointwiseDesign())
        seen = pointwise(epyc, lab)
        lab.close()
        return seen

    assert first_name(raised(lambda: on(epyc, program))) == "TypeError"
    assert on(labkit, program) == [3, [11, 22, 33]]


def test_a_cluster_lab_ignores_its_design(labkit, cluster, tame_epyc):
    def program(epyc):
        lab = epyc.ClusterLab(profile_dir=str(cluster), design=epyc.PointwiseDesign())
        seen = pointwise(epyc, lab)
        lab.close()
        return seen

    assert on(epyc, program)[0] == 9
    assert on(labkit, program) == [3, [11, 22, 33]]


# ---------- fact 20: crashes and other processes ----------


def child(module: ModuleType, path: Path, code: str, **run_arguments: Any) -> Any:
    """Run code in a process of its own; it has ``epyc``, ``made`` and ``path``."""
    program = f"""
        import os, resource, signal, sys
        import {module.__name__} as epyc
        def made(a):
            rc = epyc.Experiment.resultsdict()
            rc[epyc.Experiment.PARAMETERS]["a"] = a
            rc[epyc.Experiment.RESULTS]["r"] = a
            rc[epyc.Experiment.METADATA][epyc.Experiment.STATUS] = True
            return rc
        path = {str(path)!r}
    """
    source = textwrap.dedent(program) + textwrap.dedent(code)
    return subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", source],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=Path(__file__).parents[2],
        **run_arguments,
    )


FILL_UP = """
    nb = epyc.JSONLabNotebook(path)
    nb.addResult([made(a) for a in range(100)])
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, resource.RLIM_INFINITY))
"""
KILLED_IN_MID_COMMIT = """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    nb.commit()
"""
FULL_IN_MID_COMMIT = """
    try:
        nb.commit()
    except OSError:
        print("the disk is full")
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no limit on file sizes here")
@pytest.mark.parametrize("end", [KILLED_IN_MID_COMMIT, FULL_IN_MID_COMMIT], ids=["killed", "full"])
def test_a_crash_in_mid_commit_destroys_a_json_notebook(labkit, tmp_path, end):
    def program(epyc):
        path = tmp_path / f"{epyc.__name__}.json"
        nb = epyc.JSONLabNotebook(str(path), create=True, description="kept")
        nb.addResult(made(epyc, {"a": -1}, {"r": -1}))
        nb.commit()
        close_if_it_can(nb)
        ended = child(epyc, path, textwrap.dedent(FILL_UP) + textwrap.dedent(end))
        assert ended.returncode == -signal.SIGXFSZ or "disk is full" in ended.stdout, ended.stderr
        nb = epyc.JSONLabNotebook(str(path))
        kept = nb.description(), outcomes(nb.results())[0][epyc.Experiment.PARAMETERS]
        nb.addResult(made(epyc, {"a": -2}, {"r": -2}))
        nb.commit()
        return kept, epyc.JSONLabNotebook(str(path)).numberOfResults()

    assert first_name(raised(lambda: on(epyc, program))) == "JSONDecodeError"
    assert on(labkit, program) == [["kept", {"a": -1}], 2]


def test_of_two_writers_the_second_erases_what_the_first_wrote(labkit, tmp_path):
    write = """
        nb = epyc.{class_name}(path)
        nb.addResult(made(1))
        nb.commit()
    """

    def program(epyc, class_name):
        path = tmp_path / f"{epyc.__name__}.{class_name}"
        nb = getattr(epyc, class_name)(str(path))
        nb.addResult(made(epyc, {"a": 0}, {"r": 0}))
        nb.commit()
        other = child(epyc, path, write.format(class_name=class_name))
        nb.addResult(made(epyc, {"a": 2}, {"r": 2}))
        nb.commit()
        again = getattr(epyc, class_name)(str(path))
        there = sorted(rc[epyc.Experiment.PARAMETERS]["a"] for rc in again.results())
        return other.returncode, there, other.stderr

    code, there, _ = on(epyc, program, class_name="JSONLabNotebook")
    assert (code, there) == (0, [0, 2]), "the other process succeeded, and what it wrote is gone"
    code, there, message = on(labkit, program, class_name="SQLiteLabNotebook")
    assert (code, there) == (1, [0, 2])
    assert "NotebookInUseError" in message
    assert f"process {os.getpid()} " in message


def test_the_lock_of_a_writer_that_was_killed_is_free(labkit, tmp_path):
    path = tmp_path / "killed.db"
    killed = child(
        labkit,
        path,
        """
        nb = epyc.SQLiteLabNotebook(path)
        nb.addResult(made(1))
        os.kill(os.getpid(), signal.SIGKILL)
        """,
    )
    assert killed.returncode == -signal.SIGKILL
    nb = labkit.SQLiteLabNotebook(str(path))
    nb.addResult(made(labkit, {"a": 2}, {"r": 2}))
    assert sorted(nb.dataframe()["a"].tolist()) == [1, 2]
    nb.close()


@pytest.mark.parametrize("kind", ["JSONLabNotebook", "SQLiteLabNotebook"])
def test_an_interrupted_lab_loses_what_it_had_finished(labkit, tmp_path, kind):
    def program(epyc, class_name):
        class Interrupted(epyc.Experiment):
            def do(self, params):
                if params["i"] == 3:
                    raise KeyboardInterrupt
                return {"r": params["i"]}

        name = str(tmp_path / f"{epyc.__name__}.interrupted")
        lab = epyc.Lab(getattr(epyc, class_name)(name), epyc.PointwiseDesign())
        lab["i"] = range(6)
        error = raised(lambda: lab.runExperiment(Interrupted()))
        return first_name(error), getattr(epyc, class_name)(name).numberOfResults()

    assert on(epyc, program, class_name="JSONLabNotebook") == ["KeyboardInterrupt", 0]
    assert on(labkit, program, class_name=kind) == ["KeyboardInterrupt", 3]


# ---------- fact 21: cost ----------


def test_a_cluster_lab_sleeps_between_points(labkit, cluster_labs):
    def program(epyc):
        lab = cluster_labs.on(epyc).create()
        lab["a"] = range(2)
        lab.runExperiment(adding(epyc))
        assert lab.wait(timeout=60)
        lab["a"] = range(200)
        started = time.monotonic()
        lab.runExperiment(adding(epyc))
        assert lab.wait(timeout=60)
        assert len(lab.dataframe()) == 202
        return time.monotonic() - started

    epycs, labkits = (min(on(each, program) for _ in range(3)) for each in (epyc, labkit))
    assert labkits < epycs / 2


def test_waiting_goes_on_when_all_results_are_there(labkit, cluster):
    def program(epyc, work_s, limit_s):
        lab = epyc.ClusterLab(profile_dir=str(cluster))
        lab["a"] = range(2)
        lab.runExperiment(slow(epyc, work_s))
        started = time.monotonic()
        done = lab.wait(timeout=limit_s)
        seconds = time.monotonic() - started
        lab.close()
        return done, ENDS_AT_ONCE if seconds < 3 / 4 * limit_s else "waited to the end"

    assert on(epyc, program, work_s=2.0, limit_s=4) == [False, "waited to the end"]
    assert on(labkit, program, work_s=0.3, limit_s=20) == [True, ENDS_AT_ONCE]


def test_hdf5_is_written_row_by_row(labkit, tmp_path):
    def program(epyc):
        nb = hdf5(epyc, tmp_path)
        nb.addResult([made(epyc, {"a": a}, {"r": a / 2, "s": "text"}) for a in range(300)])
        nb.commit()
        nb.addResult(made(epyc, {"a": 300}, {"r": 150.0, "s": "text"}))
        started = time.monotonic()
        nb.commit()
        seconds = time.monotonic() - started
        assert epyc.HDF5LabNotebook(nb.name()).numberOfResults() == 301
        return seconds

    epycs, labkits = (min(on(each, program) for _ in range(3)) for each in (epyc, labkit))
    assert labkits < epycs / 2


# ---------- missing values ----------

LATER = {"int": 5, "float": 0.5, "flag": True, "text": "x", "complex": 1j, "list": [1, 2]}
ZERO = {"int": 0, "float": 0.0, "flag": False, "text": "", "complex": 0j, "list": 0.0}


@pytest.mark.parametrize("name", LATER)
@pytest.mark.parametrize("where", ["parameter", "result", "metadata"])
def test_a_missing_value_is_zero(labkit, name, where):
    def program(epyc):
        rs = epyc.ResultSet()
        rs.addSingleResult(made(epyc, {"a": 1}, {"r": 1}))
        late = {k: {"late": LATER[name]} if k == where else {} for k in ("parameter", "result")}
        extra = {"late": LATER[name]} if where == "metadata" else {}
        rs.addSingleResult(
            made(epyc, {"a": 2, **late["parameter"]}, {"r": 2, **late["result"]}, **extra)
        )
        missing, there = rs.dataframe()["late"].tolist()
        return ["missing" if is_nothing(missing) else missing, there]

    if (name, where) != ("list", "metadata"):
        assert on(epyc, program) == [ZERO[name], LATER[name]]
    assert on(labkit, program) == ["missing", LATER[name]]


def is_nothing(value: Any) -> bool:
    """Tell whether a value is None or one of pandas' and NumPy's."""
    return bool(numpy.all(pandas.isna(value)))


def test_the_results_of_a_failed_point_are_zero(labkit, notebooks):
    def program(epyc):
        maker = notebooks.on(epyc)
        nb = maker.create()
        nb.addResult(made(epyc, {"a": 1}, {"i": 1, "f": 0.5, "s": "x", "b": True}))
        nb.addResult(made(epyc, {"a": 2}, failure=ValueError("no")))
        df = maker.reopen(nb).dataframe(only_successful=False)
        return ["missing" if is_nothing(df[k].tolist()[1]) else df[k].tolist()[1] for k in "ifsb"]

    assert on(epyc, program) == [0, 0.0, "", False]
    assert on(labkit, program) == ["missing"] * 4


def test_the_exception_of_a_successful_point_is_text(labkit, notebooks):
    def program(epyc):
        maker = notebooks.on(epyc)
        nb = maker.create()
        nb.addResult(made(epyc, {"a": 1}, {"r": 1}))
        nb = maker.reopen(nb)
        keys = [epyc.Experiment.EXCEPTION, epyc.Experiment.TRACEBACK]
        inside = nb.results()[0][epyc.Experiment.METADATA]
        frame = nb.dataframe()
        values = [inside.get(k) for k in keys] + [frame[k].tolist()[0] for k in keys]
        return ["missing" if is_nothing(value) else value for value in values]

    assert on(epyc, program) == [""] * 4
    assert on(labkit, program) == ["missing"] * 4


@pytest.mark.parametrize("large", [2**53 + 1, 2**62 + 1])
def test_a_column_with_missing_integers_keeps_the_others_exact(labkit, notebooks, large):
    maker = notebooks.on(labkit)
    nb = maker.create()
    nb.addResult(made(labkit, {"a": 1}, {"r": large}))
    nb.addResult(made(labkit, {"a": 2}, failure=ValueError("no")))
    df = maker.reopen(nb).dataframe(only_successful=False)
    assert int(df["r"].tolist()[0]) == large
    assert is_nothing(df["r"].tolist()[1])


def test_nothing_is_no_result(labkit, notebooks):
    def program(epyc):
        class Nothing(epyc.Experiment):
            def do(self, params):
                return {"r": None, "s": params["a"]}

        maker = notebooks.on(epyc)
        lab = epyc.Lab(maker.create())
        lab["a"] = [1, 2]
        lab.runExperiment(Nothing())
        rcs = maker.reopen(lab.notebook()).results()
        return sorted((rc[epyc.Experiment.RESULTS] for rc in rcs), key=str)

    assert first_name(raised(lambda: on(epyc, program))) == "Exception"
    assert on(labkit, program) == [{"r": None, "s": 1}, {"r": None, "s": 2}]


# ---------- what was never finished in epyc ----------


def test_parameter_combinations_are_not_implemented(labkit, notebooks):
    def program(epyc):
        nb = notebooks.on(epyc).create()
        for a, b in [(1, "x"), (2, "y"), (1, "x"), (1, "y")]:
            nb.addResult(made(epyc, {"a": a, "b": b}, {"r": 1}))
        return sorted(tuple(c.items()) for c in nb.current().parameterCombinations())

    assert first_name(raised(lambda: on(epyc, program))) == "NotImplementedError"
    expected = [(("a", 1), ("b", "x")), (("a", 1), ("b", "y")), (("a", 2), ("b", "y"))]
    assert on(labkit, program) == plain(expected)


def test_the_actual_version_is_the_expected_one(labkit):
    def program(epyc):
        error = epyc.NotebookVersionException("1", "2")
        return error.expectedVersion(), error.actualVersion()

    assert on(epyc, program) == ["1", "1"]
    assert on(labkit, program) == ["1", "2"]


def test_an_empty_range_is_skipped(labkit):
    def program(epyc):
        lab = epyc.Lab()
        lab["a"] = [1, 2]
        lab["empty one"] = []
        lab.runExperiment(adding(epyc))
        return [rc[epyc.Experiment.PARAMETERS] for rc in lab.results()]

    assert sorted(map(str, on(epyc, program))) == ["{'a': 1}", "{'a': 2}"]
    with pytest.raises((labkit.LabkitError, ValueError), match="empty one"):
        on(labkit, program)


@pytest.mark.parametrize("phase", ["setUp", "do", "tearDown"])
def test_the_elapsed_time_leaves_the_failed_phase_out(labkit, phase):
    def program(epyc):
        def fail(self, params=None):
            time.sleep(0.1)
            raise ValueError

        failing = type("Failing", (epyc.Experiment,), {phase: fail})
        metadata = failing().set({}).run()[epyc.Experiment.METADATA]
        return metadata[epyc.Experiment.ELAPSED_TIME]

    assert on(epyc, program) < 0.1
    assert on(labkit, program) >= 0.1


# ---------- found while these tests were written ----------


def test_the_second_value_of_a_column_is_cut_to_the_type_of_the_first(labkit, file_notebooks):
    def program(epyc):
        nb = hdf5(epyc, file_notebooks.directory)
        for a in (1, 2.5):
            nb.addResult(made(epyc, {"a": a}, {"r": a}))
        nb.commit()
        rcs = epyc.HDF5LabNotebook(nb.name()).results()
        return [
            [rc[epyc.Experiment.PARAMETERS]["a"], rc[epyc.Experiment.RESULTS]["r"]] for rc in rcs
        ]

    assert on(epyc, program) == [[1, 1], [2, 2]]
    assert on(labkit, program) == [[1, 1], [2.5, 2.5]]


def test_pending_text_cannot_be_read_from_hdf5(labkit, tmp_path):
    def program(epyc):
        nb = hdf5(epyc, tmp_path)
        nb.addPendingResult({"a": 1, "s": "text"}, "job")
        nb.commit()
        return epyc.HDF5LabNotebook(nb.name()).pendingResultParameters("job")

    assert first_name(raised(lambda: on(epyc, program))) == "Exception"
    assert on(labkit, program) == {"a": 1, "s": "text"}


def test_a_pending_point_with_a_flag_cannot_be_cancelled(labkit, notebooks):
    def program(epyc):
        nb = notebooks.on(epyc).create()
        nb.addPendingResult({"a": 1, "flag": True}, "job")
        nb.cancelPendingResult("job")
        return nb.results()[0][epyc.Experiment.PARAMETERS]

    assert first_name(raised(lambda: on(epyc, program))) == "Exception"
    assert on(labkit, program) == {"a": 1, "flag": True}


def test_a_numpy_flag_is_no_result(labkit, notebooks):
    def program(epyc):
        maker = notebooks.on(epyc)
        nb = maker.create()
        nb.addResult(made(epyc, {"a": 1}, {"b": numpy.bool_(True)}))
        return maker.reopen(nb).results()[0][epyc.Experiment.RESULTS]

    assert first_name(raised(lambda: on(epyc, program))) == "Exception"
    assert on(labkit, program) == {"b": True}


def test_a_failure_after_a_list_breaks_hdf5(labkit, tmp_path):
    def program(epyc):
        nb = hdf5(epyc, tmp_path)
        nb.addResult(made(epyc, {"a": 1}, {"l": [1, 2]}))
        nb.addResult(made(epyc, {"a": 2}, failure=ValueError("no")))
        nb.commit()
        rcs = epyc.HDF5LabNotebook(nb.name()).results()
        return [rc[epyc.Experiment.RESULTS] for rc in rcs]

    assert first_name(raised(lambda: on(epyc, program))) == "AttributeError"
    assert on(labkit, program) == [{"l": [1, 2]}, {}]


def test_pending_results_come_back_from_json_as_an_attribute(labkit, tmp_path):
    def program(epyc):
        nb = epyc.JSONLabNotebook(str(tmp_path / f"{epyc.__name__}.json"), create=True)
        nb.addPendingResult({"a": 1}, "job")
        nb.commit()
        nb = epyc.JSONLabNotebook(nb.name())
        attributes = nb.current().keys()
        nb.resolvePendingResult(made(epyc, {"a": 1}, {"r": 1}), "job")
        nb.commit()
        nb = epyc.JSONLabNotebook(nb.name())
        return attributes, nb.numberOfResults(), nb.pendingResults()

    assert on(epyc, program) == [["pending-results"], 1, ["job"]], "it was resolved"
    assert on(labkit, program) == [[], 1, []]


def test_attributes_come_back_from_hdf5_as_text(labkit, tmp_path):
    values = {"i": 2, "f": 0.5, "b": True}

    def program(epyc):
        nb = hdf5(epyc, tmp_path)
        for key, value in values.items():
            nb.current()[key] = value
        nb.commit()
        rs = epyc.HDF5LabNotebook(nb.name()).current()
        return {key: rs[key] for key in values}

    assert on(epyc, program) == {key: str(value) for key, value in values.items()}
    assert on(labkit, program) == values


def test_an_array_breaks_json(labkit, tmp_path):
    def program(epyc):
        nb = epyc.JSONLabNotebook(str(tmp_path / f"{epyc.__name__}.json"), create=True)
        nb.addResult(made(epyc, {"a": 1}, {"r": numpy.arange(3)}))
        nb.commit()
        return epyc.JSONLabNotebook(nb.name()).results()[0][epyc.Experiment.RESULTS]

    assert first_name(raised(lambda: on(epyc, program))) == "TypeError"
    assert on(labkit, program) == {"r": [0, 1, 2]}


def test_a_body_that_returns_nothing_is_a_success(labkit):
    def program(epyc):
        class Nothing(epyc.Experiment):
            def do(self, params):
                pass

        e = Nothing()
        rc = e.set({}).run()
        error = rc[epyc.Experiment.METADATA].get(epyc.Experiment.EXCEPTION)
        return e.success(), rc[epyc.Experiment.RESULTS], "not a dict" in str(error)

    assert on(epyc, program) == [True, None, False]
    assert on(labkit, program) == [False, {}, True]


@pytest.mark.parametrize("class_name", ["Lab", "ParallelLab"])
def test_a_body_that_returns_nothing_ends_the_run(labkit, class_name):
    def program(epyc):
        class Nothing(epyc.Experiment):
            def do(self, params):
                return None if params["a"] == 1 else {"r": params["a"]}

        lab = getattr(epyc, class_name)()
        lab["a"] = range(3)
        lab.runExperiment(Nothing())
        lab.close()
        return [len(lab.dataframe(only_successful=successful)) for successful in (False, True)]

    assert first_name(raised(lambda: on(epyc, program))) == "AttributeError"
    assert on(labkit, program) == [3, 2]


def test_a_body_that_exits_ends_the_run(labkit):
    def program(epyc):
        class Exiting(epyc.Experiment):
            def do(self, params):
                if params["a"] == 1:
                    sys.exit(3)
                return {"r": params["a"]}

        lab = epyc.Lab()
        lab["a"] = range(3)
        error = raised(lambda: lab.runExperiment(Exiting()))
        return first_name(error), len(lab.dataframe())

    assert on(epyc, program)[0] == "SystemExit"
    assert on(labkit, program) == [NOTHING_RAISED, 2]


def test_repeated_repetitions_end_the_run(labkit):
    def program(epyc):
        lab = epyc.Lab()
        lab["a"] = range(2)
        inner = epyc.RepeatedExperiment(adding(epyc), 2)
        lab.runExperiment(epyc.RepeatedExperiment(inner, 3))
        return sorted(lab.dataframe()["total"].tolist())

    assert first_name(raised(lambda: on(epyc, program))) == "AttributeError"
    assert on(labkit, program) == [0] * 6 + [1] * 6


def test_a_result_named_as_a_parameter_ends_the_run(labkit, notebooks):
    def program(epyc):
        class Same(epyc.Experiment):
            def do(self, params):
                return {"a": 10 * params["a"]}

        maker = notebooks.on(epyc)
        lab = epyc.Lab(maker.create())
        lab["a"] = [1, 2]
        lab.runExperiment(Same())
        rcs = maker.reopen(lab.notebook()).results()
        pairs = ((rc[epyc.Experiment.PARAMETERS], rc[epyc.Experiment.RESULTS]) for rc in rcs)
        return sorted([parameters["a"], results["a"]] for parameters, results in pairs)

    assert first_name(raised(lambda: on(epyc, program))) == "ValueError"
    assert on(labkit, program) == [[1, 10], [2, 20]]


def test_an_experiment_that_cannot_travel_is_dropped(labkit, cluster_labs):
    def program(epyc):
        import threading

        class Stuck(epyc.Experiment):
            def __init__(self):
                super().__init__()
                self.lock = threading.Lock()

        lab = cluster_labs.on(epyc).create()
        lab["a"] = range(3)
        error = raised(lambda: lab.runExperiment(Stuck()))
        return first_name(error), lab.notebook().numberOfAllPendingResults(), len(lab.results())

    assert on(epyc, program) == [NOTHING_RAISED, 0, 0]
    name, *nothing = on(labkit, program)
    assert name != NOTHING_RAISED
    assert nothing == [0, 0]


def test_a_connection_file_is_ignored(labkit, cluster, tmp_path, monkeypatch):
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    monkeypatch.setattr(epyc.ClusterLab, "Reconnections", 0)

    def program(epyc):
        lab = epyc.ClusterLab(url_file=str(cluster / "security" / "ipcontroller-client.json"))
        engines = lab.numberOfEngines()
        lab.close()
        return engines

    assert raised(lambda: on(epyc, program)) != NOTHING_RAISED
    assert on(labkit, program) == 2


@pytest.mark.parametrize("name", ["CancelledException", "ResultSetLockedException"])
def test_exceptions_cannot_travel(labkit, name):
    def program(epyc):
        import pickle

        return str(pickle.loads(pickle.dumps(getattr(epyc, name)())))

    assert first_name(raised(lambda: on(epyc, program))) == "TypeError"
    assert on(labkit, program) == str(getattr(labkit, name)())


def test_what_is_missing_is_known_as_missing():
    assert all(map(is_missing, [None, float("nan"), pandas.NA, pandas.NaT, "", 0, 0.0, 0j, False]))
    assert not any(map(is_missing, ["x", 1, 0.5, 1j, True, [0], {}, []]))
