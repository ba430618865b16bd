"""Where an outcome comes from: code, versions, host.

What is known before a point runs, and is the same for all points of one call,
is gathered here; the notebook keeps each combination once.
"""

from __future__ import annotations

import functools
import importlib.metadata
import inspect
import os
import platform
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import epyc

import labkit
from labkit.experiment import identity
from labkit.source import innermost, source_digest

__all__ = ["of_experiment", "of_process"]

#: A repository that answers more slowly than this is left out.
_GIT_TIMEOUT_S = 10.0


def of_experiment(e: epyc.Experiment) -> dict[str, Any]:
    """Describe an experiment: identity, version, source, seed, and the commit of its code.

    Returns
    -------
    dict
        Metadata elements; the commit is None outside a git repository.
    """
    inside = innermost(e)
    commit, is_dirty = _git(_place(type(inside)))
    return {
        "labkit.experiment": identity(e),
        "labkit.experiment_version": getattr(inside, "version", 1),
        "labkit.source": source_digest(e),
        "labkit.seed": getattr(inside, "seed", 0),
        "labkit.git_commit": commit,
        "labkit.git_dirty": is_dirty,
    }


@functools.cache
def of_process(engine: int | None = None) -> dict[str, Any]:
    """Describe this process: host, pid, and versions.

    Parameters
    ----------
    engine : int, optional
        Which engine of its cluster it is.
    """
    return {
        "labkit.host": platform.node(),
        "labkit.pid": os.getpid(),
        "labkit.engine": engine,
        "labkit.version": labkit.__version__,
        "labkit.python": platform.python_version(),
        "labkit.numpy": _version("numpy"),
        "labkit.numba": _version("numba"),
    }


# a forked process is another process
os.register_at_fork(after_in_child=of_process.cache_clear)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _place(cls: type) -> Path:
    """Return the file of the code of a class, or the folder where its notebook runs."""
    try:
        return Path(inspect.getfile(cls)).resolve()
    except (TypeError, OSError):
        return Path.cwd()


def _git(place: Path) -> tuple[str | None, bool | None]:
    """Return the commit checked out around a file or folder, and whether code differs from it.

    A file that git does not know differs, too.
    """
    folder = place if place.is_dir() else place.parent
    questions = [
        ("status", "--porcelain=v2", "--branch", "--untracked-files=no"),
        ("ls-files", "--", place.name),
    ]
    try:
        # git takes longer to start than to answer
        with ThreadPoolExecutor() as pool:
            status, known = pool.map(lambda q: _ask_git(folder, *q), questions)
    except (OSError, subprocess.SubprocessError):
        return None, None
    lines = status.splitlines()
    commit = next(line.split()[-1] for line in lines if line.startswith("# branch.oid"))
    if commit == "(initial)":
        return None, None
    is_changed = any(not line.startswith("# ") for line in lines)
    return commit, is_changed or not (known or place.is_dir())


def _ask_git(folder: Path, *question: str) -> str:
    return subprocess.run(
        ["git", "-C", os.fspath(folder), *question],
        capture_output=True,
        text=True,
        check=True,
        timeout=_GIT_TIMEOUT_S,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
    ).stdout
