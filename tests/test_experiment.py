import importlib.util
import inspect
import logging
import os
import pickle
import re
import subprocess
import sys
import textwrap
from datetime import datetime
from pathlib import Path

import cloudpickle
import epyc
import numpy as np
import pytest

import labkit
from labkit import point
from labkit.errors import ExperimentError, ParameterError
from labkit.experiment import (
    Experiment,
    ExperimentCombinator,
    RepeatedExperiment,
    SummaryExperiment,
    declared,
    identity,
)
from labkit.parameter import Parameter, Range, values
from labkit.source import code_digest, source_digest

PARAMETERS, METADATA, RESULTS = (
    epyc.Experiment.PARAMETERS,
    epyc.Experiment.METADATA,
    epyc.Experiment.RESULTS,
)


class Phases:
    """An experiment that notes its phases, and fails in those it is told to."""

    failing: frozenset = frozenset()
    error: BaseException = ValueError("by intention")

    def __init__(self):
        super().__init__()
        self.phases = []

    def phase(self, name):
        self.phases.append(name)
        if name in self.failing:
            raise self.error

    def setUp(self, params):
        self.phase("setUp")

    def do(self, params):
        self.phase("do")
        return {"double": params["a"] * 2}

    def tearDown(self):
        self.phase("tearDown")


class Ours(Phases, Experiment):
    pass


class Theirs(Phases, epyc.Experiment):
    pass


def failing(*phases, error=None, cls=Ours):
    e = cls()
    e.failing = frozenset(phases)
    e.error = error or ValueError("by intention")
    return e.set({"a": 3})


class Dice(Experiment):
    sides = Parameter([6, 20], unit="pips", doc="how many sides")

    def do(self, params):
        return {"thrown": self.rng.random()}


class TheirDice(epyc.Experiment):
    def do(self, params):
        return {"thrown": 4}


def thrown(e, params):
    """All results of an experiment at a point, however it nests them."""
    report = e.set(params).run()
    assert report[METADATA][e.STATUS], report[METADATA]

    def flat(report):
        results = report[RESULTS]
        return [x for r in results for x in flat(r)] if isinstance(results, list) else [results]

    return [r["thrown"] for r in flat(report)]


# ---------- life cycle ----------


@pytest.mark.parametrize(
    "phases", [(), ("setUp",), ("do",), ("tearDown",), ("do", "tearDown")], ids="-".join
)
def test_a_run_goes_through_the_phases_of_epyc(phases):
    ours, theirs = failing(*phases), failing(*phases, cls=Theirs)
    our_report, their_report = ours.run(), theirs.run()
    assert ours.phases == theirs.phases
    assert our_report.keys() == their_report.keys()
    assert our_report[PARAMETERS] == their_report[PARAMETERS] == {"a": 3}
    assert our_report[RESULTS] == their_report[RESULTS]
    meta, their_meta = our_report[METADATA], their_report[METADATA]
    assert meta.keys() == their_meta.keys()
    assert meta[ours.STATUS] is their_meta[ours.STATUS] is (not phases)
    assert type(meta.get(ours.EXCEPTION)) is type(their_meta.get(ours.EXCEPTION))
    assert (ours.success(), ours.failed()) == (theirs.success(), theirs.failed())
    assert ours.experimentalResults() == theirs.experimentalResults()
    for name, kind in epyc.Experiment.StandardMetadataTypes.items():
        if name in meta and name != epyc.Experiment.EXCEPTION:
            assert type(meta[name]) is kind


def test_a_run_that_succeeds_reports_results_and_times():
    e = Ours().set({"a": 3})
    report = e.run()
    meta = report[METADATA]
    assert report[RESULTS] == {"double": 6}
    assert e["double"] == 6
    assert meta[e.EXPERIMENT] == f"{__name__}.Ours"
    parts = [meta[t] for t in (e.SETUP_TIME, e.EXPERIMENT_TIME, e.TEARDOWN_TIME)]
    assert all(t >= 0 for t in parts)
    assert meta[e.ELAPSED_TIME] >= sum(parts) - 1e-6
    assert meta[e.START_TIME] <= meta[e.END_TIME] <= datetime.now()


def test_a_run_that_fails_reports_what_failed_and_where():
    e = failing("do")
    meta = e.run()[METADATA]
    assert meta[e.EXCEPTION] is e.error
    assert meta[e.TRACEBACK].startswith("Traceback (most recent call last)")
    assert 'self.phase("do")' in meta[e.TRACEBACK]
    assert meta[e.TRACEBACK].endswith("ValueError: by intention\n")


def test_the_time_of_a_phase_that_failed_counts():
    class Slow(Experiment):
        def do(self, params):
            started = datetime.now()
            while (datetime.now() - started).total_seconds() < 0.01:
                pass
            raise ValueError

    meta = Slow().set({}).run()[METADATA]
    assert meta[Slow.ELAPSED_TIME] >= 0.01
    assert Slow.EXPERIMENT_TIME not in meta


def test_the_failure_of_do_is_kept_when_tearing_down_fails_too(caplog):
    e = failing("do", "tearDown")
    with caplog.at_level(logging.ERROR, logger="labkit.experiment"):
        report = e.run()
    assert 'self.phase("do")' in report[METADATA][e.TRACEBACK]
    assert "tearDown failed after do had failed" in caplog.text


@pytest.mark.parametrize("phase", ["setUp", "do", "tearDown"])
def test_a_fatal_failure_is_raised(phase):
    e = failing(phase)
    with pytest.raises(ValueError, match="by intention") as caught:
        e.run(fatal=True)
    assert caught.value is e.error
    assert e.failed()
    assert e.metadata()[e.EXCEPTION] is e.error


@pytest.mark.parametrize("phase", ["setUp", "do", "tearDown"])
def test_leaving_the_interpreter_is_a_failure_of_the_point(phase):
    e = failing(phase, error=SystemExit(3))
    report = e.run()
    assert report[METADATA][e.STATUS] is False
    assert isinstance(report[METADATA][e.EXCEPTION], SystemExit)
    assert e.phases[-1] == ("setUp" if phase == "setUp" else "tearDown")


@pytest.mark.parametrize("phase", ["setUp", "do", "tearDown"])
def test_an_interrupt_passes_and_the_experiment_is_torn_down(phase):
    e = failing(phase, error=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        e.run()
    assert e.phases[-1] == ("setUp" if phase == "setUp" else "tearDown")


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (None, r"Odd.do returned NoneType, not a dict; end it with: return \{'name': value\}"),
        (5, "returned int"),
        ("text", "returned str"),
        ({1: 2}, "Odd.do named a result 1; names must be text"),
    ],
)
def test_results_that_are_no_dict_are_a_failure(returned, message):
    class Odd(Phases, Experiment):
        def do(self, params):
            return returned

    e = Odd().set({})
    report = e.run()
    assert report[RESULTS] == {}
    assert report[METADATA][e.STATUS] is False
    assert isinstance(report[METADATA][e.EXCEPTION], ExperimentError)
    assert re.search(message, str(report[METADATA][e.EXCEPTION]))
    assert e.phases == ["setUp", "tearDown"]


def test_do_may_return_a_list_of_results_dicts():
    inside = Ours().set({"a": 1}).run()

    class Several(Experiment):
        def do(self, params):
            return [inside, inside]

    assert Several().set({}).run()[RESULTS] == [inside, inside]


def test_a_second_run_knows_nothing_of_the_first():
    e = failing("do")
    e.run()
    e.failing = frozenset()
    report = e.set({"a": 4}).run()
    assert report[RESULTS] == {"double": 8}
    assert not {e.EXCEPTION, e.TRACEBACK} & report[METADATA].keys()
    e.failing = frozenset({"do"})
    assert e.run()[RESULTS] == {}
    assert e.experimentalResults() == {}


def test_report_can_be_overridden():
    class Noted(Ours):
        def report(self, params, meta, res):
            return super().report(params, {**meta, "note": "x"}, res)

    assert Noted().set({"a": 1}).run()[METADATA]["note"] == "x"


def test_an_experiment_can_be_pickled_with_its_state():
    e = Dice().set({"sides": 6})
    before = e.run()[RESULTS]
    for pickler in (pickle, cloudpickle):
        twin = pickler.loads(pickler.dumps(e))
        assert twin.parameters() == {"sides": 6}
        assert twin.run()[RESULTS] == before


# ---------- declared parameters ----------


def test_on_the_class_a_parameter_is_its_declaration():
    assert Dice.sides.name == "sides"
    assert Dice.sides.range == [6, 20]
    assert (Dice.sides.unit, Dice.sides.doc) == ("pips", "how many sides")
    assert Dice.sides.label == "sides [pips]"
    assert Parameter([1]).label == ""
    assert repr(Dice.sides) == "Parameter([6, 20], unit='pips', doc='how many sides')"


def test_on_an_experiment_a_parameter_is_its_value():
    e = Dice()
    with pytest.raises(AttributeError, match="sides has a value only while a point is set"):
        _ = e.sides
    assert e.set({"sides": 20}).sides == 20
    assert not hasattr(e.set({"other": 1}), "sides")


def test_a_combinator_has_the_values_of_the_experiment_inside():
    assert RepeatedExperiment(Dice(), 2).set({"sides": 6}).parameters() == {"sides": 6}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (range(3), [0, 1, 2]),
        ((1, 2), [1, 2]),
        (5, [5]),
        (None, [None]),
        ("text", ["text"]),
        (b"bytes", [b"bytes"]),
        (np.array([1.5, 2.5]), [1.5, 2.5]),
        (np.array(5), [5]),
        (Range(0, 1), Range(0, 1)),
    ],
    ids=repr,
)
def test_the_range_of_a_parameter_is_a_list_or_an_interval(given, expected):
    assert values("a", given) == expected
    assert Parameter(given).range == expected


def test_an_iterator_is_read_once_and_kept():
    class Walk(Experiment):
        steps = Parameter(10**i for i in range(3))

    assert Walk.steps.range == Walk.steps.range == [1, 10, 100]


def test_an_empty_range_is_refused_when_the_class_is_defined():
    with pytest.raises(ParameterError, match="the range of parameter steps is empty"):

        class Walk(Experiment):
            steps = Parameter([])


@pytest.mark.parametrize("name", ["run", "version", "seed", "rng", "parameters", "STATUS"])
def test_a_name_of_every_experiment_cannot_be_a_parameter(name):
    with pytest.raises(ParameterError, match=rf"Walk\.{name}: this name belongs to every exp"):
        type("Walk", (Experiment,), {name: Parameter([1])})


class Base(Experiment):
    a = Parameter([1])
    b = Parameter([2])
    c = Parameter([3])


class Special(Base):
    b = Parameter([20, 21])
    c = None
    d = Parameter([4])


def test_parameters_are_inherited_overridden_and_taken_back():
    assert {n: p.range for n, p in declared(Base).items()} == {"a": [1], "b": [2], "c": [3]}
    assert {n: p.range for n, p in declared(Special).items()} == {"a": [1], "b": [20, 21], "d": [4]}
    assert list(declared(Special)) == ["a", "b", "d"]


def test_declared_takes_classes_experiments_and_combinators():
    nested = SummaryExperiment(RepeatedExperiment(Special(), 2))
    expected = declared(Special)
    assert declared(Special()) == declared(nested) == expected
    assert declared(epyc.RepeatedExperiment(Special(), 2)) == expected
    assert declared(TheirDice()) == declared(epyc.Experiment) == {}


# ---------- random streams ----------


def test_a_point_has_the_same_stream_whenever_it_runs():
    e = Dice()
    first = [thrown(e, {"sides": n}) for n in (6, 20)]
    again = [thrown(Dice(), {"sides": n}) for n in (20, 6)]
    assert first == again[::-1]
    assert first[0] != first[1]
    assert thrown(e, {"sides": 6}) == thrown(e, {"sides": 6})


def test_the_stream_is_that_of_the_key():
    k = point.key(f"{__name__}.Dice", 1, {"sides": 6})
    assert thrown(Dice(), {"sides": 6}) == [point.generator(0, k).random()]


def test_the_stream_goes_on_within_a_run():
    class Twice(Experiment):
        def setUp(self, params):
            self.first = self.rng.random()

        def do(self, params):
            return {"thrown": self.first, "second": self.rng.random()}

    results = Twice().set({}).run()[RESULTS]
    assert results["thrown"] != results["second"]


def test_setting_another_point_gives_its_stream_without_a_run():
    e = Dice().set({"sides": 6})
    _ = e.rng.random()
    assert e.set({"sides": 20}).rng.random() == thrown(Dice(), {"sides": 20})[0]


def test_seed_version_and_class_choose_the_stream():
    class Seeded(Dice):
        seed = 1

    class Versioned(Dice):
        version = 2

    at_run = Dice()
    at_run.seed = 1
    at = {"sides": 6}
    drawn = [thrown(e, at)[0] for e in (Dice(), Seeded(), Versioned(), at_run)]
    assert len(set(drawn)) == 4


def test_each_repetition_has_its_own_stream():
    at = {"sides": 6}
    once = thrown(RepeatedExperiment(Dice(), 5), at)
    assert len(set(once)) == 5
    assert thrown(RepeatedExperiment(Dice(), 5), at) == once
    # more repetitions go on where fewer ended
    assert thrown(RepeatedExperiment(Dice(), 7), at)[:5] == once
    assert thrown(Dice(), at)[0] not in once


def test_repetitions_inside_repetitions_have_their_own_streams():
    at = {"sides": 6}
    nested = RepeatedExperiment(RepeatedExperiment(Dice(), 3), 2)
    drawn = thrown(nested, at)
    assert len(set(drawn)) == 6
    assert thrown(nested, at) == drawn
    assert not set(drawn) & set(thrown(RepeatedExperiment(Dice(), 6), at))


class Through(ExperimentCombinator):
    """A combinator that knows nothing of repetitions."""

    def do(self, params):
        return [self.experiment().run()]


class TheirThrough(epyc.ExperimentCombinator):
    def do(self, params):
        return [self.experiment().run()]


@pytest.mark.parametrize("combinator", [Through, TheirThrough])
def test_repetitions_pass_through_other_combinators(combinator):
    drawn = thrown(RepeatedExperiment(combinator(Dice()), 4), {"sides": 6})
    assert len(set(drawn)) == 4


def test_an_experiment_is_itself_again_after_it_was_repeated():
    e, at = Dice(), {"sides": 6}
    before = thrown(e, at)
    RepeatedExperiment(e, 3).set(at).run()
    assert thrown(e, at) == before
    with pytest.raises(KeyboardInterrupt):
        RepeatedExperiment(failing("do", error=KeyboardInterrupt()), 2).run()


# ---------- combinators ----------


def test_repetitions_are_numbered():
    report = RepeatedExperiment(Ours(), 3).set({"a": 2}).run()
    assert [r[RESULTS] for r in report[RESULTS]] == [{"double": 4}] * 3
    assert [r[METADATA][RepeatedExperiment.I] for r in report[RESULTS]] == [0, 1, 2]
    assert {r[METADATA][RepeatedExperiment.REPETITIONS] for r in report[RESULTS]} == {3}


def test_a_summary_leaves_out_runs_that_failed():
    class Sometimes(Experiment):
        runs = 0

        def do(self, params):
            self.runs += 1
            if self.runs == 2:
                raise ValueError
            return {"x": self.runs}

    report = SummaryExperiment(RepeatedExperiment(Sometimes(), 3)).set({}).run()
    assert report[RESULTS]["x_mean"] == 2
    assert (report[RESULTS]["x_min"], report[RESULTS]["x_max"]) == (1, 3)
    assert report[METADATA][SummaryExperiment.UNDERLYING_RESULTS] == 3
    assert report[METADATA][SummaryExperiment.UNDERLYING_SUCCESSFUL_RESULTS] == 2


def test_a_summary_is_that_of_epyc():
    ours = SummaryExperiment(RepeatedExperiment(Ours(), 3), ["double"]).set({"a": 2}).run()
    theirs = epyc.SummaryExperiment(epyc.RepeatedExperiment(Theirs(), 3), ["double"])
    their_report = theirs.set({"a": 2}).run()
    assert ours[RESULTS] == their_report[RESULTS]
    assert ours[METADATA].keys() == their_report[METADATA].keys()


def test_combinators_are_those_of_epyc_and_ours():
    for cls in (RepeatedExperiment, SummaryExperiment, ExperimentCombinator):
        assert issubclass(cls, Experiment)
        assert issubclass(cls, getattr(epyc, cls.__name__))
    assert issubclass(RepeatedExperiment, ExperimentCombinator)


# ---------- identity ----------


class Newer(Dice):
    version = "2b"


class Sized(Experiment):
    def __init__(self, size):
        super().__init__()
        self.size = size

    def identity(self):
        return f"{super().identity()}:{self.size}"


def test_an_experiment_is_named_by_module_and_class():
    class Local(Experiment):
        pass

    assert identity(Dice()) == f"{__name__}.Dice"
    assert identity(Local()).endswith(
        "test_an_experiment_is_named_by_module_and_class.<locals>.Local"
    )
    assert identity(TheirDice()) == f"{__name__}.TheirDice"


def test_identities_of_combinators_tell_apart_what_they_compute():
    made = [
        Dice(),
        Newer(),
        TheirDice(),
        Sized(1),
        Sized(2),
        RepeatedExperiment(Dice(), 2),
        RepeatedExperiment(Dice(), 3),
        RepeatedExperiment(Newer(), 2),
        RepeatedExperiment(TheirDice(), 2),
        RepeatedExperiment(Sized(1), 2),
        RepeatedExperiment(Sized(2), 2),
        RepeatedExperiment(RepeatedExperiment(Dice(), 2), 3),
        RepeatedExperiment(RepeatedExperiment(Dice(), 3), 2),
        SummaryExperiment(Dice()),
        SummaryExperiment(Dice(), ["a"]),
        SummaryExperiment(Dice(), ["a", "b"]),
        SummaryExperiment(RepeatedExperiment(Dice(), 2)),
        Through(Dice()),
        TheirThrough(Dice()),
        epyc.RepeatedExperiment(Dice(), 2),
        epyc.RepeatedExperiment(Dice(), 3),
        epyc.SummaryExperiment(Dice()),
        epyc.SummaryExperiment(Dice(), ["a"]),
    ]
    assert len({identity(e) for e in made}) == len(made)


def test_the_version_of_an_experiment_counts_inside_a_combinator():
    class Changed(Dice):
        pass

    repeated = RepeatedExperiment(Changed(), 2)
    before = identity(repeated)
    Changed.version = 2
    assert identity(repeated) != before


def test_the_order_of_summarised_results_does_not_matter():
    assert identity(SummaryExperiment(Dice(), ["a", "b"])) == identity(
        SummaryExperiment(Dice(), ["b", "a"])
    )


def test_identity_does_not_depend_on_the_point():
    e = RepeatedExperiment(Dice(), 2)
    assert identity(e) == identity(e.set({"sides": 6}))


# ---------- source digests ----------


HEAD = "from labkit import Experiment, Parameter\n"
WALK = """
class Walk(Experiment):
    steps = Parameter([10, 100])

    def do(self, params):
        text = '''
of two lines'''
        return {"end": self.steps + 1}
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Return a function that imports a text as a module of its own."""

    def imported(text, name="walks"):
        monkeypatch.delitem(sys.modules, name, raising=False)
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}" / f"{name}.py"
        path.parent.mkdir()
        path.write_text(text)
        spec = importlib.util.spec_from_file_location(name, path)
        made = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, made)
        spec.loader.exec_module(made)
        return made

    return imported


@pytest.fixture
def digest(module):
    return lambda text: source_digest(module(HEAD + text).Walk())


def test_a_source_has_a_digest(digest):
    assert re.fullmatch("[0-9a-f]{32}", digest(WALK))
    assert digest(WALK) == digest(WALK)


@pytest.mark.parametrize(
    "same",
    [
        "# a comment\n\n\n" + WALK,
        WALK.replace("self.steps + 1", "(self.steps   +  # why\n            1)"),
        WALK.replace("    def", "\n    # of the walk\n    def"),
        WALK + "\nclass Other(Experiment):\n    pass\n",
        WALK.replace("Parameter([10, 100])", "Parameter([10, 100,])"),
    ],
)
def test_comments_layout_and_neighbours_do_not_change_a_digest(digest, same):
    assert digest(same) == digest(WALK)


@pytest.mark.parametrize(
    "changed",
    [
        WALK.replace("+ 1", "+ 2"),
        WALK.replace("[10, 100]", "[10]"),
        WALK.replace("two lines", "three lines"),
        WALK + "\n    def setUp(self, params):\n        pass\n",
    ],
)
def test_code_changes_a_digest(digest, changed):
    assert changed != WALK
    assert digest(changed) != digest(WALK)


def test_a_base_of_ones_own_counts(digest):
    based = WALK.replace("Walk(Experiment)", "Base(Experiment)") + "\nclass Walk(Base):\n    pass\n"
    assert digest(based) != digest(based.replace("+ 1", "+ 2"))


def test_bases_of_python_itself_do_not_count(digest, monkeypatch):
    asked = []
    getsource = inspect.getsource
    monkeypatch.setattr(inspect, "getsource", lambda cls: asked.append(cls) or getsource(cls))
    assert digest("import abc\n" + WALK.replace("(Experiment)", "(Experiment, abc.ABC)"))
    assert [cls.__name__ for cls in asked] == ["Walk"]


def test_a_class_inside_a_function_has_a_digest(module):
    def inside(text):
        body = textwrap.indent(text, "    ", lambda line: line != "of two lines'''\n")
        return source_digest(module(f"{HEAD}\ndef make():\n{body}\n    return Walk()\n").make())

    assert re.fullmatch("[0-9a-f]{32}", inside(WALK))
    assert inside("# why\n" + WALK) == inside(WALK)
    assert inside(WALK.replace("+ 1", "+ 2")) != inside(WALK)


def test_an_experiment_of_epyc_has_a_digest(module):
    def theirs(result):
        text = f"class Walk(epyc.Experiment):\n    def do(self, params):\n        return {result}"
        return source_digest(module(f"import epyc\n{text}\n").Walk())

    assert theirs({"a": 1}) == theirs({"a": 1}) != theirs({"a": 2})


def test_a_module_whose_name_begins_like_epycs_counts(module):
    walk = module(HEAD + WALK, "epycal").Walk()
    assert source_digest(walk) == source_digest(module(HEAD + WALK).Walk())


def test_the_digest_of_a_combinator_is_that_of_what_is_inside():
    expected = source_digest(Dice())
    assert expected
    for e in (RepeatedExperiment(Dice(), 2), SummaryExperiment(epyc.RepeatedExperiment(Dice(), 2))):
        assert source_digest(e) == expected


def test_what_has_no_source_has_no_digest():
    namespace = {"__name__": __name__}
    exec(HEAD + WALK, namespace)
    assert source_digest(namespace["Walk"]()) == ""
    namespace["__name__"] = "__main__"
    exec(HEAD + WALK, namespace)
    assert source_digest(namespace["Walk"]()) == ""
    assert source_digest(type("Walk", (Experiment,), {})()) == ""
    assert source_digest(Experiment()) == ""


CELLS = """
from IPython.core.interactiveshell import InteractiveShell

def cell(text):
    outcome = shell.run_cell(text)
    outcome.raise_error()
    return outcome.result

shell = InteractiveShell.instance()
cell("from labkit import Experiment, Parameter, RepeatedExperiment")
cell("from labkit.source import source_digest")
walk = '''
class Walk(Experiment):
    steps = Parameter([10, 100])

    def do(self, params):
        return {"end": self.steps + 1}
'''
cell("import dataclasses")
walk = "@dataclasses.dataclass" + walk
for text in (walk, "# a comment\\n" + walk, walk.replace("+ 1", "+ 2")):
    cell("x = 1\\n" + text)
    digest = cell("source_digest(Walk())")
    assert cell("source_digest(RepeatedExperiment(Walk(), 2))") == digest
    print("digest", digest)
cell("class Short(Walk):\\n    steps = Parameter([1])")
print("digest", cell("source_digest(Short())"))
"""


def test_a_class_of_a_notebooks_cell_has_a_digest(tmp_path, monkeypatch):
    script = tmp_path / "cells.py"
    script.write_text(CELLS)
    monkeypatch.setenv("PYTHONPATH", str(Path(labkit.__file__).parents[1]))
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, commented, changed, short = re.findall("digest ([0-9a-f]{32})", done.stdout)
    assert first == commented
    assert first != changed
    assert short == changed  # its own source cannot be had, that of its base can


def test_an_experiment_may_have_attributes_of_any_name():
    class Own(Experiment):
        def __init__(self):
            super().__init__()
            self.rng = "mine"
            self._rng = self._phases = self._check = self.identity = "mine, too"

        def do(self, params):
            return {"rng": self.rng, "kept": self._rng}

    e = Own().set({"a": 1})
    assert e.run()["results"] == {"rng": "mine", "kept": "mine, too"}
    assert identity(e).endswith("Own")


@pytest.mark.parametrize(
    "arguments", [["walks.py"], ["-m", "walks"], ["-c", "import walks; walks.main()"]]
)
def test_a_script_is_the_same_experiment_however_it_is_started(tmp_path, arguments):
    (tmp_path / "walks.py").write_text(
        "import cloudpickle, labkit\n"
        "from labkit.experiment import identity\n"
        "class Walk(labkit.Experiment):\n"
        "    def do(self, params):\n"
        "        return {'drawn': self.rng.random()}\n"
        "def main():\n"
        "    e = Walk().set({'a': 1})\n"
        "    print(identity(e), e.run()['results']['drawn'])\n"
        "    print(identity(labkit.RepeatedExperiment(e, 2)))\n"
        "    travelled = cloudpickle.loads(cloudpickle.dumps(e))\n"
        "    assert travelled.run()['results'] == e.run()['results']\n"
        "if __name__ == '__main__':\n"
        "    main()\n"
    )
    ended = subprocess.run(
        [sys.executable, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    first, second = ended.stdout.splitlines()
    walk, drawn = first.split()
    assert walk == "walks.Walk"
    assert "(walks.Walk@1)" in second

    class Walk(Experiment):
        def identity(self):
            return "walks.Walk"

    assert Walk().set({"a": 1}).rng.random() == float(drawn)


def test_the_loaded_code_is_told_apart():
    class Walk(Experiment):
        def do(self, params):
            return {"y": 1, "in": params["x"] in {"a", "b", "c"}}

    first = Walk

    class Walk(Experiment):
        def do(self, params):
            return {"y": 2, "in": params["x"] in {"a", "b", "c"}}

    assert code_digest(first()) != code_digest(Walk())
    travelled = cloudpickle.loads(cloudpickle.dumps(Walk()))
    assert (
        code_digest(travelled) == code_digest(Walk()) == code_digest(RepeatedExperiment(Walk(), 2))
    )


def test_the_digest_of_code_is_the_same_in_each_process():
    script = (
        "import labkit\nfrom labkit.source import code_digest\n"
        "class Walk(labkit.Experiment):\n"
        "    def do(self, params):\n"
        "        return {'in': params['x'] in {'a', 'b', 'c', 'd', 'e'}}\n"
        "print(code_digest(Walk()))"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(digests) == 1


def test_an_experiment_may_add_parameters_but_not_change_the_point():
    class Greedy(Experiment):
        def setUp(self, params):
            params["added"] = 3

        def do(self, params):
            assert params == {"x": 1, "y": 2, "added": 3}
            params["x"] = 99
            params.pop("y")
            return {}

    e = Greedy().set({"x": 1, "y": 2})
    for _ in range(2):
        assert e.run()["parameters"] == {"x": 1, "y": 2, "added": 3}


def test_a_list_that_is_no_results_dicts_is_refused():
    class Lists(Experiment):
        def do(self, params):
            return [1, 2]

    assert "do returned list" in str(Lists().set({"x": 1}).run()["metadata"][Experiment.EXCEPTION])
