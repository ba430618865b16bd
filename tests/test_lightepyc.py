"""What hands and commands have of epyc, and how they get the rest."""

import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import epyc
import pytest

import labkit
from labkit.lightepyc import _contents

SOURCE = Path(epyc.__file__).read_text()

BEGIN = """
import sys
from labkit import lightepyc
lightepyc.install()
import epyc, labkit
def loaded(*names):
    return [name for name in names if name in sys.modules]
HEAVY = "pandas", "ipyparallel", "h5py", "joblib", "requests", "sqlalchemy", "numba"
"""


def execute(code):
    code = BEGIN + textwrap.dedent(code)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_hand_has_experiments_and_nothing_that_they_do_not_need():
    out = execute(
        """
        import labkit.engine.worker
        class Mine(epyc.Experiment):
            def do(self, params):
                return {"twice": 2 * params["x"]}
        assert Mine().set({"x": 3}).run()["results"] == {"twice": 6}
        each = labkit.RepeatedExperiment(labkit.SummaryExperiment(Mine()), 2)
        assert isinstance(each, epyc.RepeatedExperiment)
        print(loaded(*HEAVY))
        """
    )
    assert out == "[]\n"


def test_a_notebook_needs_no_lab(tmp_path):
    out = execute(
        f"""
        with labkit.SQLiteLabNotebook({str(tmp_path / "nb.db")!r}).open() as notebook:
            assert isinstance(notebook, epyc.LabNotebook)
        print(loaded("pandas", "ipyparallel", "joblib"))
        """
    )
    assert out == "['pandas']\n"


@pytest.mark.parametrize(
    "ask",
    [
        "Lab = epyc.Lab",
        "from epyc import Lab",
        "from epyc import *",
        "from epyc.lab import Lab",
        "import epyc.lab; Lab = epyc.lab.Lab",
        "Lab = epyc.lab.Lab",
        "Lab = epyc.ClusterLab.__bases__[0]",
        "Lab = labkit.ClusterLab.__mro__[-2]",
    ],
)
def test_whoever_asks_for_more_gets_it(ask):
    execute(
        f"""
        before = epyc.Experiment
        {ask}
        assert issubclass(Lab, object) and Lab is epyc.Lab is epyc.lab.Lab
        assert before is epyc.Experiment is epyc.experiment.Experiment
        assert isinstance(labkit.Experiment(), epyc.Experiment)
        """
    )


def test_it_has_what_epyc_has():
    names = sorted(name for name in vars(epyc) if name != "__builtins__")
    out = execute(
        f"""
        from epyc import *
        print([name for name in {names!r} if not hasattr(epyc, name)], epyc.Logger)
        print(sorted({{"HDF5LabNotebook", "Logger", "Lab"}} - set(globals())))
        print({names!r} == sorted(name for name in vars(epyc) if name != "_contents"))
        """
    )
    assert out == f"[] {epyc.Logger}\n[]\nTrue\n"


def test_a_module_that_is_imported_by_itself_is_finished():
    execute(
        """
        import importlib
        resultset = importlib.import_module("epyc.resultset")
        assert resultset.ResultSet is epyc.ResultSet
        assert str in resultset.ResultSet.TypeMapping
        """
    )


def test_all_names_are_told():
    out = execute("print('ClusterLab' in dir(epyc), loaded('epyc.clusterlab'))")
    assert out == "True []\n"


def test_what_epyc_does_not_have_is_told_as_ever():
    out = execute(
        """
        for ask in ("epyc.Labs", "from epyc import Labs", "import epyc.labs"):
            try:
                exec(ask)
            except (AttributeError, ImportError) as e:
                print(e)
        """
    )
    asked, imported, module = out.splitlines()
    assert asked == "module 'epyc' has no attribute 'Labs'"
    assert imported.startswith("cannot import name 'Labs' from 'epyc'")
    assert module == "No module named 'epyc.labs'"


def test_an_epyc_without_its_source_is_imported_as_ever(tmp_path):
    shutil.copytree(Path(epyc.__file__).parent, tmp_path / "epyc")
    compile_all = [sys.executable, "-W", "ignore", "-m", "compileall", "-b", "-q"]
    subprocess.run([*compile_all, tmp_path / "epyc"], check=True)
    for file in (tmp_path / "epyc").rglob("*.py"):
        file.unlink()
    code = f"import sys\nsys.path.insert(0, {str(tmp_path)!r})\n"
    code += "from labkit import lightepyc\nlightepyc.install()\nimport epyc\n"
    code += "print(type(epyc), epyc.__file__)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout == f"<class 'module'> {tmp_path / 'epyc' / '__init__.pyc'}\n"


def test_a_hand_is_light():
    class Asks(labkit.Experiment):
        x = labkit.Parameter([1])

        def do(self, params):
            import cloudpickle

            cloudpickle.dumps(lambda: epyc.Logger)
            return {"has_pandas": "pandas" in sys.modules}

    with labkit.ParallelLab(cores=1) as lab:
        lab.runExperiment(Asks())
        assert lab.wait()
        (result,) = lab.results()
    assert result[labkit.Experiment.RESULTS] == {"has_pandas": False}, result


def test_a_command_is_light(tmp_path):
    labkit.SQLiteLabNotebook(tmp_path / "nb.db").close()
    command = [sys.executable, "-X", "importtime", "-m", "labkit", "notebook", "show"]
    done = subprocess.run(
        [*command, tmp_path / "nb.db"], capture_output=True, text=True, check=True
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert imported & {"pandas", "joblib", "ipyparallel"} == {"pandas"}


def test_an_epyc_that_was_imported_stays():
    code = "import epyc\nfrom labkit import lightepyc\nlightepyc.install()\nprint(type(epyc))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout == "<class 'module'>\n"


def test_it_can_be_pickled_and_stays_what_it_is():
    execute(
        """
        import cloudpickle, pickle
        def ask():
            return epyc.Logger
        assert pickle.loads(cloudpickle.dumps(ask))() == epyc.Logger
        assert pickle.loads(pickle.dumps(epyc)) is epyc
        """
    )


def test_threads_that_ask_at_once_all_get_it():
    execute(
        """
        import threading, time
        put, found = type(epyc).__setattr__, []
        def late(package, name, value):
            time.sleep(0.2)
            put(package, name, value)
        type(epyc).__setattr__ = late
        def ask():
            found.append(epyc.Design)
        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [epyc.Design] * 4
        """
    )


@pytest.mark.parametrize(
    "more",
    [
        "import os",
        "Lab = Lab or None",
        "from os import path",
        "def f(): pass",
        "Lab.use('x')",
        "Logger.upper()",
        "from .lab import *",
        "from .lab import Lab as Laboratory",
        "from .more.labs import OtherLab",
        "from . import lab",
    ],
)
def test_an_epyc_that_does_more_is_not_made_light(more):
    assert _contents(SOURCE) is not None
    assert _contents(f"{SOURCE}\n{more}\n") is None
