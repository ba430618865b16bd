"""The lock of a notebook's one writer.

A ``flock`` on ``walks.db.lock``, which the kernel releases when its holder ends, however
it ends: a lock never goes stale. The file names the holder, for the message that the
second writer gets.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import platform
import threading
from datetime import datetime
from pathlib import Path
from typing import ClassVar

from labkit.errors import NotebookError, NotebookInUseError

__all__ = ["WriterLock", "assert_unused"]

#: What to do about a lock file that cannot be written, by the number of the error.
_REMEDIES = {
    errno.EROFS: ". The notebook can be read here; to write it, mount its disk for writing, "
    "or copy it to another",
    errno.ENOSPC: ". The disk is full: free space there, then go on",
}


class WriterLock:
    """A process's right to write one notebook.

    Notebook objects of one process share it: the last that releases it gives it up.
    A process that is forked from the holder does not have it.

    Parameters
    ----------
    database : Path
        The notebook's file.
    """

    _held: ClassVar[dict[Path, tuple[int, int]]] = {}
    _guard: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, database: Path) -> None:
        self._database = database.resolve()
        self._path = self._database.with_name(self._database.name + ".lock")
        self._holder = 0

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._holder == os.getpid()

    @property
    def shared(self) -> bool:
        """Whether other objects of this process hold it, too."""
        return self.held and self._held[self._path][1] > 1

    def acquire(self) -> None:
        """Take the lock, if this object has not got it.

        Raises
        ------
        NotebookInUseError
            When another process holds it: it names host, process and since when.
        NotebookError
            When the lock file cannot be written.
        """
        if self.held:
            return
        with self._guard:
            fd, count = self._held.get(self._path) or (self._lock(), 0)
            self._held[self._path] = (fd, count + 1)
            self._holder = os.getpid()

    def _lock(self) -> int:
        while True:
            fd = -1
            try:
                fd = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self._is_current(fd):
                    os.ftruncate(fd, 0)
                    os.pwrite(fd, json.dumps(_me()).encode(), 0)
                    return fd
            except BlockingIOError as e:
                holder = _holder(fd)
                os.close(fd)
                raise NotebookInUseError(str(self._database), *holder) from e
            except OSError as e:
                if fd >= 0:
                    os.close(fd)
                remedy = _REMEDIES.get(e.errno or 0, "")
                raise NotebookError(f"{self._path} cannot be written: {e.strerror}{remedy}") from e
            # the last holder deleted the file after we had opened it
            os.close(fd)

    def _is_current(self, fd: int) -> bool:
        try:
            return os.path.samestat(os.fstat(fd), self._path.stat())
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Give the lock up, if this object has it."""
        if not self.held:
            return
        with self._guard:
            self._holder = 0
            fd, count = self._held[self._path]
            if count > 1:
                self._held[self._path] = (fd, count - 1)
                return
            del self._held[self._path]
            # a file that nobody holds is no lock
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)
            os.close(fd)

    @classmethod
    def _after_fork(cls) -> None:
        """Let the child have no lock; closing its copies does not release the parent's."""
        for fd, _ in cls._held.values():
            os.close(fd)
        cls._held = {}
        cls._guard = threading.Lock()


def assert_unused(database: Path) -> None:
    """Make sure that nobody writes a notebook now, without leaving a trace beside it.

    Raises
    ------
    NotebookInUseError
        When somebody does, in this process or in another.
    """
    path = database.resolve().with_name(database.resolve().name + ".lock")
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError:
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError as e:
        raise NotebookInUseError(str(database), *_holder(fd)) from e
    finally:
        os.close(fd)


os.register_at_fork(after_in_child=WriterLock._after_fork)


def _me() -> dict[str, str | int]:
    since = datetime.now().astimezone().isoformat(timespec="seconds")
    return {"host": platform.node(), "pid": os.getpid(), "since": since}


def _holder(fd: int) -> tuple[str, int, str]:
    try:
        me = json.loads(os.pread(fd, 4096, 0))
        return me["host"], me["pid"], me["since"]
    except (ValueError, KeyError, TypeError):
        # the holder has not written its name yet
        return "an unknown host", 0, "a moment ago"
