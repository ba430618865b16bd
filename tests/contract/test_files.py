"""Notebooks in files: when they are written, what comes back, and who can read them."""

import importlib

import epyc as epycs
import numpy
import pytest

from .both import compare, epycs_warnings_ignored, on_both
from .experiments import failing_at
from .observation import frame, made, outcome, outcomes, plain, raised


@on_both
def test_a_file_notebook_has_the_name_of_its_file(epyc, file_notebooks):
    nb = file_notebooks.create(description="described")
    expected = str(file_notebooks.directory / ("notebook" + file_notebooks.suffix))
    return nb.name() == expected, nb.isPersistent(), nb.description()


@on_both
def test_opening_and_committing_makes_the_file(epyc, file_notebooks):
    path = file_notebooks.directory / ("notebook" + file_notebooks.suffix)
    nb = file_notebooks.open()
    nb.commit()
    return path.exists(), nb.resultSets(), nb.numberOfResults()


@on_both
def test_creating_erases(epyc, kept_notebooks):
    nb = kept_notebooks.create(description="old")
    nb.addResultSet("one")
    nb.addResult(made(epyc, {"a": 1}, {"r": 1}))
    kept_notebooks.reopen(nb)
    nb = kept_notebooks.create(description="new")
    seen = [nb.description(), nb.resultSets(), nb.numberOfResults()]
    nb = kept_notebooks.reopen(nb)
    return [*seen, nb.description(), nb.resultSets(), nb.numberOfResults()]


@on_both
def test_opening_keeps(epyc, file_notebooks):
    nb = file_notebooks.create(description="described")
    nb.addResult(made(epyc, {"a": 1}, {"r": 1}))
    nb = file_notebooks.reopen(nb)
    seen = [nb.description(), outcomes(nb.results())]
    nb.commit()
    nb = file_notebooks.open(description="something else")
    seen += [nb.description(), outcomes(nb.results())]
    nb = file_notebooks.reopen(nb)
    return [*seen, nb.description()]


@on_both
def test_nothing_is_in_the_file_before_a_commit(epyc, file_notebooks):
    nb = file_notebooks.create()
    nb.addResult(made(epyc, {"a": 1}, {"r": 1}))
    nb.commit()
    nb.addResult(made(epyc, {"a": 2}, {"r": 2}))
    return outcomes(file_notebooks.open().results())


@on_both
def test_a_finished_notebook_is_committed(epyc, file_notebooks):
    nb = file_notebooks.create()
    nb.addResult(made(epyc, {"a": 1}, {"r": 1}))
    nb.finish()
    nb = file_notebooks.open()
    return nb.isLocked(), nb.current().isLocked(), outcomes(nb.results())


@on_both
def test_a_notebook_finished_in_memory_only(epyc, file_notebooks):
    nb = file_notebooks.create()
    nb.addResult(made(epyc, {"a": 1}, {"r": 1}))
    nb.commit()
    nb.finish(commit=False)
    again = file_notebooks.open()
    return nb.isLocked(), again.isLocked(), again.current().isLocked()


@on_both
def test_the_current_set_is_kept(epyc, kept_notebooks):
    nb = kept_notebooks.create()
    for tag in ("one", "two"):
        nb.addResultSet(tag)
    nb = kept_notebooks.reopen(nb)
    seen = [nb.currentTag()]
    nb.select("one")
    nb = kept_notebooks.reopen(nb)
    return [*seen, nb.currentTag()]


@on_both
def test_more_is_added_to_a_reopened_notebook(epyc, kept_notebooks):
    nb = kept_notebooks.create()
    nb.addResult(made(epyc, {"a": 1}, {"r": 1}))
    nb = kept_notebooks.reopen(nb)
    nb.addResult(made(epyc, {"a": 2}, {"r": 2}))
    nb.addResultSet("one")
    nb.addResult(made(epyc, {"b": "x"}, {"s": "y"}))
    nb = kept_notebooks.reopen(nb)
    nb.select(epyc.LabNotebook.DEFAULT_RESULTSET)
    nb.addResult(made(epyc, {"a": 3}, failure=ValueError("no")))
    nb = kept_notebooks.reopen(nb)
    return [[outcome(rc) for rc in nb.results(tag)] for tag in sorted(nb.resultSets())]


@on_both
def test_values_come_back(epyc, kept_notebooks):
    values = {"i": 5, "f": 0.1 + 0.2, "s": "text", "b": False, "n": -1, "big": 2**60}
    nb = kept_notebooks.create()
    nb.addResult(made(epyc, values, {f"{k} again": v for k, v in values.items()}))
    nb = kept_notebooks.reopen(nb)
    return [outcome(rc) for rc in nb.results()], frame(nb.dataframe())


@on_both
def test_lists_come_back(epyc, kept_notebooks):
    values = {"i": [1, 2], "f": [0.5], "s": ["a", "b"], "b": [True, False], "e": []}
    nb = kept_notebooks.create()
    nb.addResult(made(epyc, {"k": 1}, values))
    nb.addResult(made(epyc, {"k": 2}, {k: v + v + v for k, v in values.items()}))
    nb = kept_notebooks.reopen(nb)
    return [outcome(rc) for rc in nb.results()]


@on_both
def test_complex_numbers_come_back(epyc, tmp_path):
    name = str(tmp_path / f"{epyc.__name__}.h5")
    nb = epyc.HDF5LabNotebook(name, create=True)
    nb.addResult(made(epyc, {"k": 1}, {"z": 4.5 + 2j, "zs": [1j, 2.0 + 0j]}))
    nb.commit()
    return [outcome(rc) for rc in epyc.HDF5LabNotebook(name).results()]


@on_both
def test_numpy_integers_come_back(epyc, kept_notebooks):
    nb = kept_notebooks.create()
    nb.addResult(made(epyc, {"k": numpy.int64(3)}, {"r": numpy.int64(5), "s": numpy.int8(1)}))
    nb = kept_notebooks.reopen(nb)
    return [outcome(rc) for rc in nb.results()]


@on_both
def test_times_come_back(epyc, kept_notebooks):
    nb = kept_notebooks.create()
    rc = made(epyc, {"k": 1}, {"r": 1})
    nb.addResult(rc)
    nb = kept_notebooks.reopen(nb)
    again = nb.results()[0][epyc.Experiment.METADATA]
    keys = (epyc.Experiment.START_TIME, epyc.Experiment.END_TIME, epyc.Experiment.ELAPSED_TIME)
    return [again[k] == rc[epyc.Experiment.METADATA][k] for k in keys]


@on_both
def test_exceptions_come_back_as_text(epyc, file_notebooks):
    nb = file_notebooks.create()
    nb.addResult(made(epyc, {"k": 1}, failure=ValueError("no luck")))
    nb = file_notebooks.reopen(nb)
    m = nb.results()[0][epyc.Experiment.METADATA]
    return m[epyc.Experiment.EXCEPTION], type(m[epyc.Experiment.TRACEBACK])


@on_both
def test_attributes_come_back(epyc, kept_notebooks):
    nb = kept_notebooks.create()
    for key, value in {"name": "text", "empty": "", "path": "a/b c", "number": "5"}.items():
        nb.current()[key] = value
    return attributes(kept_notebooks.reopen(nb).current())


def attributes(rs):
    """Observe the attributes of a result set, but for what epyc's JSON notebook mistakes for one.

    test_where_epyc_is_wrong.py shows that.
    """
    return {k: rs[k] for k in sorted(set(rs.keys()) - {"pending-results"})}


@on_both
def test_a_lab_of_failures_in_a_file(epyc, kept_notebooks):
    lab = epyc.Lab(kept_notebooks.create())
    lab["a"] = range(3)
    lab.runExperiment(failing_at(epyc, 0, 1, 2))
    lab["a"] = range(3, 5)
    lab.runExperiment(failing_at(epyc))
    nb = kept_notebooks.reopen(lab.notebook())
    return outcomes(nb.results())


@on_both
def test_files_that_are_no_notebooks(epyc, file_notebooks):
    path = file_notebooks.directory / ("notebook" + file_notebooks.suffix)
    path.write_text("this is no notebook")
    error = raised(file_notebooks.open)
    return error != "nothing raised", path.read_text()


@on_both
def test_hdf5_of_another_version(epyc, tmp_path):
    import h5py

    name = str(tmp_path / f"{epyc.__name__}.h5")
    epyc.HDF5LabNotebook(name, create=True).commit()
    with h5py.File(name, "a") as file:
        file.attrs[epyc.HDF5LabNotebook.VERSION] = "99"
    expected = []
    try:
        epyc.HDF5LabNotebook(name)
    except epyc.NotebookVersionException as error:
        expected.append(error.expectedVersion())
    return expected, raised(lambda: epyc.HDF5LabNotebook(name))


@on_both
def test_json_of_another_version(epyc, tmp_path):
    path = tmp_path / f"{epyc.__name__}.json"
    path.write_text('{"version": "99"}')
    return raised(lambda: epyc.JSONLabNotebook(str(path)))


@on_both
def test_an_empty_json_file_is_an_empty_notebook(epyc, tmp_path):
    path = tmp_path / f"{epyc.__name__}.json"
    path.write_text("")
    nb = epyc.JSONLabNotebook(str(path))
    return nb.resultSets(), nb.numberOfResults(), nb.isLocked()


# ---------- read by the other ----------


def fill(module, nb):
    """Put one of everything into a notebook."""
    nb.addResult(made(module, {"a": 1, "b": "x"}, {"r": 0.5, "s": "text"}))
    nb.addResult(made(module, {"a": 2, "b": "y"}, failure=ValueError("no")))
    nb.addResultSet("pending", "with pending results")
    nb.current()["name"] = "an attribute"
    nb.addPendingResult({"k": 1}, "job-1")
    nb.addPendingResult({"k": 2}, "job-2")
    nb.addResultSet("finished", "a finished set")
    nb.addResult([made(module, {"z": z}, {"r": z, "l": [1, 2]}) for z in range(3)])
    nb.current().finish()
    nb.select("pending")
    nb.commit()


def contents(nb):
    """Observe everything in a notebook."""
    return plain(
        {
            "description": nb.description(),
            "current": nb.currentTag(),
            "locked": nb.isLocked(),
            "sets": {
                tag: {
                    "description": nb.resultSet(tag).description(),
                    "locked": nb.resultSet(tag).isLocked(),
                    "attributes": attributes(nb.resultSet(tag)),
                    "results": outcomes(nb.results(tag)),
                    "pending": {j: nb.pendingResultParameters(j) for j in nb.pendingResults(tag)},
                }
                for tag in nb.resultSets()
                if tag != nb.DEFAULT_RESULTSET
            },
            "default": outcomes(nb.results(nb.DEFAULT_RESULTSET)),
        }
    )


@pytest.mark.parametrize("class_name", ["JSONLabNotebook", "HDF5LabNotebook"])
@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.parametrize("writer", ["epyc", "labkit"])
def test_a_notebook_of_one_is_read_by_the_other(tmp_path, class_name, finished, writer):
    labkit = importlib.import_module("labkit")
    module = {"epyc": epycs, "labkit": labkit}[writer]
    name = str(tmp_path / "notebook")
    with epycs_warnings_ignored():
        nb = getattr(module, class_name)(name, create=True, description="of everything")
        fill(module, nb)
        if finished:
            nb.finish()
        expected = contents(getattr(epycs, class_name)(name))
    assert len(expected["sets"]) == 2
    assert expected["locked"] == finished
    compare(expected, contents(getattr(labkit, class_name)(name)))
