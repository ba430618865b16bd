"""How the kernels are compiled, and where what was compiled is kept."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import llvmlite.binding as llvm
import numba

from labkit.cache import cache_root

__all__ = ["cache_folder", "compiled", "inlined"]

config: Any = numba.config

UNUSED_S = 30 * 24 * 3600.0
"""Compiled kernels that no process has used for so long are removed."""

P = ParamSpec("P")
R = TypeVar("R")


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function when it is first called, and keep that on disk.

    Without fastmath: NaN must lose comparisons. Without the interpreter's lock: threads run
    side by side.
    """
    return _jitted(function)


def inlined(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function into those that call it: one that takes windows, and little time.

    To hand over ten arrays by value costs more than to sum over a window.
    """
    return _jitted(function, inline="always")


def _jitted(function: Callable[P, R], **options: Any) -> Callable[P, R]:
    usual = config.CACHE_DIR
    config.CACHE_DIR = str(cache_folder())  # read by the decorator, and only there
    try:
        decorate = numba.njit(cache=True, nogil=True, error_model="numpy", **options)
        jitted: Callable[P, R] = decorate(function)
    finally:
        config.CACHE_DIR = usual
    return jitted


def cache_folder() -> Path:
    """Return where compiled kernels of this processor and this version of the code are kept.

    Numba sees that a function's own file was edited, but not that what it calls was. So the
    folder's name is a digest of all kernels and of the processor: hosts that share a home
    may share the cache.

    Returns
    -------
    Path
        In `labkit.cache.cache_root`; where that cannot be written, a temporary folder of this
        process: others could put code into a known one.
    """
    try:
        root = cache_root()
    except RuntimeError:
        root = Path(os.devnull)  # where nothing can be made
    return _prepared(root)


@functools.cache
def _prepared(root: Path) -> Path:
    try:
        folder = root / "kernels" / _digest()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.utime(folder)
        _remove_unused(folder.parent)
    except OSError:
        return Path(tempfile.mkdtemp(prefix="labkit-cache-"))
    return folder


def _remove_unused(kernels: Path) -> None:
    """Remove what other versions have left, when it has not been used for long."""
    for folder in kernels.iterdir():
        if time.time() - folder.stat().st_mtime > UNUSED_S:
            shutil.rmtree(folder, ignore_errors=True)


def _digest() -> str:
    digest = hashlib.blake2b(digest_size=12)
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    processor = (
        config.CPU_NAME or llvm.get_host_cpu_name(),
        config.CPU_FEATURES or llvm.get_host_cpu_features().flatten(),
        numba.__version__,
    )
    digest.update(repr(processor).encode())
    return digest.hexdigest()
