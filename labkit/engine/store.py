"""The store of a host: the files of attachments, each there complete or not at all.

A file is written under a name of its own, hashed, and then renamed: several processes may
bring the same one. What nobody has used for a month goes when something new comes.
"""

from __future__ import annotations

import contextlib
import io
import os
import platform
import shutil
import time
import uuid
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from labkit.attachment import Attachment, digest_of, mapped, parts, store_folder
from labkit.cache import CACHE
from labkit.errors import AttachmentStoreError, MissingAttachmentError

__all__ = [
    "KEPT_S",
    "WAIT_S",
    "Stock",
    "Store",
    "complete",
    "lacks",
    "note_receiving",
    "receive",
    "receiving",
    "require",
    "stock",
]

#: How long a file is kept that nobody uses, in seconds.
KEPT_S = 30 * 86400.0

#: After so long, the writer of an unfinished file is taken for dead.
_UNFINISHED_S = 86400.0

#: How long an engine waits for an attachment that another engine of its host may receive.
WAIT_S = 5.0

#: How long when it receives the attachment itself: the rest comes only in between.
_WAIT_OF_RECEIVER_S = 0.2

#: How long when it has told the lab before, which may want to send it between two chunks.
_WAIT_AGAIN_S = 1.0

_LOOK_S = 0.05

#: What this process is receiving, by digest.
_receiving: set[str] = set()

#: What it has missed, and told.
_told: set[str] = set()


class Store:
    """The files of attachments in one folder.

    Parameters
    ----------
    folder : Path, optional
        By default, this host's store.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store, series = Store(Path(folder)), Attachment(np.arange(10))
    ...     store.put(series)
    ...     store.has(series)
    True
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = store_folder() if folder is None else folder

    @property
    def id(self) -> str:
        """The random name of this folder: hosts that see the same one share a file system.

        Raises
        ------
        AttachmentStoreError
            When there is no such folder, and it cannot be made.
        """
        path = self.folder / "id"
        with self._writing():
            if not path.exists():
                self._name(path)
            return path.read_text(encoding="ascii")

    def _name(self, path: Path) -> None:
        self._make_folder()
        candidate = self.folder / f"{uuid.uuid4().hex}.part"
        candidate.write_text(uuid.uuid4().hex, encoding="ascii")
        try:
            os.link(candidate, path)
        except FileExistsError:
            pass  # another process was first
        except OSError:  # a file system without links: two names at once cost a second copy
            candidate.replace(path)
        finally:
            candidate.unlink(missing_ok=True)

    def _make_folder(self) -> None:
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        self.folder.mkdir(mode=0o700, exist_ok=True)

    def has(self, attachment: Attachment) -> bool:
        """Test whether the file of an attachment is here, complete."""
        return mapped(self.folder / attachment.filename, attachment) is not None

    def put(self, attachment: Attachment) -> None:
        """Write the file of an attachment that this process has, unless it is here.

        Raises
        ------
        AttachmentStoreError
            When the folder cannot be written, is full, or the array has changed.
        """
        if self.has(attachment):
            with contextlib.suppress(OSError):  # there are stores that one can only read
                os.utime(self.folder / attachment.filename)
            return
        name = uuid.uuid4().hex
        for start, part in parts(attachment.array):
            self.write(attachment, name, start, part)
        self.finish(attachment, name)

    def write(
        self, attachment: Attachment, name: str, start: int, part: bytes | memoryview
    ) -> None:
        """Write a part of an unfinished file; parts may come in any order, and twice.

        Parameters
        ----------
        attachment : Attachment
            Of which it is a part.
        name : str
            Tells the writers of the same file apart.
        start : int
            Where in the array's bytes the part begins.
        part : bytes or memoryview
            The bytes.

        Raises
        ------
        AttachmentStoreError
            When the folder cannot be written, or is full.
        """
        with self._writing(self._unfinished(attachment, name)) as path:
            if not path.exists():
                self._make_room(attachment.nbytes)
            _write_at(path, len(_header(attachment)) + start, part)

    def finish(self, attachment: Attachment, name: str) -> None:
        """Complete a file of which all parts were written.

        Raises
        ------
        AttachmentStoreError
            When it cannot be written, or its digest is not that of the attachment.
        """
        with self._writing(self._unfinished(attachment, name)) as path:
            if not path.exists():  # an empty array has no parts
                self._make_room(attachment.nbytes)
            _write_at(path, 0, _header(attachment), is_last=True)
            array = mapped(path, attachment)
            if array is None or digest_of(array) != attachment.digest:
                raise AttachmentStoreError(
                    f"attachment {attachment.digest} in {self.folder} is not what was attached: "
                    "its array has changed since, or it was damaged on its way. Make the "
                    "attachment again from an array, or a file, that nobody writes"
                )
            path.replace(self.folder / attachment.filename)

    def unpacked(self, archive: Attachment) -> Path:
        """Return the folder into which an archive that is here was unpacked, once for all.

        Parameters
        ----------
        archive : Attachment
            The bytes of a zip file.

        Raises
        ------
        AttachmentStoreError
            When the folder cannot be written, or is full.
        """
        folder = self.folder / f"{archive.digest}.code"
        with self._writing():
            if not folder.exists():
                self._make_room(archive.nbytes)
                candidate = self._unfinished(archive, uuid.uuid4().hex)
                with zipfile.ZipFile(io.BytesIO(archive.array.tobytes())) as packed:
                    packed.extractall(candidate)
                try:
                    candidate.rename(folder)
                except OSError:
                    _remove(candidate)
                    if not folder.exists():  # no other process was first
                        raise
        with contextlib.suppress(OSError):  # there are stores that one can only read
            os.utime(folder)
        return folder

    def _unfinished(self, attachment: Attachment, name: str) -> Path:
        return self.folder / f"{attachment.digest}.{name}.part"

    def _make_room(self, size: int) -> None:
        self._make_folder()
        self.evict()
        free = shutil.disk_usage(self.folder).free
        if free < size:
            raise AttachmentStoreError(
                f"{self.folder} has {free / 1e6:,.0f} MB free, and an attachment needs "
                f"{size / 1e6:,.0f} MB: set {CACHE} to a folder with room"
            )

    def evict(self) -> None:
        """Remove what has not been used for :data:`KEPT_S`, and what was never finished."""
        now = time.time()
        for pattern, kept in (("*.npy", KEPT_S), ("*.code", KEPT_S), ("*.part", _UNFINISHED_S)):
            for path in self.folder.glob(pattern):
                with contextlib.suppress(OSError):
                    if path.stat().st_mtime < now - kept:
                        _remove(path)

    @contextlib.contextmanager
    def _writing(self, path: Path | None = None) -> Iterator[Any]:
        """Say in our words why the folder cannot be written; leave no broken file."""
        try:
            yield path
        except OSError as e:
            if path is not None:
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)
            if isinstance(e, AttachmentStoreError):
                raise
            raise AttachmentStoreError(
                f"attachments cannot be kept in {self.folder} ({e.strerror or e}): "
                f"set {CACHE} to a folder that can be written"
            ) from e


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _header(attachment: Attachment) -> bytes:
    header = io.BytesIO()
    described = {
        "descr": np.lib.format.dtype_to_descr(attachment.dtype),
        "fortran_order": False,
        "shape": attachment.shape,
    }
    np.lib.format.write_array_header_1_0(header, described)
    return header.getvalue()


def _write_at(path: Path, start: int, data: bytes | memoryview, is_last: bool = False) -> None:
    # not open(): it either cuts the file off, or wants it to exist
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
        file.seek(start)
        file.write(data)
        if is_last:
            # a file of the right size but without its content would never be noticed
            file.flush()
            os.fsync(file.fileno())


# ---------- what engines are asked to do ----------


class Stock(NamedTuple):
    """What an engine says about the store of its host."""

    store: str
    """The id; empty when there is none."""
    missing: tuple[str, ...]
    """Digests of what it lacks."""
    problem: str = ""
    """Why it can keep nothing."""


def stock(attachments: Sequence[Attachment]) -> Stock:
    """Say what this host's store is, and what it lacks."""
    missing: tuple[str, ...] = tuple(a.digest for a in attachments)
    try:
        store = Store()
        missing = tuple(a.digest for a in attachments if not store.has(a))
        return Stock(store.id, missing)
    except AttachmentStoreError as e:
        return Stock("", missing, f"on {platform.node()}: {e}")


def lacks(attachment: Attachment) -> bool:
    """Test whether this host's store lacks an attachment, which a lab would bring now."""
    if Store().has(attachment):
        return False
    _receiving.add(attachment.digest)
    return True


def receive(attachment: Attachment, name: str, start: int, part: bytes) -> None:
    """Write a part of an attachment that a lab has sent."""
    _receiving.add(attachment.digest)
    Store().write(attachment, name, start, part)


def complete(attachment: Attachment, name: str) -> None:
    """Complete an attachment of which a lab has sent all parts."""
    _receiving.discard(attachment.digest)
    Store().finish(attachment, name)


def receiving() -> frozenset[str]:
    """Return the digests of what this engine is receiving."""
    return frozenset(_receiving)


def note_receiving(digests: frozenset[str]) -> None:
    """Note, in another process of this engine, what it is receiving."""
    _receiving.clear()
    _receiving.update(digests)


def require(attachments: Sequence[Attachment], engine: int | None = None) -> None:
    """Map attachments, waiting a moment for those that may be on their way.

    The wait keeps an engine without them from taking all the work and giving it back.

    Parameters
    ----------
    attachments : sequence of Attachment
        What the points need.
    engine : int, optional
        The number of this engine in its cluster.

    Raises
    ------
    MissingAttachmentError
        When one is not here in time.
    """
    started = time.monotonic()
    for attachment in attachments:
        while not attachment.is_here():
            if time.monotonic() - started > _patience_s(attachment.digest):
                _told.add(attachment.digest)
                raise MissingAttachmentError(attachment.digest, _id_if_any(), engine)
            time.sleep(_LOOK_S)


def _patience_s(digest: str) -> float:
    if digest in _receiving:
        return _WAIT_OF_RECEIVER_S
    return _WAIT_AGAIN_S if digest in _told else WAIT_S


def _id_if_any() -> str:
    try:
        return Store().id
    except AttachmentStoreError:
        return ""
