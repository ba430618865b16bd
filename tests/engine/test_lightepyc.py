"""What a hand has of epyc, and how it gets the rest."""

import subprocess
import sys
import textwrap

import pytest

BEGIN = """
import sys
from labkit.engine import lightepyc
lightepyc.install()
import labkit, labkit.engine.worker, epyc
def is_whole():
    return "pandas" in sys.modules
assert not is_whole()
"""


def execute(code):
    code = textwrap.dedent(code)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_hand_has_experiments_and_nothing_that_they_do_not_need():
    heavy = "pandas", "ipyparallel", "h5py", "joblib", "requests", "sqlalchemy", "numba"
    code = f"""
    class Mine(epyc.Experiment):
        def do(self, params):
            return {{"twice": 2 * params["x"]}}
    assert Mine().set({{"x": 3}}).run()["results"] == {{"twice": 6}}
    each = labkit.RepeatedExperiment(labkit.SummaryExperiment(Mine()), 2)
    assert isinstance(each, epyc.RepeatedExperiment)
    print([name for name in {heavy} if name in sys.modules])
    """
    assert execute(BEGIN + textwrap.dedent(code)) == "[]\n"


@pytest.mark.parametrize(
    "ask",
    [
        "epyc.Lab",
        "from epyc import Lab",
        "from epyc import *; Lab",
        "from epyc.lab import Lab",
        "import epyc.hdf5labnotebook; epyc.HDF5LabNotebook",
        "labkit.DesignException",
        "import labkit.labs.clusterlab",
    ],
)
def test_whoever_asks_for_the_rest_gets_it(ask):
    code = f"""
    before = epyc.Experiment
    {ask}
    assert is_whole()
    assert type(epyc) is type(sys)
    assert epyc.Experiment is before is epyc.experiment.Experiment
    assert isinstance(labkit.Experiment(), epyc.Experiment)
    assert hasattr(epyc, "Lab") and not hasattr(epyc, "Labs")
    """
    execute(BEGIN + textwrap.dedent(code))


def test_what_epyc_does_not_have_is_told_as_ever():
    out = execute(
        """
        from labkit.engine import lightepyc
        lightepyc.install()
        import epyc
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


@pytest.mark.parametrize("changed", ['"experiments": ()', '"experiment": ("Experience",)'])
def test_another_epyc_is_imported_as_a_whole(changed):
    execute(
        f"""
        import sys
        from labkit.engine import lightepyc
        lightepyc._EXPERIMENTS = {{{changed}}}
        lightepyc.install()
        import epyc, labkit
        assert epyc.Lab and issubclass(labkit.Experiment, epyc.Experiment)
        """
    )


def test_an_epyc_that_was_imported_stays():
    execute(
        """
        import epyc
        from labkit.engine import lightepyc
        lightepyc.install()
        import sys
        assert sys.modules["epyc"] is epyc
        """
    )
