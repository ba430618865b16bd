"""Where outcomes come from."""

import importlib
import os
import platform
import subprocess

import labkit
from labkit import provenance


class Here(labkit.Experiment):
    version = "2b"
    seed = 7


def git(folder, *words):
    subprocess.run(
        ["git", "-c", "user.name=n", "-c", "user.email=e", *words],
        cwd=folder,
        check=True,
        capture_output=True,
    )


def test_an_experiment_tells_version_seed_and_source():
    facts = provenance.of_experiment(labkit.RepeatedExperiment(Here(), 2))
    assert (facts["labkit.experiment_version"], facts["labkit.seed"]) == ("2b", 7)
    assert len(facts["labkit.source"]) == 32


def test_the_commit_of_the_code_and_whether_it_was_changed(tmp_path, monkeypatch):
    (tmp_path / "kept_code.py").write_text("import labkit\nclass E(labkit.Experiment): pass\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("kept_code")
    facts = provenance.of_experiment(module.E())
    assert len(facts["labkit.git_commit"]) == 40
    assert facts["labkit.git_dirty"] is False
    (tmp_path / "kept_code.py").write_text("changed")
    assert provenance.of_experiment(module.E())["labkit.git_dirty"] is True


def test_outside_a_repository_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", os.fspath(tmp_path.parent))
    assert provenance._git(tmp_path) == (None, None)


def test_without_git_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    assert provenance._git(tmp_path) == (None, None)


def test_this_process():
    facts = provenance.of_process(3)
    assert facts["labkit.host"] == platform.node()
    assert facts["labkit.pid"] == os.getpid()
    assert facts["labkit.engine"] == 3
    assert facts["labkit.version"] == labkit.__version__
    assert facts["labkit.python"] == platform.python_version()
    assert facts["labkit.numba"]


def test_code_that_git_does_not_know_is_not_in_the_commit(tmp_path):
    (tmp_path / "known.py").touch()
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    (tmp_path / "unknown.py").touch()
    assert provenance._git(tmp_path / "known.py")[1] is False
    assert provenance._git(tmp_path / "unknown.py")[1] is True
    assert provenance._git(tmp_path)[1] is False
