"""What every test runs under; fixtures live beside the tests that use them."""

import os
import signal
import tempfile
from pathlib import Path

import hypothesis
import pytest

# A loaded machine is slow, not wrong. In CI a failure must be reproducible.
hypothesis.settings.register_profile("default", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "default")


def pytest_configure(config: pytest.Config) -> None:
    """Draw to files and leave the user's profiles alone, in child processes too."""
    # a shell that starts this in the background has it ignored, and so would those that get Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)
    home = tempfile.TemporaryDirectory(prefix="labkit-tests-", ignore_cleanup_errors=True)
    config.add_cleanup(home.cleanup)
    # compiled kernels are kept from run to run
    os.environ["LABKIT_CACHE"] = str(Path(__file__).parents[1] / ".cache" / "labkit")
    os.environ["IPYTHONDIR"] = str(Path(home.name, "ipython"))
    os.environ["JUPYTER_PLATFORM_DIRS"] = "1"
    os.environ["MPLBACKEND"] = "Agg"


#: Tests that start clusters wait most of the time, and would lose their time to others of their
#: kind. So ``make test`` runs all of them in one process, and what computes in others.
CLUSTERS = ("labs", "engine", "contract", "cli", "test_examples.py", "test_tiled.py")

#: The machines of the testbed have a network of their own, and are shared by those who need them.
MACHINES = ("cluster", "profiles", "test_laptop.py")


# before xdist looks for groups
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests together that start clusters, and those that start machines."""
    for item in items:
        place = item.path.relative_to(Path(__file__).parent)
        for group, places in (("machines", MACHINES), ("clusters", CLUSTERS)):
            if place.parts[0] in places or place.name in places:
                item.add_marker(pytest.mark.xdist_group(group))
                break
