"""Large arrays that belong to an experiment, and that travel once to each host.

An experiment keeps an :class:`Attachment` as an attribute. Pickled, it is only a name: the
digest of the array. The bytes lie in a folder of the host, its *store*, where labs put
them before points run, and all processes of the host map the one file.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labkit.cache import CACHE, cache_root
from labkit.errors import AttachmentStoreError, ExperimentError, MissingAttachmentError

__all__ = ["PART_BYTES", "Attachment", "digest_of", "mapped", "parts", "store_folder"]

#: Arrays are read, hashed and sent in parts of so many bytes: memory need not hold a whole one.
PART_BYTES = 16 * 2**20

#: A file that is in use was modified at most so long ago, give or take the length of a chunk.
_TOUCH_S = 3600.0

#: bool, whole numbers with and without sign, floats, complex numbers.
_NUMERIC = "biufc"

#: Attachments that were made in this process, by digest.
_made: WeakValueDictionary[str, Attachment] = WeakValueDictionary()


class Attachment:
    """An immutable array of numbers, known by its content.

    Parameters
    ----------
    array : array_like
        Any shape, any numeric dtype. It is copied when somebody else could change it. A
        memory map is taken as it is, so that it may be larger than memory: its file must
        stay the same as long as the attachment is used.

    Raises
    ------
    ExperimentError
        When these are no numbers.

    Examples
    --------
    >>> import pickle
    >>> series = Attachment(np.arange(1e6))
    >>> series.nbytes, len(pickle.dumps(series)) < 200
    (8000000, True)
    >>> series.array[:3]
    array([0., 1., 2.])
    """

    def __init__(self, array: ArrayLike) -> None:
        given = np.asarray(array)
        if given.dtype.kind not in _NUMERIC:
            raise ExperimentError(
                f"an attachment holds numbers, and this array has dtype {given.dtype}: "
                "convert it, such as by array.astype(float)"
            )
        self.dtype: np.dtype[Any] = given.dtype
        self.shape: tuple[int, ...] = given.shape
        self._array: NDArray[Any] | None = _read_only(given)
        self._digest = ""
        self._is_own = True
        self._touched = -math.inf

    @property
    def digest(self) -> str:
        """32 hexadecimal digits: blake2b of dtype, shape and bytes."""
        if not self._digest:
            self._digest = digest_of(self.array)
            _made[self._digest] = self
        return self._digest

    @property
    def nbytes(self) -> int:
        """Size of the array in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def filename(self) -> str:
        """Name of its file in a store."""
        return f"{self.digest}.npy"

    @property
    def array(self) -> NDArray[Any]:
        """The array, read-only: this process's own, or a map of the file in the store.

        Raises
        ------
        MissingAttachmentError
            When there is no such file. Labs bring what the experiment's ``attachments()``
            returns.
        """
        if not self.is_here() or self._array is None:
            raise MissingAttachmentError(self.digest)
        return self._array

    def is_here(self) -> bool:
        """Test whether this process can have the array; a file is mapped, and noted as used."""
        if self._is_own:
            return True
        path = store_folder() / self.filename
        if self._array is None:
            self._array = mapped(path, self)
        if self._array is not None and time.monotonic() - self._touched > _TOUCH_S:
            self._touched = time.monotonic()
            with contextlib.suppress(OSError):  # there are stores that one can only read
                os.utime(path)
        return self._array is not None

    @staticmethod
    def _known(digest: str, dtype: str, shape: tuple[int, ...]) -> Attachment:
        """Return the attachment of a digest, which this process may have made."""
        own = _made.get(digest)
        if own is not None:
            return own
        attachment = Attachment.__new__(Attachment)
        attachment.dtype, attachment.shape = np.dtype(dtype), shape
        attachment._array, attachment._digest = None, digest
        attachment._is_own, attachment._touched = False, -math.inf
        return attachment

    def __reduce__(self) -> tuple[Any, ...]:
        return Attachment._known, (self.digest, self.dtype.str, self.shape)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __repr__(self) -> str:
        return f"<Attachment {self.digest}: {self.dtype}, shape {self.shape}>"


def _read_only(given: NDArray[Any]) -> NDArray[Any]:
    array = given.view() if _is_fixed(given) else given.copy()
    array.flags.writeable = False
    return array


def _is_fixed(array: NDArray[Any]) -> bool:
    """Test whether nobody can change an array, or it is a memory map."""
    is_fixed = True
    base: Any = array
    while isinstance(base, np.ndarray):
        if isinstance(base, np.memmap):
            return True
        is_fixed &= not base.flags.writeable
        base = base.base
    return is_fixed and (base is None or isinstance(base, bytes))


def parts(array: NDArray[Any]) -> Iterator[tuple[int, memoryview]]:
    """Yield the bytes of an array in C order, in parts of at most :data:`PART_BYTES`.

    Yields
    ------
    int, memoryview
        Where the part begins, and the part.

    Examples
    --------
    >>> [(start, part.tolist()) for start, part in parts(np.array([[1, 2], [3, 4]], "u1").T)]
    [(0, [1, 3, 2, 4])]
    """
    flat: Any = array.reshape(-1) if array.flags.c_contiguous else array.flat
    length = PART_BYTES // array.itemsize
    for i in range(0, array.size, length):
        yield i * array.itemsize, flat[i : i + length].view(np.uint8).data


def digest_of(array: NDArray[Any]) -> str:
    """Return the hash of dtype, shape and bytes of an array, 32 hexadecimal digits.

    Examples
    --------
    >>> zeros = np.zeros(4)
    >>> digest_of(zeros) == digest_of(zeros.reshape(2, 2))
    False
    """
    digest = hashlib.blake2b(f"{array.dtype.str}{array.shape}".encode(), digest_size=16)
    for _, part in parts(array):
        digest.update(part)
    return digest.hexdigest()


def store_folder() -> Path:
    """Return this host's store, which need not exist.

    Returns
    -------
    Path
        ``$LABKIT_CACHE/attachments``; by default in ``$XDG_CACHE_HOME/labkit``.

    Raises
    ------
    AttachmentStoreError
        When there is no home directory either.
    """
    try:
        return cache_root() / "attachments"
    except RuntimeError as e:
        raise AttachmentStoreError(
            f"there is no home directory to keep attachments in ({e}): set {CACHE} to a folder"
        ) from e


def mapped(path: Path, attachment: Attachment) -> NDArray[Any] | None:
    """Map the file of an attachment; None when it is not there, not complete, or another."""
    try:
        array = np.lib.format.open_memmap(path, mode="r")
        is_complete = path.stat().st_size == array.offset + array.nbytes
    except (OSError, ValueError):
        return None
    is_it = (array.dtype, array.shape) == (attachment.dtype, attachment.shape)
    return np.asarray(array) if is_complete and is_it else None
