"""Where profiles are, what they may be called, and how their files are written."""

from __future__ import annotations

import glob
import os
import re
import threading
from collections.abc import Mapping
from pathlib import Path

import psutil

from labkit.errors import ProfileError

__all__ = ["checked_name", "ipython_folder", "remove_unfinished", "replace_text", "replace_texts"]

#: How the name of a file ends that is being written.
_UNFINISHED = ".unfinished"


def ipython_folder() -> Path:
    """Return IPython's folder, in which profiles are."""
    told = os.environ.get("IPYTHONDIR")
    return Path(told or "~/.ipython").expanduser().absolute()


def checked_name(name: str) -> str:
    """Return the name of a profile, if it can be one.

    Raises
    ------
    ProfileError
        When it cannot: it becomes part of a path.
    """
    if not re.fullmatch(r"\w[\w.-]*", name, re.ASCII):
        raise ProfileError(
            f"{name!r} is no name of a profile: use letters, digits, dots, dashes, underscores"
        )
    return name


def replace_text(path: Path, text: str, mode: int = 0o666) -> None:
    """Write a file in one step; what was there stays until then.

    Parameters
    ----------
    path : Path
        The file.
    text : str
        What it is to hold.
    mode : int, optional
        Who may do what with it, before the umask.
    """
    replace_texts({path: text}, mode)


def replace_texts(texts: Mapping[Path, str], mode: int = 0o666) -> None:
    """Write files, each in one step, and none before all of them are on the disk.

    Parameters
    ----------
    texts : mapping of Path to str
        The files, and what they are to hold.
    mode : int, optional
        Who may do what with them, before the umask.
    """
    mark = f"{os.getpid()}-{threading.get_ident()}{_UNFINISHED}"
    unfinished = {path: path.with_name(f".{path.name}.{mark}") for path in texts}
    try:
        for path, text in texts.items():
            _write(unfinished[path], text, mode)
        for path in texts:
            unfinished[path].replace(path)
    finally:
        for path in unfinished.values():
            path.unlink(missing_ok=True)


def remove_unfinished(path: Path) -> None:
    """Remove what processes have left of a file that were killed when they wrote it."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*{_UNFINISHED}"):
        pid, _, _ = left.name.removesuffix(_UNFINISHED).rpartition(".")[2].partition("-")
        if pid.isdecimal() and not psutil.pid_exists(int(pid)):
            left.unlink(missing_ok=True)


def _write(path: Path, text: str, mode: int) -> None:
    path.unlink(missing_ok=True)
    number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(number, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
