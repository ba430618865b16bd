"""The tables of a notebook in SQL.

A result set is a table of its own with real typed columns, one for each
parameter, result and metadata element, added when the name first appears.
These tables say which there are::

    labkit_notebook        name, value: schema version, description, current tag, ...
    labkit_result_sets     tag, table, description, locked
    labkit_columns         part, name and kind of each column of a result set's table
    labkit_attributes      a result set's attributes
    labkit_provenance      metadata that many runs share, each combination once
    labkit_pending         results on their way that a user has named, one by one
    labkit_points          key and parameters of the points of sweeps, in blocks
    labkit_pending_ranges  which of these are on their way, as ranges of numbers
    labkit_chunks          which message to which cluster carries them
    labkit_logs            what runs printed and logged
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from labkit.errors import NotebookError
from labkit.notebook.tagging import is_unicode
from labkit.outcome import METADATA, PARAMETERS, RESULTS

__all__ = [
    "EXACT",
    "ID",
    "PROVENANCE",
    "PROVENANCE_NAMES",
    "RUN",
    "SCHEMA_VERSION",
    "attributes",
    "checked",
    "chunks",
    "column_name",
    "columns",
    "logs",
    "metadata",
    "notebook",
    "pending",
    "pending_ranges",
    "points",
    "provenance",
    "result_set_table",
    "result_sets",
    "table_name",
]

#: Written into each file; raised when older versions of labkit could not read it.
SCHEMA_VERSION = 2

#: The longest name of a column or a result set.
MAX_NAME = 1000

ID, RUN, PROVENANCE, EXACT = "labkit_id", "labkit_run", "labkit_provenance", "labkit_exact"

#: Metadata that does not change from one point to the next: kept once in labkit_provenance.
PROVENANCE_NAMES = frozenset(
    {
        "epyc.experiment.classname",
        "labkit.experiment",
        "labkit.experiment_version",
        "labkit.source",
        "labkit.seed",
        "labkit.host",
        "labkit.pid",
        "labkit.engine",
        "labkit.version",
        "labkit.python",
        "labkit.numpy",
        "labkit.numba",
        "labkit.git_commit",
        "labkit.git_dirty",
    }
)

#: A job, a run or a message: compared byte by byte, whatever the language of a server.
_NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

#: Whole numbers of 64 bits, as SQLite's always are.
_WHOLE = sa.Integer().with_variant(sa.BigInteger(), "postgresql")

metadata = sa.MetaData()

notebook = sa.Table(
    "labkit_notebook",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.Text),
)
result_sets = sa.Table(
    "labkit_result_sets",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("tag", sa.Text, unique=True, nullable=False),
    sa.Column("table", sa.Text, unique=True, nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("locked", sa.Boolean, nullable=False, default=False),
    sa.Column("first_slab", _WHOLE, nullable=False),
    # an object of a deleted result set must not find another one under its number
    sqlite_autoincrement=True,
)
columns = sa.Table(
    "labkit_columns",
    metadata,
    sa.Column("result_set", sa.Integer, primary_key=True),
    sa.Column("part", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("column", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
)
attributes = sa.Table(
    "labkit_attributes",
    metadata,
    sa.Column("result_set", sa.Integer, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)
provenance = sa.Table(
    "labkit_provenance",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("facts", sa.Text, unique=True, nullable=False),
)
pending = sa.Table(
    "labkit_pending",
    metadata,
    sa.Column("job", _NAME, primary_key=True),
    sa.Column("result_set", sa.Integer, nullable=False),
    sa.Column("key", _NAME),
    sa.Column("parameters", sa.Text, nullable=False),
)
points = sa.Table(
    "labkit_points",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("sweep", _NAME, nullable=False),
    sa.Column("first", _WHOLE, nullable=False),
    sa.Column("stop", _WHOLE, nullable=False),
    sa.Column("result_set", sa.Integer, nullable=False),
    sa.Column("keys", sa.Text, nullable=False),
    sa.Column("parameters", sa.Text, nullable=False),
    sa.UniqueConstraint("sweep", "first"),
)
pending_ranges = sa.Table(
    "labkit_pending_ranges",
    metadata,
    sa.Column("sweep", _NAME, primary_key=True),
    sa.Column("first", _WHOLE, primary_key=True),
    sa.Column("stop", _WHOLE, nullable=False),
    sa.Column("result_set", sa.Integer, nullable=False),
)
chunks = sa.Table(
    "labkit_chunks",
    metadata,
    sa.Column("name", _NAME, primary_key=True),
    sa.Column("sweep", _NAME, nullable=False),
    sa.Column("first", _WHOLE, nullable=False),
    sa.Column("stop", _WHOLE, nullable=False),
    sa.Column("cluster", sa.Text, nullable=False),
    sa.Column("message", sa.Text, nullable=False),
)
logs = sa.Table(
    "labkit_logs",
    metadata,
    sa.Column("run", _NAME, primary_key=True),
    sa.Column("key", _NAME),
    sa.Column("text", sa.Text, nullable=False),
)


def checked(what: str, name: Any) -> str:
    """Return a name, if SQL and HDF5 can both have it.

    Raises
    ------
    NotebookError
        When it is not text, too long, or text that is not Unicode or holds a NUL.
    """
    if not isinstance(name, str):
        raise NotebookError(f"the name of a {what} must be text, not {name!r:.100}")
    if "\0" in name or not is_unicode(name):
        raise NotebookError(f"the name of {what} {name!r:.100} has characters that SQL cannot hold")
    if len(name) > MAX_NAME:
        raise NotebookError(
            f"the name of {what} {name[:100]}… has {len(name):,} characters, more than {MAX_NAME:,}"
        )
    return name


def table_name(tag: str, default: str, taken: Iterable[str], max_bytes: int | None = None) -> str:
    """Choose the table of a result set: its tag, made fit for SQL.

    Parameters
    ----------
    tag : str
        The result set.
    default : str
        The tag of the default result set.
    taken : iterable of str
        Names that it cannot have.
    max_bytes : int, optional
        How long it can be.

    Examples
    --------
    >>> table_name("walks", "epyc.resultset.default", [])
    'walks'
    >>> table_name("epyc.resultset.default", "epyc.resultset.default", ["results"])
    'results_2'
    """
    plain = "results" if tag == default else re.sub(r"\W+", "_", tag).strip("_")
    if not plain or plain.lower().startswith(("labkit_", "sqlite_")):
        plain = f"set_{plain}"
    return _unique(plain, taken, max_bytes)


_SINGULAR = {PARAMETERS: "parameter", RESULTS: "result", METADATA: "metadata"}


def column_name(part: str, name: str, taken: Iterable[str], max_bytes: int | None = None) -> str:
    """Choose the column of a parameter, result or metadata element.

    Parameters
    ----------
    part : str
        parameters, results or metadata.
    name : str
        What the experiment calls it.
    taken : iterable of str
        Names that it cannot have.
    max_bytes : int, optional
        How long it can be.

    Examples
    --------
    >>> column_name("metadata", "epyc.experiment.status", [])
    'epyc_experiment_status'
    >>> column_name("results", "N", ["n"])
    'result_N'
    """
    if part == METADATA:
        name = re.sub(r"\W", "_", name)
    lowered = {t.lower() for t in taken}
    if (
        not name
        or name.lower() in lowered
        or (name.lower().startswith("labkit_") and part != METADATA)
    ):
        name = f"{_SINGULAR[part]}_{name}"
    return _unique(name, taken, max_bytes)


def _unique(name: str, taken: Iterable[str], max_bytes: int | None) -> str:
    lowered = {t.lower() for t in taken}
    candidate, n = shortened(name, max_bytes), 1
    while candidate.lower() in lowered:
        n += 1
        candidate = shortened(name, max_bytes, f"_{n}")
    return candidate


def shortened(name: str, max_bytes: int | None, end: str = "") -> str:
    """Return a name with another end, cut so that both together are not too long.

    Examples
    --------
    >>> shortened("Ωmega", 4, "_2"), shortened("walks", None, "_2")
    ('Ω_2', 'walks_2')
    """
    kept = None if max_bytes is None else max_bytes - len(end)
    return name.encode()[:kept].decode(errors="ignore") + end


def result_set_table(name: str) -> sa.Table:
    """Return the table of a result set, as it is when the set is new."""
    return sa.Table(
        name,
        sa.MetaData(),
        sa.Column(ID, _WHOLE, primary_key=True),
        sa.Column(RUN, _NAME, unique=True),
        sa.Column(PROVENANCE, sa.Integer),
        sa.Column(EXACT, sa.Text),
    )
