"""The notebook of the five machines tells the truth."""

import re

import nbformat
import pytest

import labkit

from .story import MACHINES, NOTEBOOK, USER, Story, text_of
from .testbed import Testbed, why_not

# eight engines start on as many cores as there are
pytestmark = pytest.mark.timeout(600)

HOSTS = sorted(MACHINES)[1:]
POINTS, VALUES_OF_P = 384, 12


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """Execute it on its machines, which stay until the tests have seen what came out."""
    if why := why_not():
        pytest.skip(why)
    with Testbed(tmp_path_factory.mktemp("story"), MACHINES, USER) as bed:
        told = Story(bed)
        told.execute()
        yield told


def said(story, source):
    """Return what the cell with this in its source has said."""
    (cell,) = (cell for cell in story.cells if source in cell.source)
    return text_of(cell)


def test_its_commands_say_that_all_went_well(story):
    assert "is sound: 4 hosts, 8 engines" in said(story, "inventory check")
    assert "all is well" in said(story, "labkit doctor")
    assert "8 engines, 4 of 4 hosts whole" in said(story, "cluster start")
    assert "cl-3: it is back, and 2 engines are started" in said(story, "cluster logs")
    assert said(story, "cluster status").count("cl-3") == 2 + 1, "two engines, and the watcher"
    assert "cluster has stopped, and nothing of it runs" in said(story, "cluster stop")


def test_no_point_is_lost_with_a_host_and_none_is_there_twice(story):
    assert "240 outcomes, 0 missing" in said(story, "outcomes,")
    with labkit.SQLiteLabNotebook(str(story.home / "percolation.db")).open() as notebook:
        table = notebook.dataframe()
    assert len(table) == table["labkit.key"].nunique() == POINTS
    assert table["epyc.experiment.status"].all()
    assert sorted(table["labkit.host"].unique()) == HOSTS


def test_the_laptop_leaves_and_finds_everything_when_it_is_back(story):
    shadow, left, back = story.on_laptop
    assert 'labkit.ClusterLab(profile="shadow")' in shadow
    assert not left
    assert len(re.findall(r"^0\.\d+ +[01]\.\d+$", back, re.MULTILINE)) == VALUES_OF_P


def test_nothing_is_left_running_on_any_machine(story):
    assert not story.left()


# ---------- what the repository keeps of it ----------


def kinds(cell):
    """Return of which kinds the outputs of a cell are."""
    return [kind for o in cell.outputs for kind in o.get("data", {o.get("name"): None})]


def test_what_is_kept_came_out_of_these_cells_in_one_go():
    kept = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(kept)
    cells = [cell for cell in kept.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert kept.metadata.kernelspec.name == "python3"
    assert "widgets" not in kept.metadata
    assert sum("image/png" in kinds(cell) for cell in cells) == 2
    assert not {"error", "application/vnd.jupyter.widget-view+json"} & {
        kind for cell in cells for kind in [*kinds(cell), *(o.output_type for o in cell.outputs)]
    }


def test_what_is_kept_names_no_place_of_the_machine_it_was_made_on():
    kept = nbformat.read(NOTEBOOK, as_version=4)
    text = "".join(text_of(cell) for cell in kept.cells if cell.cell_type == "code")
    assert f"/home/{USER}/.ipython/profile_cluster/ipcluster_config.py is written" in text
    assert "/tmp/" not in text
