"""The files in which an engine keeps finished outcomes until the notebook has them.

One file a chunk: a header that tells which point is running, then records, each with
its length and checksum. The header is memory-mapped, so that it survives a kill of the
engine; so does each record that was written. A file is complete when it has lost the
suffix ``.running``.
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

__all__ = ["Spool", "chunk_of", "find", "leftovers", "read", "running_point"]

_MAGIC = b"labkit1\0"
_HEADER = struct.Struct("<8sq")
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
        self._path = folder / f"{chunk}.spool"
        self._unfinished = self._path.with_name(self._path.name + _RUNNING)
        self._file = self._unfinished.open("w+b")
        self._file.write(_HEADER.pack(_MAGIC, -1))
        self._file.flush()
        self._header = mmap.mmap(self._file.fileno(), _HEADER.size)

    def begin(self, index: int) -> None:
        """Note that the point of this index in the chunk runs now."""
        _HEADER.pack_into(self._header, 0, _MAGIC, index)

    def append(self, record: bytes) -> None:
        """Write a record; it survives the engine from here on."""
        self._file.write(_RECORD.pack(len(record), zlib.crc32(record)))
        self._file.write(record)
        self._file.flush()

    def sync(self) -> None:
        """Have the disk hold what was appended; it survives the host from here on."""
        os.fsync(self._file.fileno())

    def finish(self) -> str:
        """Complete the file and return its name."""
        self._header.close()
        self._file.close()
        self._unfinished.replace(self._path)
        return self._path.name


def find(folder: Path, chunk: str) -> Path | None:
    """Return the spool of a chunk, complete or not, if there is one."""
    complete = folder / f"{chunk}.spool"
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


def read(path: Path) -> Iterator[bytes]:
    """Yield the sound records of a spool, up to the first that is cut off or damaged."""
    with _open(path) as file:
        if file.read(_HEADER.size)[: len(_MAGIC)] != _MAGIC:
            return
        while len(head := file.read(_RECORD.size)) == _RECORD.size:
            length, checksum = _RECORD.unpack(head)
            record = file.read(length)
            if len(record) != length or zlib.crc32(record) != checksum:
                return
            yield record


def running_point(path: Path) -> int | None:
    """Return the index of the point that ran when the engine ended; None when no point did."""
    with _open(path) as file:
        head = file.read(_HEADER.size)
    if len(head) < _HEADER.size:
        return None
    index = int(_HEADER.unpack(head)[1])
    return None if index < 0 else index


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except FileNotFoundError:
        # its engine has completed it since we looked
        return path.with_name(path.name.removesuffix(_RUNNING)).open("rb")
