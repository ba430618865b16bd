"""Small disks that can be full, or read-only: real ones, as far as this machine mounts them."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pytest


def _run(*command: object) -> None:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"{' '.join(map(str, command))}: {done.stderr.strip()}")


@contextmanager
def mounted(kind: str, folder: Path) -> Iterator[Path]:
    """Mount a disk of a few megabytes, ``tmpfs`` or ``ext4``; skip the test where it cannot be."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a disk")
    where = folder / kind
    where.mkdir()
    if kind == "tmpfs":
        _run("mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", where)
    else:
        image = folder / "image"
        with image.open("wb") as file:
            file.truncate(8 * 2**20)
        _run("mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal", image)
        _run("mount", "-o", "loop", image, where)
    try:
        yield where
    finally:
        subprocess.run(["umount", "-l", where], check=True)


def remount(where: Path, option: str) -> None:
    """Mount a disk again, ``ro`` or ``rw``."""
    _run("mount", "-o", f"remount,{option}", where)


def _takes(file: BinaryIO, data: bytes) -> bool:
    try:
        return file.write(data) > 0
    except OSError as e:
        if e.errno == errno.ENOSPC:
            return False
        raise


def fill(where: Path, leave_bytes: int = 0) -> Path:
    """Fill a disk but for so many bytes; return the file that takes the space."""
    filler = where / "filler"
    with filler.open("wb", buffering=0) as file:
        while _takes(file, bytes(4096)):
            pass
        size = file.tell()
    os.truncate(filler, max(size - leave_bytes, 0))
    return filler
