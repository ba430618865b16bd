"""What SQLite says of a damaged file, in plain words."""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Iterable

__all__ = ["FAILURES", "integrity", "plain_words"]

#: What Python's sqlite3 raises for a damaged file: also when SQLite's message about it
#: quotes bytes that are no text, or a length in it asks for more memory than there is.
FAILURES = (sqlite3.Error, UnicodeDecodeError, MemoryError)

#: Beginnings of what SQLite says, and what that means.
_MEANINGS = (
    (r"row \d+ missing from index (\S+)|wrong # of entries in index (\S+)", "{} does not fit"),
    (r"non-unique entry in index (\S+)", "{} has an entry twice"),
    (r".*[Ff]reelist.*", "the list of free pages is damaged"),
    (r".*never used.*", "pages belong to no table"),
    (r".*(?:database disk image is malformed).*", "SQLite cannot read all of it"),
    (r".*(?:file is not a database).*", "its first page is damaged"),
    (r".*malformed database schema.*", "its list of tables is damaged"),
    (r"(?:.*?\b)?(?:[Pp]age) (\d+).*", "page {} is damaged"),
)


def integrity(c: sqlite3.Connection) -> list[str]:
    """Return what SQLite finds wrong with a file, in plain words; empty when nothing is.

    Parameters
    ----------
    c : sqlite3.Connection
        A connection to the file.
    """
    said: list[str] = []
    try:
        said += (str(row[0]) for row in c.execute("PRAGMA integrity_check"))
    except FAILURES as e:
        said.append(str(e) if isinstance(e, sqlite3.Error) else "database disk image is malformed")
    return [] if said == ["ok"] else plain_words(said)


def plain_words(said: Iterable[str]) -> list[str]:
    r"""Turn what ``PRAGMA integrity_check`` says into what it means, the like together.

    Examples
    --------
    >>> plain_words(["*** in database main ***\nOn tree page 7 cell 3: Rowid 9 out of order"])
    ['page 7 is damaged']
    >>> plain_words(["row 5 missing from index sqlite_autoindex_walks_1"] * 2)
    ['the index of walks does not fit (2 times)']
    """
    lines = [line for text in said for line in text.splitlines() if not line.startswith("***")]
    counts = Counter(_meaning(line) for line in lines)
    return [f"{what} ({n} times)" if n > 1 else what for what, n in counts.items()]


def _meaning(line: str) -> str:
    for pattern, meaning in _MEANINGS:
        found = re.fullmatch(pattern, line)
        if found is not None:
            names = [name for name in found.groups() if name]
            return meaning.format(*map(_named, names))
    return line


def _named(name: str) -> str:
    found = re.fullmatch(r"sqlite_autoindex_(.+)_\d+", name)
    if found is not None:
        return f"the index of {found[1]}"
    return name if name.isdigit() else f"the index {name}"
