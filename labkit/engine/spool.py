"""The files in which an engine keeps finished outcomes until the notebook has them.

One file a chunk: a header that tells which point is running, and since when, then records,
each with its length and checksum. The header is memory-mapped, so that it survives a kill of the
engine; so does each record that was written. A file is complete when it has lost the
suffix ``.running``.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

__all__ = [
    "Running",
    "Spool",
    "chunk_of",
    "find",
    "leftovers",
    "length_of",
    "path_of",
    "portion",
    "read",
    "running",
]

_MAGIC = b"labkit2\0"
_HEADER = struct.Struct("<8sqd")
_RECORD = struct.Struct("<QI")
_RUNNING = ".running"


class Spool:
    """The spool of one chunk, as the engine writes it.

    Parameters
    ----------
    folder : Path
        Where the lab looks for it.
    chunk : str
        The chunk, which names the file.
    """

    def __init__(self, folder: Path, chunk: str) -> None:
        self._path = path_of(folder, chunk)
        self._unfinished = self._path.with_name(self._path.name + _RUNNING)
        self._file = self._unfinished.open("w+b")
        self._file.write(_HEADER.pack(_MAGIC, -1, 0.0))
        self._file.flush()
        self._header = mmap.mmap(self._file.fileno(), _HEADER.size)

    def begin(self, index: int) -> None:
        """Note that the point of this index in the chunk runs now."""
        _HEADER.pack_into(self._header, 0, _MAGIC, index, time.monotonic())

    def append(self, record: bytes) -> None:
        """Write a record, which is not empty; it survives the engine from here on."""
        self._file.write(_RECORD.pack(len(record), zlib.crc32(record)))
        self._file.write(record)
        self._file.flush()

    def sync(self) -> None:
        """Have the disk hold what was appended; it survives the host from here on."""
        os.fsync(self._file.fileno())

    def records(self) -> list[bytes]:
        """Return what was appended."""
        return list(read(self._unfinished))

    def discard(self) -> None:
        """Close the file and remove it."""
        self._header.close()
        with contextlib.suppress(OSError):  # what is in its buffer may not fit on the disk
            self._file.close()
        self._unfinished.unlink(missing_ok=True)

    def finish(self) -> str:
        """Complete the file and return its name."""
        self._header.close()
        self._file.close()
        self._unfinished.replace(self._path)
        return self._path.name


def path_of(folder: Path, chunk: str) -> Path:
    """Return where the complete spool of a chunk is."""
    return folder / f"{chunk}.spool"


def find(folder: Path, chunk: str) -> Path | None:
    """Return the spool of a chunk, complete or not, if there is one."""
    complete = path_of(folder, chunk)
    for path in (complete, complete.with_name(complete.name + _RUNNING)):
        if path.exists():
            return path
    return None


def leftovers(folder: Path) -> list[Path]:
    """Return the spools in a folder, complete or not."""
    return sorted([*folder.glob("*.spool"), *folder.glob(f"*.spool{_RUNNING}")])


def chunk_of(path: Path) -> str:
    """Return the chunk whose spool this is."""
    return path.name.partition(".")[0]


def read(path: Path, start: int = 0) -> Iterator[bytes]:
    """Yield the sound records of a spool, up to the first that is cut off or damaged.

    Parameters
    ----------
    path : Path
        The spool.
    start : int
        Where in the file the first of them begins; by default behind the header.
    """
    with _open(path) as file:
        if file.read(_HEADER.size)[: len(_MAGIC)] != _MAGIC:
            return
        file.seek(max(start, _HEADER.size))
        while len(head := file.read(_RECORD.size)) == _RECORD.size:
            length, checksum = _RECORD.unpack(head)
            record = file.read(length)
            # where a disk has lost what was written there are zeros, whose checksum is right
            if not length or len(record) != length or zlib.crc32(record) != checksum:
                return
            yield record


def portion(path: Path, start: int, most_bytes: int) -> tuple[list[bytes], int]:
    """Return some of the records from a place on, and where the next ones begin.

    Parameters
    ----------
    path : Path
        The spool.
    start : int
        The place, as an earlier call has returned it; 0 for the beginning.
    most_bytes : int
        Enough of them; the last one may exceed it.
    """
    records: list[bytes] = []
    place = begin = max(start, _HEADER.size)
    for record in read(path, begin):
        records.append(record)
        place += length_of(record)
        if place - begin >= most_bytes:
            break
    return records, place


def length_of(record: bytes) -> int:
    """Return how much of a spool a record takes, in bytes."""
    return _RECORD.size + len(record)


class Running(NamedTuple):
    """The point that runs, or ran when its process ended."""

    point: int
    """Its index in the chunk."""
    since: float
    """When it began, as `time.monotonic` of its host counts."""


def running(path: Path) -> Running | None:
    """Return the point that runs, or ran when its process ended; None when no point does."""
    with _open(path) as file:
        head = file.read(_HEADER.size)
    if len(head) < _HEADER.size:
        return None
    _, index, since = _HEADER.unpack(head)
    return None if index < 0 else Running(index, since)


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except FileNotFoundError:
        # its engine has completed it since we looked
        return path.with_name(path.name.removesuffix(_RUNNING)).open("rb")
