"""epyc's own tests, run on labkit: they fail only where labkit differs on purpose.

The tests come from epyc's source distribution, and nothing of them is kept here. They are
changed in two ways: they import labkit, and what they sleep and wait for is a tenth.
"""

import hashlib
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from xml.etree import ElementTree

import pytest

from .conftest import MODULES as ENGINES_IMPORT_FROM

# the first test starts a cluster, too, and runs all of epyc's
pytestmark = pytest.mark.timeout(400)

CHECKOUT = Path(__file__).parents[2]
CACHE = CHECKOUT / ".cache" / "epyc"
RELEASE = "epyc-1.7.2"
SHA256 = "9aae0cd0ee809c7dec0e8c6e7df8f8698990fcca45543fe547d32808462c7de2"

MODULES = {
    "test_clusterlabs": 10,
    "test_designs": 13,
    "test_experiments": 14,
    "test_hdf5notebooks": 28,
    "test_jsonnotebooks": 12,
    "test_labs": 21,
    "test_notebooks": 22,
    "test_parallellabs": 5,
    "test_parameters": 2,
    "test_repeatedexperiments": 2,
    "test_resultsets": 40,
    "test_summaryexperiments": 10,
}

MISSING = "a missing value is NULL, not the zero of its type"
NO_DICT = "a body that returns no dict has failed"
ATTRIBUTES = "an attribute comes back as what it was, not as its text"
EMPTY_RANGE = "an empty range is an error, not a parameter that is left out"

# Where labkit differs on purpose; README.md says why.
DEVIATIONS = {
    "test_designs.TestParameterUpdate.testTwoParameterFactorialOneEmpty": EMPTY_RANGE,
    "test_experiments.ExperimentTests.testNoResults": NO_DICT,
    "test_hdf5notebooks.HDF5LabNotebookTests.testAttributes": ATTRIBUTES,
    "test_hdf5notebooks.HDF5LabNotebookTests.testFailure": MISSING,
    "test_resultsets.ResultSetTests.testDuplicatePendingParameters": MISSING,
    "test_resultsets.ResultSetTests.testExtendDataframe": MISSING,
    "test_resultsets.ResultSetTests.testSingleResultExtended": MISSING,
    "test_resultsets.ResultSetTests.testaddSingleResult": MISSING,
}

# What cannot be asked here.
DESELECTED = {
    "test_hdf5notebooks.py::HDF5LabNotebookTests::testLoadingFromURL": "reads from the Internet",
}
SKIPPED_BY_EPYC = {"test_hdf5notebooks.HDF5LabNotebookTests.testNoWriteWhenLocked"}

# A tenth of each time, in the modules that sleep or wait.
QUICKER = {
    "test_clusterlabs": {
        "time.sleep(2)": "time.sleep(0.2)",
        "time.sleep(n * 2.5 /": "time.sleep(n * 0.25 /",
        "timeout=5": "timeout=0.5",
        # more points, as it may take a while until a wait that they shall outlast begins
        "n = 20\n        self._lab.WaitingTime = 5": "n = 50\n        self._lab.WaitingTime = 0.5",
        ".WaitingTime = 10": ".WaitingTime = 1",
    },
    "test_experiments": {"time.sleep(1)": "time.sleep(0.1)"},
}


@pytest.fixture(scope="module")
def results(cluster: Path) -> dict[str, tuple[str, str]]:
    """Run epyc's tests on labkit; give the state and the failure of each."""
    folder = cluster.parent / ENGINES_IMPORT_FROM
    unpack(sdist(), folder)
    for module in folder.glob("test_*.py"):
        module.write_text(adapted(module.stem, module.read_text(encoding="utf-8")))
    (folder / "pytest.ini").write_text("[pytest]\n")
    return run(folder, cluster)


def sdist() -> Path:
    """Return epyc's source distribution, from the cache or the package registry."""
    path = CACHE / f"{RELEASE}.tar.gz"
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:"]
        options = ["--quiet", "--dest", str(CACHE), RELEASE.replace("-", "==")]
        try:
            subprocess.run(
                command + options, check=True, capture_output=True, text=True, timeout=150
            )
        except subprocess.CalledProcessError as error:
            pytest.skip(f"epyc's source distribution cannot be had: {error.stderr[-300:].strip()}")
        except subprocess.TimeoutExpired as error:
            pytest.skip(f"epyc's source distribution cannot be had in {error.timeout:.0f} s")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert digest == SHA256, f"{path} is not {RELEASE}; delete it"
    return path


def unpack(archive: Path, folder: Path) -> None:
    """Unpack the test modules of a source distribution into a folder."""
    with tarfile.open(archive) as tar:
        for member in tar.getmembers():
            path = Path(member.name)
            if member.isfile() and path.parent.name == "test" and path.suffix == ".py":
                member.name = path.name
                tar.extract(member, folder, filter="data")


def adapted(module: str, text: str) -> str:
    """Let a test module import labkit, and wait less."""
    text, count = re.subn(r"^from epyc import", "from labkit import", text, flags=re.MULTILINE)
    assert count == 1
    for slow, quick in QUICKER.get(module, {}).items():
        assert slow in text
        text = text.replace(slow, quick)
    return text


def run(folder: Path, cluster: Path) -> dict[str, tuple[str, str]]:
    """Run all test modules in a folder in one process, and read its report."""
    report = folder / "report.xml"
    arguments = ["-q", "--timeout=60", "-p", "no:cacheprovider", f"--junitxml={report}"]
    arguments += [f"--deselect={name}" for name in DESELECTED]
    tools = Path(sys.executable).parent
    environment = {
        **os.environ,
        "IPYTHONDIR": str(cluster.parent),
        "PATH": os.pathsep.join([str(tools), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join([str(CHECKOUT), os.environ.get("PYTHONPATH", "")]),
        "TMPDIR": str(folder),
    }
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=170,
    )
    assert report.exists(), done.stdout[-2000:] + done.stderr[-2000:]
    cases = ElementTree.parse(report).iter("testcase")
    return {f"{c.get('classname')}.{c.get('name')}": state_of(c) for c in cases}


def state_of(case: ElementTree.Element) -> tuple[str, str]:
    """Read how a test ended."""
    for state in ("failure", "error", "skipped"):
        found = case.find(state)
        if found is not None:
            return state, (found.text or found.get("message") or "")[-1500:]
    return "passed", ""


@pytest.mark.parametrize("module", MODULES)
def test_epycs_tests_fail_only_where_labkit_differs_on_purpose(results, module):
    ended = {name: end for name, end in results.items() if name.startswith(f"{module}.")}
    expected = {name for name in DEVIATIONS if name.startswith(f"{module}.")}
    failed = {name: why for name, (state, why) in ended.items() if state in ("failure", "error")}
    surprises = [f"{name}\n{why}" for name, why in failed.items() if name not in expected]
    assert not surprises, "\n".join(surprises)
    assert expected - set(failed) == set(), "these pass by now: take them out of DEVIATIONS"
    skipped = {name for name, (state, _) in ended.items() if state == "skipped"}
    assert skipped <= SKIPPED_BY_EPYC
    assert len(ended) == MODULES[module]


def test_all_of_epycs_tests_were_run(results):
    assert {name.split(".")[0] for name in results} == set(MODULES)
    assert sum(MODULES.values()) == len(results)
