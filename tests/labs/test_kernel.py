"""Labs in a Jupyter kernel, where code changes while everything runs."""

import nbformat
from nbclient import NotebookClient

CELLS = [
    """
    import os
    import labkit
    lab = labkit.ClusterLab(n=1)
    engines = lab.engines().apply_sync(os.getpid)
    def formula(x):
        return x + 1
    class Edited(labkit.Experiment):
        x = labkit.Parameter([1, 2])
        def do(self, params):
            return {"y": formula(params["x"]), "engine": os.getppid()}
    """,
    """
    lab.runExperiment(Edited())
    assert lab.wait(60)
    """,
    """
    class Edited(labkit.Experiment):
        x = labkit.Parameter([1, 2])
        def do(self, params):
            return {"y": 10 * formula(params["x"]), "engine": os.getppid()}
    lab.runExperiment(Edited())
    assert lab.wait(60)
    """,
    """
    def formula(x):
        return x + 5
    lab.runExperiment(Edited())
    assert lab.wait(60)
    """,
    """
    found = lab.dataframe()
    assert set(found["engine"]) == set(engines), "none was started again"
    lab.close()
    print(sorted(found["y"]))
    """,
]


def test_engines_run_a_class_as_it_was_defined_last(tmp_path):
    cells = [nbformat.v4.new_code_cell("if True:" + cell) for cell in CELLS]
    document = nbformat.v4.new_notebook(cells=cells)
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(document, timeout=120, kernel_name="python3", resources=resources).execute()
    *_, last = document.cells
    assert last.outputs[-1].text == "[2, 3, 20, 30, 60, 70]\n"
