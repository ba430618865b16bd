"""An SQLite file read page by page: what can be had where SQLite itself gives up.

SQLite answers a query with an error as soon as it meets a damaged page. Asking for rows by
ranges of their numbers, and bisecting the ranges that fail, gets around a damaged leaf of a
table's tree; a damaged inner page takes all rows below it away. So the pages are read here
as "Database File Format" (https://www.sqlite.org/fileformat2.html) describes them, as
SQLite's own ``.recover`` does: each row that its cell holds whole is found, also in leaves
that no inner page names any more.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["UNREADABLE", "Record", "SQLiteFile", "Tree"]

_MAGIC = b"SQLite format 3\0"
_HEADER_BYTES = 100
_DEFAULT_PAGE_BYTES = 4096

_INDEX_INNER, _TABLE_INNER, _INDEX_LEAF, _TABLE_LEAF = 2, 5, 10, 13
_INNER = (_INDEX_INNER, _TABLE_INNER)

#: Sizes of the serial types 0 to 9; 10 and 11 are not used.
_SIZES = (0, 1, 2, 3, 4, 6, 8, 8, 0, 0)


class _Unreadable:
    def __repr__(self) -> str:
        return "UNREADABLE"


#: Stands for a value whose row can be read, but which itself cannot.
UNREADABLE = _Unreadable()


class _DamageError(Exception):
    """Bytes that are not what SQLite writes."""


@dataclass(frozen=True, slots=True)
class Record:
    """A row, or an entry of an index."""

    rowid: int
    """The row's number; 0 in an index, where it is the last of the values."""
    values: tuple[Any, ...]
    """None, whole numbers, floats, text, bytes, or :data:`UNREADABLE`."""


@dataclass(slots=True)
class Tree:
    """What is left of a table or an index."""

    pages: list[int]
    """The pages that hold its records, in their order."""
    is_whole: bool = True
    """Whether no page and no cell was damaged."""
    has_lost_branches: bool = False
    """Whether an inner page was damaged, so that pages below it may be found elsewhere."""


class SQLiteFile:
    """The pages of a file that SQLite wrote. It is opened for reading only.

    Parameters
    ----------
    path : Path
        The file, without a log: fold that into it before.
    """

    def __init__(self, path: Path) -> None:
        self._data = _mapped(path)
        head = bytes(self._data[:_HEADER_BYTES]).ljust(_HEADER_BYTES, b"\0")
        size = struct.unpack_from(">H", head, 16)[0]
        size = 65536 if size == 1 else size
        is_sound = 512 <= size <= 65536 and size & (size - 1) == 0
        self._page_bytes = size if is_sound else _DEFAULT_PAGE_BYTES
        self._usable = self._page_bytes - (head[20] if head[20] <= 32 else 0)
        #: A file that was cut off ends in a part of a page.
        self.pages = len(self._data) // self._page_bytes
        self._owned: set[int] = set()
        self._free = self._free_pages(struct.unpack_from(">I", head, 32)[0])

    def _page(self, number: int) -> memoryview:
        return self._data[(number - 1) * self._page_bytes : number * self._page_bytes]

    def _free_pages(self, trunk: int) -> set[int]:
        """Return the pages that hold nothing any more, as far as their list can be read."""
        free: set[int] = set()
        while 1 < trunk <= self.pages and trunk not in free:
            free.add(trunk)
            page = self._page(trunk)
            trunk, count = struct.unpack_from(">II", page)
            if count > self._usable // 4 - 2:
                break
            free.update(struct.unpack_from(f">{count}I", page, 8))
        return free

    # ---------- trees ----------

    def table(self, root: int) -> Tree:
        """Return what is left of the table with this root page."""
        return self._tree(root, _TABLE_INNER, _TABLE_LEAF)

    def index(self, root: int) -> Tree:
        """Return what is left of the index with this root page."""
        return self._tree(root, _INDEX_INNER, _INDEX_LEAF)

    def _tree(self, root: int, inner: int, leaf: int) -> Tree:
        tree = Tree([])
        waiting = [root]
        while waiting:
            number = waiting.pop()
            kind = self._kind(number)
            if kind not in (inner, leaf) or number in self._owned:
                tree.is_whole, tree.has_lost_branches = False, True
                continue
            self._owned.add(number)
            if kind != _TABLE_INNER:
                tree.pages.append(number)
                tree.is_whole &= self._is_whole(number)
            if kind == inner:
                below = self._children(number)
                waiting += [n for n in reversed(below) if n]
                if not all(below):
                    tree.is_whole, tree.has_lost_branches = False, True
        return tree

    def _kind(self, number: int) -> int:
        """Return what a page says that it is; 0 when no tree can have it."""
        if not 1 <= number <= self.pages or number in self._free:
            return 0
        return self._page(number)[self._start(number)]

    def _start(self, number: int) -> int:
        return _HEADER_BYTES if number == 1 else 0

    def _children(self, number: int) -> list[int]:
        """Return the pages below an inner one, 0 for each that cannot be one."""
        page = self._page(number)
        offsets = [*self._cells(number), self._start(number) + 8]
        named = [0 if at is None else struct.unpack_from(">I", page, at)[0] for at in offsets]
        return [n if n != 1 and self._kind(n) else 0 for n in named]

    def _cells(self, number: int) -> Iterator[int | None]:
        """Yield where the cells of a page begin, None for each that is nowhere."""
        page, start = self._page(number), self._start(number)
        first = start + (12 if page[start] in _INNER else 8)
        (count,) = struct.unpack_from(">H", page, start + 3)
        most = (self._usable - first) // 6
        if count > most:
            yield None
        seen: set[int] = set()
        for pointer in struct.unpack_from(f">{min(count, most)}H", page, first):
            # SQLite looks at these bits only, too
            offset = pointer & (self._page_bytes - 1)
            is_there = first <= offset <= self._usable - 4 and offset not in seen
            seen.add(offset)
            yield offset if is_there else None

    def orphans(self) -> list[int]:
        """Return the leaves of tables that no tree has; ask for all trees before."""
        return [
            n
            for n in range(2, self.pages + 1)
            if n not in self._owned and self._kind(n) == _TABLE_LEAF
        ]

    # ---------- records ----------

    def records(self, number: int) -> Iterator[Record]:
        """Yield the records of a page that can be read."""
        return (record for record in self._records(number) if record is not None)

    def _is_whole(self, number: int) -> bool:
        return all(
            record is not None and UNREADABLE not in record.values
            for record in self._records(number)
        )

    def _records(self, number: int) -> Iterator[Record | None]:
        page = self._page(number)
        kind = self._kind(number)
        for offset in self._cells(number):
            try:
                yield None if offset is None else self._record(page, kind, offset)
            except _DamageError:
                yield None

    def _record(self, page: memoryview, kind: int, offset: int) -> Record:
        offset += 4 if kind == _INDEX_INNER else 0
        size, offset = _varint(page, offset)
        rowid = 0
        if kind == _TABLE_LEAF:
            rowid, offset = _varint(page, offset)
            rowid = rowid - 2**64 if rowid >= 2**63 else rowid
        if size > len(self._data):
            raise _DamageError("a row is larger than the file")
        return Record(rowid, _values(self._payload(page, kind, offset, size), size))

    def _payload(self, page: memoryview, kind: int, offset: int, size: int) -> bytes:
        """Return the bytes of a record, as far as they are there."""
        least = (self._usable - 12) * 32 // 255 - 23
        most = self._usable - 35 if kind == _TABLE_LEAF else (self._usable - 12) * 64 // 255 - 23
        here = size
        if size > most:
            here = least + (size - least) % (self._usable - 4)
            here = here if here <= most else least
        if offset + here > self._usable:
            raise _DamageError("a row goes beyond its page")
        payload = bytes(page[offset : offset + here])
        if here == size:
            return payload
        if offset + here + 4 > self._usable:
            raise _DamageError("a row goes beyond its page")
        (number,) = struct.unpack_from(">I", page, offset + here)
        return payload + self._overflow(number, size - here)

    def _overflow(self, number: int, size: int) -> bytes:
        parts: list[bytes] = []
        seen: set[int] = set()
        while size > 0 and 1 < number <= self.pages and number not in seen | self._free:
            seen.add(number)
            page = self._page(number)
            parts.append(bytes(page[4 : min(self._usable, 4 + size)]))
            size -= len(parts[-1])
            (number,) = struct.unpack_from(">I", page)
        return b"".join(parts)


def _mapped(path: Path) -> memoryview:
    with path.open("rb") as file:
        if not path.stat().st_size:
            return memoryview(b"")
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _varint(data: memoryview | bytes, offset: int) -> tuple[int, int]:
    """Return a number of one to nine bytes, and where it ends."""
    value = 0
    for i in range(9):
        if offset + i >= len(data):
            raise _DamageError("a number is cut off")
        byte = data[offset + i]
        if i == 8:
            return value << 8 | byte, offset + 9
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, offset + i + 1
    raise AssertionError


def _values(payload: bytes, size: int) -> tuple[Any, ...]:
    """Return the values of a record of so many bytes, of which the last may be missing."""
    end, offset = _varint(payload, 0)
    if not offset <= end <= len(payload):
        raise _DamageError("the types of a row are damaged")
    types: list[int] = []
    while offset < end:
        serial, offset = _varint(payload, offset)
        types.append(serial)
    sizes = [_size(serial) for serial in types]
    if offset != end or end + sum(sizes) != size:
        raise _DamageError("the types of a row are damaged")
    values: list[Any] = []
    for serial, length in zip(types, sizes, strict=True):
        raw = payload[end : end + length]
        values.append(_value(serial, raw) if len(raw) == length else UNREADABLE)
        end += length
    return tuple(values)


def _size(serial: int) -> int:
    if serial in (10, 11):
        raise _DamageError("there is no such type")
    return _SIZES[serial] if serial < 12 else (serial - 12) // 2


def _value(serial: int, raw: bytes) -> Any:
    if serial == 0:
        return None
    if serial == 7:
        return struct.unpack(">d", raw)[0]
    if serial < 7:
        return int.from_bytes(raw, "big", signed=True)
    if serial < 12:
        return serial - 8
    return raw if serial % 2 == 0 else text_of(raw)


def text_of(raw: bytes) -> Any:
    """Return bytes as text, or :data:`UNREADABLE` when they are none."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return UNREADABLE
