"""ClusterLab: what is asynchronous, what survives the lab, and what controls the engines."""

import time

import pytest

from .both import on_both
from .experiments import adding, failing_at, slow, waiting
from .observation import NOTHING_RAISED, outcomes, raised

pytestmark = pytest.mark.usefixtures("tame_epyc")


def until(condition, seconds=60):
    """Wait for a condition, at most a minute."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.02)


@on_both
def test_nothing_is_pending_in_a_new_lab(epyc, cluster_labs):
    lab = cluster_labs.create()
    return lab.ready(), lab.readyFraction(), lab.wait(), lab.updateResults(), lab.results()


@on_both
def test_running_returns_before_all_results_are_there(epyc, cluster_labs):
    lab = cluster_labs.create()
    nb = lab.notebook()
    lab["a"] = range(6)
    lab.runExperiment(slow(epyc, 0.5))
    jobs = nb.pendingResults()
    points = [nb.pendingResultParameters(j)["a"] for j in jobs]
    seen = {
        "pending": len(jobs) > 0,
        "complete": len(jobs) + len(nb.current()),
        "points": set(points) <= set(range(6)) and len(set(points)) == len(points),
        "ready": nb.ready(),
    }
    return seen, lab.wait(), nb.numberOfPendingResults(), nb.ready(), outcomes(lab.results())


@on_both
def test_waiting_with_a_limit(epyc, cluster_labs, tmp_path):
    gate = tmp_path / epyc.__name__
    lab = cluster_labs.create()
    lab["a"] = range(2)
    lab.runExperiment(waiting(epyc, gate))
    seen = [lab.wait(timeout=0), lab.wait(timeout=0.2), lab.ready()]
    gate.touch()
    return [*seen, lab.wait(timeout=60), lab.wait(timeout=0), lab.wait(), lab.ready()]


@on_both
def test_results_come_in_piece_by_piece(epyc, cluster_labs):
    lab = cluster_labs.create()
    lab["a"] = range(6)
    lab.runExperiment(slow(epyc, 0.1))
    fractions = [lab.readyFraction()]
    until(lambda: fractions.append(lab.readyFraction()) or fractions[-1] == 1.0)
    return {
        "never less": fractions == sorted(fractions),
        "by wholes": {f * 6 % 1 for f in fractions},
        "ready": lab.ready(),
        "results": outcomes(lab.results()),
    }


@on_both
def test_updating_counts_what_came_in(epyc, cluster_labs):
    lab = cluster_labs.create()
    nb = lab.notebook()
    lab["a"] = range(6)
    lab.runExperiment(slow(epyc, 0.05))
    counts = []
    until(lambda: counts.append(lab.updateResults()) or nb.ready())
    return sum(counts), {type(n) for n in counts}, lab.updateResults(), len(nb.current())


@on_both
def test_the_dataframe_catches_up(epyc, cluster_labs):
    lab = cluster_labs.create()
    lab["a"] = range(4)
    lab.runExperiment(adding(epyc))
    until(lambda: len(lab.dataframe()) == 4)
    return len(lab.results()), lab.notebook().ready()


@on_both
def test_a_point_is_cancelled(epyc, cluster_labs):
    lab = cluster_labs.create()
    nb = lab.notebook()
    lab["a"] = range(8)
    lab.runExperiment(slow(epyc, 0.3))
    point = nb.pendingResultParameters(nb.pendingResults()[-1])
    for job in nb.current().pendingResultsFor(point):
        nb.cancelPendingResult(job)
    done = lab.wait()
    m = epyc.Experiment.METADATA
    errors = [rc[m][epyc.Experiment.EXCEPTION] for rc in nb.resultsFor(point)]
    return {
        "done": done,
        "errors": [isinstance(error, epyc.CancelledException) for error in errors],
        "text": [str(error) for error in errors],
        "points": sorted(rc[epyc.Experiment.PARAMETERS]["a"] for rc in lab.results()),
        "successful": len(lab.dataframe()),
    }


@on_both
def test_all_that_is_pending_is_cancelled(epyc, cluster_labs):
    lab = cluster_labs.create()
    nb = lab.notebook()
    lab["a"] = range(6)
    lab.runExperiment(slow(epyc, 0.4))
    pending = nb.allPendingResults()
    for job in pending:
        nb.cancelPendingResult(job)
    done = lab.wait()
    points = sorted(rc[epyc.Experiment.PARAMETERS]["a"] for rc in lab.results())
    cancelled = len(lab.results()) - len(lab.dataframe())
    return done, nb.ready(), nb.numberOfAllPendingResults(), points, cancelled == len(pending)


@on_both
def test_points_are_added_while_others_run(epyc, cluster_labs):
    lab = cluster_labs.create()
    lab["a"] = range(3)
    lab.runExperiment(slow(epyc, 0.1))
    lab["a"] = range(3, 6)
    lab.runExperiment(slow(epyc, 0.1))
    return lab.wait(), outcomes(lab.results())


@on_both
def test_two_result_sets_are_pending(epyc, cluster_labs):
    lab = cluster_labs.create()
    nb = lab.notebook()
    lab["a"] = range(3)
    lab.runExperiment(slow(epyc, 0.1))
    nb.addResultSet("second")
    lab["a"] = range(3, 6)
    lab.runExperiment(slow(epyc, 0.3))
    tags = nb.resultSets()
    pending = nb.numberOfAllPendingResults()
    done = lab.wait()
    return pending > 0, done, [outcomes(nb.results(tag)) for tag in tags], nb.currentTag()


@on_both
def test_failures_on_the_engines_are_outcomes(epyc, cluster_labs):
    lab = cluster_labs.create()
    lab["a"] = range(4)
    lab.runExperiment(failing_at(epyc, 1, 2))
    lab.wait()
    m = epyc.Experiment.METADATA
    tracebacks = [
        rc[m][epyc.Experiment.TRACEBACK]
        for rc in lab.results()
        if not rc[m][epyc.Experiment.STATUS]
    ]
    return outcomes(lab.results()), ["in do" in text for text in tracebacks]


@on_both
def test_another_lab_fetches_the_results(epyc, cluster_labs, kept_notebooks):
    lab = cluster_labs.create(kept_notebooks.create())
    lab["a"] = range(5)
    lab.runExperiment(slow(epyc, 0.5))
    lab.close()
    nb = kept_notebooks.reopen(lab.notebook())
    pending = nb.numberOfPendingResults() > 0
    later = cluster_labs.create(nb)
    return pending, later.wait(), outcomes(later.results()), nb.numberOfPendingResults()


@on_both
def test_results_are_committed_when_they_came(epyc, cluster_labs, kept_notebooks):
    nb = kept_notebooks.create()
    lab = cluster_labs.create(nb)
    lab["a"] = range(4)
    lab.runExperiment(adding(epyc))
    lab.wait()
    seen = nb if kept_notebooks.is_in_memory else kept_notebooks.open()
    return outcomes(seen.results()), seen.ready()


@on_both
def test_a_closed_lab_connects_again(epyc, cluster_labs):
    lab = cluster_labs.create()
    lab.close()
    lab.close()
    engines = lab.numberOfEngines()
    lab.close()
    lab.open()
    lab.open()
    lab.activate()
    lab.connect()
    lab["a"] = range(2)
    lab.runExperiment(adding(epyc))
    return engines, lab.wait(), outcomes(lab.results())


@on_both
def test_a_closed_lab_has_no_connection_to_activate(epyc, cluster_labs):
    lab = cluster_labs.create()
    lab.close()
    return raised(lab.activate)


@on_both
def test_the_engines(epyc, cluster_labs):
    lab = cluster_labs.create()
    view = lab.engines()
    answers = view.apply_sync(lambda: 6 * 7)
    return lab.numberOfEngines(), len(view), type(view), answers


@on_both
def test_imports_on_the_engines(epyc, cluster_labs, capsys):
    lab = cluster_labs.create()
    with lab.sync_imports(quiet=True):
        import colorsys  # noqa: F401
    quiet = capsys.readouterr().out
    names = lab.engines().apply_sync(lambda: "colorsys" in globals())
    return quiet, names


@on_both
def test_what_recreates_the_lab(epyc, cluster_labs):
    lab = cluster_labs.create()
    name, arguments = lab.recreate()
    module, _, class_name = name.rpartition(".")
    epycs = {k: v for k, v in arguments.items() if k not in {"n", "notebook", "design"}}
    again = type(lab)(**arguments)
    seen = class_name, module.partition(".")[0] == epyc.__name__, epycs, again.numberOfEngines()
    again.close()
    return seen


@on_both
def test_a_cluster_that_is_not_there(epyc, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(epyc.ClusterLab, "Reconnections", 1)
    error = raised(lambda: epyc.ClusterLab(profile_dir=str(tmp_path), timeout=0.1))
    capsys.readouterr()
    return error != NOTHING_RAISED, error


@on_both
def test_a_lab_by_the_name_of_its_profile(epyc, cluster, cluster_labs, monkeypatch):
    monkeypatch.setenv("IPYTHONDIR", str(cluster.parent))
    seen = []
    for arguments in (
        {"profile": "epyctest"},
        {"profile": "epyctest", "ipython_dir": str(cluster.parent)},
        {"profile": "epyctest", "cluster_id": ""},
    ):
        lab = epyc.ClusterLab(**arguments)
        seen.append(lab.numberOfEngines())
        lab.close()
    return seen
