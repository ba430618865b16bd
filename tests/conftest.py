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


#: Tests that start clusters or machines wait most of the time, and would lose their time to too
#: many others of their kind. So ``make test`` runs those of a group in one process, one after
#: another; what only computes runs in others meanwhile. A file goes before its folder.
GROUPS = {
    "many-machines": ("test_clusters.py",),
    # that have a testbed of their own
    "machines": ("cluster", "profiles", "test_laptop.py"),
    "labs": ("labs", "engine"),
    "commands": ("cli", "contract", "test_examples.py", "test_tiled.py"),
}


# before xdist looks for groups
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of a group together."""
    for item in items:
        if name := group_of(item.path.relative_to(Path(__file__).parent)):
            item.add_marker(pytest.mark.xdist_group(name))


def group_of(file: Path) -> str | None:
    """Return the group of a file of tests, if it is in one."""
    for part in (file.name, file.parts[0]):
        for group, members in GROUPS.items():
            if part in members:
                return group
    return None
