"""Matrix profiles in labs: tiles hold what the joins in one process give, whatever happens."""

import contextlib
import itertools
import os
import pickle
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import cloudpickle
import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import labkit
from labkit.engine.store import Store
from labkit.errors import MissingTilesError, SeriesError
from labkit.experiment import attachments, identity
from labkit.matrixprofile import ABJoin, SelfJoin, abjoin, selfjoin
from labkit.outcome import PARAMETERS
from tests.matrixprofile import brute_force
from tests.matrixprofile.brute_force import PROMISE
from tests.matrixprofile.slow import Slow, slow_sum
from tests.matrixprofile.test_joins import series

ROOT = Path(__file__).parents[2]

# no correlation is as near to such a threshold that it could count or not
KINDS = [
    {"kind": "1nn"},
    {"kind": "1nn", "sides": "both"},
    {"kind": "1nn_only", "correlation": True},
    {"kind": "sum", "threshold": 0.2345671},
    {"kind": "sum", "threshold": -0.7654321, "sides": "both"},
    {"kind": "knn", "k": 3},
    {"kind": "knn", "k": 2, "threshold": 0.2345671, "sides": "both"},
    {"kind": "summary", "shape": (3, 2)},
]

rng = np.random.default_rng(20261120)
WALK, OTHER = rng.normal(size=(2, 3000)).cumsum(axis=1)
WALK[700:760] = WALK[2000:2050] = 3.5
WALK[1500] = np.nan
WINDOW = 50


@pytest.fixture
def notebook(tmp_path):
    """A durable notebook."""
    with labkit.SQLiteLabNotebook(tmp_path / "tiles.db").open() as nb:
        yield nb


def job_of(series, window, options, **tiling):
    """Return the experiment of a join of one series, or of two."""
    join = SelfJoin if len(series) == 1 else ABJoin
    return join(*series, window, **options, **tiling)


def in_process(series, window, options):
    return (selfjoin if len(series) == 1 else abjoin)(*series, window, threads=1, **options)


def in_lab(job, lab=None):
    """Run all tiles of a job, and merge them."""
    lab = labkit.Lab() if lab is None else lab
    lab.runExperiment(job)
    assert lab.wait()
    return job.result(lab.notebook())


def flat(result):
    """Return the arrays of a result, one after another."""
    return [a for part in result for a in flat(part)] if isinstance(result, tuple) else [result]


def identical(one, other) -> bool:
    pairs = list(zip(flat(one), flat(other), strict=True))
    assert all(a.dtype == b.dtype for a, b in pairs)
    return all(np.array_equal(a, b, equal_nan=a.dtype == float) for a, b in pairs)


def assert_close(got, wanted) -> None:
    """Hold values against others; which of two equally near neighbours it is, is left open."""
    for a, b in zip(flat(got), flat(wanted), strict=True):
        assert a.dtype == b.dtype
        if a.dtype == float:
            there = np.isfinite(a)
            assert np.array_equal(there, np.isfinite(b))
            assert abs(a[there] - b[there]).max(initial=0) <= PROMISE
        else:
            assert np.array_equal(a < 0, b < 0)


def assert_are_where_they_say(result, d) -> None:
    """Hold the distances of a result against those to the neighbours that it names."""
    sides = result if isinstance(result[0], tuple) else (result,)
    for side, table in zip(sides, (d, d.T), strict=False):
        distance, index = (np.reshape(x, (len(x), -1)) for x in side)
        there = index >= 0
        named = np.take_along_axis(table, np.maximum(index, 0), axis=1)
        assert abs(named[there] - distance[there]).max(initial=0) <= PROMISE


# ---------- the same as in one process ----------


@settings(max_examples=150)
@given(
    a=series(),
    b=series(),
    m=st.integers(3, 9),
    side=st.integers(5, 60),
    options=st.sampled_from(KINDS),
    how=st.sampled_from(["self", "ab", "aligned"]),
)
def test_tiles_of_any_size_give_what_the_join_gives(a, b, m: int, side: int, options, how) -> None:
    m = min(m, a.size, b.size)
    both = (a,) if how == "self" else (a, b)
    if options["kind"] == "summary":
        sizes = a.size - m + 1, both[-1].size - m + 1
        options = options | {"shape": tuple(map(min, options["shape"], sizes))}
    options = options | ({"aligned": True} if how == "aligned" else {})
    got = in_lab(job_of(both, m, options, tile=side))
    assert_close(got, in_process(both, m, options))
    if options["kind"] in {"1nn", "knn"}:
        zone = -1 if how == "ab" else -(-m // 4)
        assert_are_where_they_say(got, brute_force.distances(a, both[-1], m, zone))


@pytest.mark.parametrize("options", KINDS, ids=str)
@pytest.mark.parametrize("both", [(WALK,), (WALK, OTHER), (OTHER, WALK[:500])])
def test_tiles_of_a_walk_give_what_the_join_gives(both, options) -> None:
    wanted = in_process(both, WINDOW, options)
    for side in (700, 1234):
        got = in_lab(job_of(both, WINDOW, options, tile=side))
        assert_close(got, wanted)
        if options["kind"] != "sum":
            assert identical(got, wanted)


def test_of_copies_in_several_tiles_the_first_wins() -> None:
    x = np.tile(rng.normal(size=100), 20)
    for options in ({}, {"kind": "knn", "k": 5}, {"kind": "knn", "k": 2, "sides": "both"}):
        assert identical(in_lab(SelfJoin(x, 30, tile=333, **options)), selfjoin(x, 30, **options))


def test_single_precision_goes_through_labs() -> None:
    distance, _ = in_lab(SelfJoin(OTHER, WINDOW, tile=700, precision="single"))
    excess = distance - selfjoin(OTHER, WINDOW)[0]
    assert -PROMISE <= excess.min() <= excess.max() < 0.05


# ---------- whoever computes, and in whatever order ----------


@pytest.fixture(scope="module")
def engines():
    """A lab with two engines of its own."""
    with labkit.ClusterLab(n=2) as lab:
        yield lab


@pytest.mark.parametrize("options", KINDS, ids=str)
def test_in_every_lab_it_is_the_same_to_the_last_bit(options, engines) -> None:
    job = SelfJoin(WALK, WINDOW, tile=600, **options)
    wanted = in_lab(job)
    for lab in (labkit.ParallelLab(cores=2), engines):
        lab.notebook().addResultSet(str(options))
        again = SelfJoin(WALK, WINDOW, tile=600, **options)
        assert identical(in_lab(again, lab), wanted)


@pytest.mark.parametrize("options", KINDS, ids=str)
def test_order_and_double_tiles_change_nothing(options, notebook) -> None:
    lab, job = labkit.Lab(), ABJoin(WALK, OTHER, WINDOW, tile=600, **options)
    wanted = in_lab(job, lab)
    outcomes = [rc for rc in lab.notebook().results() for _ in range(2)]
    random.Random(1).shuffle(outcomes)
    notebook.current().addResults(outcomes)
    assert len(notebook.current()) == 2 * len(job.tiles())
    assert identical(job.result(notebook), wanted)


def test_jobs_in_one_result_set_do_not_mix(notebook) -> None:
    lab = labkit.Lab(notebook)
    pairs = [(WALK,), (OTHER,), (WALK, OTHER)]
    jobs = [job_of(x, WINDOW, o, tile=900) for o, x in itertools.product(KINDS, pairs)]
    jobs += [SelfJoin(WALK, WINDOW, tile=800), SelfJoin(WALK, WINDOW + 1, tile=900)]
    for job in jobs:
        lab.runExperiment(job)
    for job in jobs:
        assert identical(job.result(notebook), in_lab(job))


def test_a_result_set_is_found_by_its_tag(notebook) -> None:
    lab, job = labkit.Lab(notebook), SelfJoin(OTHER, WINDOW, tile=900)
    notebook.addResultSet("walk")
    wanted = in_lab(job, lab)
    notebook.addResultSet("another")
    assert identical(job.result(notebook, "walk"), wanted)
    with pytest.raises(MissingTilesError):
        job.result(notebook)


# ---------- what is missing ----------


def test_what_is_missing_is_told() -> None:
    lab, job = labkit.Lab(), SelfJoin(OTHER, WINDOW, tile=600)
    lab["tile"] = [0, 4, 7]
    lab.runExperiment(job)
    with pytest.raises(MissingTilesError, match=r'12 of 15 tiles .*only="missing".*partial') as e:
        job.result(lab.notebook())
    again = pickle.loads(pickle.dumps(e.value))
    assert str(again) == str(e.value)
    assert again.missing == sorted({*range(15)} - {0, 4, 7})
    assert again.total == 15


def test_some_tiles_give_upper_bounds() -> None:
    lab, job = labkit.Lab(), SelfJoin(WALK, WINDOW, tile=600)
    before, _ = job.result(lab.notebook(), partial=True)
    assert (before >= np.sqrt(WINDOW) - PROMISE).sum() > 2500, "only flat windows are known"
    for number in range(len(job.tiles())):
        lab["tile"] = [number]
        lab.runExperiment(job)
        distance, index = job.result(lab.notebook(), partial=True)
        assert (distance <= before).all()
        assert np.array_equal(np.isinf(distance), index < 0)
        before = distance
    assert identical((distance, index), selfjoin(WALK, WINDOW))


def test_a_tile_that_failed_is_missing(notebook, monkeypatch) -> None:
    lab, job = labkit.Lab(notebook), SelfJoin(OTHER, WINDOW, tile=600, kind="sum")
    with monkeypatch.context() as patch:
        real = SelfJoin.do
        patch.setattr(SelfJoin, "do", lambda self, p: real(self, p) if p["tile"] > 1 else 1 / 0)
        lab.runExperiment(job)
    with pytest.raises(MissingTilesError) as e:
        job.result(notebook)
    assert e.value.missing == [0, 1]
    lab.runExperiment(job, only="missing")
    assert len(notebook.current()) == len(job.tiles()) + 2
    assert identical(job.result(notebook), in_lab(job))


KILLED = """
    import labkit
    from tests.matrixprofile.slow import slow_sum
    with labkit.SQLiteLabNotebook({db!r}).open() as notebook, labkit.{lab} as lab:
        lab.runExperiment(slow_sum(delay_s=1.0))
        lab.wait()
"""


@pytest.mark.parametrize(
    "lab", ["Lab(notebook)", "ParallelLab(notebook, cores=2)", "ClusterLab(notebook, n=2)"]
)
def test_what_a_killed_lab_left_is_completed(lab: str, tmp_path) -> None:
    db = tmp_path / "tiles.db"
    script = textwrap.dedent(KILLED).format(db=str(db), lab=lab)
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT) as process:
        while len(recorded(db)) < 3:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    job = slow_sum(delay_s=0)
    with labkit.SQLiteLabNotebook(db).open() as notebook:
        with labkit.Lab(notebook) as again:
            missing = len(again.missing(job))
            before = recorded(db)
            assert 0 < missing < len(job.tiles())
            again.runExperiment(job, only="missing")
        assert sorted(recorded(db)) == list(range(len(job.tiles()))), "each tile once"
        assert recorded(db)[: len(before)] == before
        assert identical(job.result(notebook), in_lab(job))


def recorded(db: Path) -> list[int]:
    """Return the tiles in a notebook that another process may be writing."""
    with contextlib.suppress(labkit.LabkitError):
        if db.exists():
            return [rc[PARAMETERS]["tile"] for rc in labkit.SQLiteLabNotebook(db).results()]
    return []


def test_a_killed_engine_costs_no_tile(notebook) -> None:
    job = Slow(OTHER, WINDOW, tile=400)
    with labkit.ClusterLab(notebook, n=2) as lab:
        first, _ = lab.engines().apply_sync(os.getpid)
        lab.runExperiment(job)
        psutil.Process(first).kill()
        assert lab.wait(timeout=60)
    tiles = [rc[PARAMETERS]["tile"] for rc in notebook.results()]
    assert sorted(tiles) == list(range(len(job.tiles())))
    assert identical(job.result(notebook), selfjoin(OTHER, WINDOW))


# ---------- what a job is, and how it travels ----------


def test_who_computes_is_no_part_of_a_job() -> None:
    wanted = identity(SelfJoin(WALK, WINDOW, tile=600))
    same = (
        SelfJoin(WALK, WINDOW, tile=np.int64(600), threads=3),
        SelfJoin(WALK.tolist(), np.uint8(WINDOW), tile=600, threads=None, engines=50),
        SelfJoin(WALK, WINDOW, tile=600, exclusion=13),
        pickle.loads(pickle.dumps(SelfJoin(WALK, WINDOW, tile=600))),
    )
    assert {identity(job) for job in same} == {wanted}


def test_all_else_is_part_of_a_job() -> None:
    jobs = [
        SelfJoin(WALK, WINDOW, tile=600),
        SelfJoin(WALK, WINDOW, tile=601),
        SelfJoin(WALK, WINDOW + 1, tile=600),
        SelfJoin(WALK, WINDOW, tile=600, exclusion="scamp"),
        SelfJoin(WALK, WINDOW, tile=600, precision="single"),
        SelfJoin(WALK, WINDOW, tile=600, correlation=True),
        SelfJoin(OTHER, WINDOW, tile=600),
        ABJoin(WALK, OTHER, WINDOW, tile=600),
        ABJoin(OTHER, WALK, WINDOW, tile=600),
        ABJoin(OTHER, WALK, WINDOW, tile=600, aligned=True),
        *(SelfJoin(WALK, WINDOW, tile=600, **options) for options in KINDS[1:]),
        SelfJoin(WALK, WINDOW, tile=600, kind="sum"),
        SelfJoin(WALK, WINDOW, tile=600, kind="knn", k=4),
        SelfJoin(WALK, WINDOW, tile=600, kind="summary", shape=(2, 3)),
    ]
    assert len({identity(job) for job in jobs}) == len(jobs)


def test_a_job_is_small_and_its_series_travels_once(engines, monkeypatch) -> None:
    lengths, real = [], engines._submit

    def submit(chunk, message):
        lengths.append(len(message))
        return real(chunk, message)

    monkeypatch.setattr(engines, "_submit", submit)
    x = rng.normal(size=30_000).cumsum()
    job = SelfJoin(x, WINDOW, tile=2000)
    assert len(job.tiles()) == 120
    assert len(cloudpickle.dumps(job)) < 1500
    (attached,) = attachments(job)
    engines.notebook().addResultSet("travels")
    in_lab(job, engines)
    file = Store().folder / attached.filename
    written = file.stat().st_ino
    in_lab(SelfJoin(x, WINDOW + 1, tile=6000), engines)
    assert file.stat().st_ino == written
    assert max(lengths) < 30_000
    maps = engines.engines().apply_sync(mapped, job)
    assert maps == [str(file)] * 2


def mapped(job) -> str:
    """Return the file that an engine has its series from."""
    return str(attachments(job)[0].array.base.filename)


@pytest.mark.parametrize("option", ["tile", "engines", "threads"])
@pytest.mark.parametrize("value", [0, -1, 2.5, "many", True])
def test_numbers_that_are_none_are_refused(option: str, value) -> None:
    with pytest.raises(SeriesError, match=rf"{option} is {value!r}; pass .*, 1 or more"):
        SelfJoin(WALK, WINDOW, **{option: value})


@pytest.mark.parametrize("scale", [1.0, 1e-200])
def test_a_window_that_no_kernel_can_compare_is_refused_before_any_work(scale: float) -> None:
    x = np.concatenate([WALK[:600], [1e200, 1, 2, 3, 5, 1e-9], WALK[:600]])
    x[600:606] *= scale
    if scale < 1:
        x[:600] = x[606:] = 1e-60
    with pytest.raises(SeriesError) as from_join:
        selfjoin(x, 3)
    for declared in (lambda: SelfJoin(x, 3), lambda: ABJoin(WALK, x, 3)):
        with pytest.raises(SeriesError) as e:
            declared()
        assert str(e.value) == str(from_join.value)


# ---------- memory ----------

LONG = """
    import resource, sys
    resource.setrlimit(resource.RLIMIT_DATA, (2**30, 2**30))
    import labkit, numpy as np
    from labkit.matrixprofile import SelfJoin
    job = SelfJoin(np.load({path!r}, mmap_mode="r"), 100, kind="knn", k=4)
    with labkit.SQLiteLabNotebook({db!r}).open() as notebook, labkit.Lab(notebook) as lab:
        lab["tile"] = [0, 1, len(job.tiles()) - 2]
        lab.runExperiment(job)
        distance, index = job.result(notebook, partial=True)
    # not ru_maxrss, which begins with what the process had that started this one
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    peak_kb = status["VmHWM"].split()[0]
    print(len(job.tiles()), len(distance), (index[:, -1] >= 0).sum(), peak_kb)
"""


def printed(script: str) -> list[int]:
    """Execute a script in a process of its own; return the numbers that it prints."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert done.returncode == 0, done.stderr
    return [*map(int, done.stdout.split())]


def test_a_long_series_takes_little_memory(tmp_path) -> None:
    x = np.lib.format.open_memmap(tmp_path / "long.npy", "w+", float, (2**22,))
    for start in range(0, x.size, 2**18):
        x[start : start + 2**18] = rng.normal(size=2**18)
    x[5000:5200] = x[-300:] = 1.0
    x.flush()
    del x
    script = LONG.format(path=str(tmp_path / "long.npy"), db=str(tmp_path / "long.db"))
    tiles, length, found, peak_kb = printed(script)
    assert tiles > 500
    assert length == 2**22 - 99
    assert found > 3 * 2**22 // np.sqrt(2 * tiles)
    assert peak_kb < 2**20


MANY = """
    import resource
    import labkit, numpy as np
    from labkit.labs import recording
    from labkit.matrixprofile import SelfJoin, joins

    def compute(query, a, b, tile, **settings):
        # as a join would give it, but at once: the later a tile, the nearer the neighbours
        return {{
            f"{{name}}_{{what}}": np.full((stop - start, 1), value)
            for name, start, stop, other in (
                ("rows", tile.top, tile.bottom, tile.left),
                ("columns", tile.left, tile.right, tile.top),
            )
            for what, value in (("apart", 1.0 / (1 + other + start)), ("index", other))
        }}

    joins.compute = compute
    # however fast this machine is, only their size makes a lab write them
    recording.BATCH_S = 1e9
    job = SelfJoin(np.load({path!r}, mmap_mode="r"), 100, tile=2**15)
    with labkit.SQLiteLabNotebook({db!r}).open() as notebook, labkit.Lab(notebook) as lab:
        lab["tile"] = [0]
        lab.runExperiment(job)
        job.result(notebook, partial=True)
        with open("/proc/self/status") as status:
            now = next(int(line.split()[1]) for line in status if line.startswith("VmData"))
        resource.setrlimit(resource.RLIMIT_DATA, (now * 1024 + 192 * 2**20,) * 2)
        lab["tile"] = range(len(job.tiles()))
        lab.runExperiment(job, only="missing")
        distance, index = job.result(notebook)
    size = sum(2 * 12 * (tile.bottom - tile.top) for tile in job.tiles())
    print(len(job.tiles()), size, *np.unique(index))
"""


def test_what_tiles_give_may_be_larger_than_memory(tmp_path) -> None:
    np.save(tmp_path / "long.npy", rng.normal(size=2**20))
    script = MANY.format(path=str(tmp_path / "long.npy"), db=str(tmp_path / "long.db"))
    tiles, size, *nearest = printed(script)
    assert tiles == 32 * 33 // 2
    assert size > 2 * 192 * 2**20
    # of each window, that in the last tile of its row or column; of those in the last, its own
    assert nearest == [31 * 2**15]
