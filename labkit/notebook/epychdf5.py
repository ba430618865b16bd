"""Notebooks in epyc's HDF5 format."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import epyc

from labkit.errors import (
    NotebookError,
    NotebookFormatError,
    NotebookVersionException,
    UnknownNotebookError,
)
from labkit.experiment import Experiment
from labkit.notebook import epyccolumns, exact
from labkit.notebook.content import (
    NotebookContent,
    ResultSetContent,
    names_for_epyc,
    unique_names,
    without_missing,
)
from labkit.notebook.filenotebook import FileLabNotebook
from labkit.notebook.readable import plain_text
from labkit.notebook.resultset import ResultSet
from labkit.outcome import METADATA, PARAMETERS, PARTS, RESULTS, Outcome

if TYPE_CHECKING:
    import h5py
    import numpy as np

    Array = np.ndarray[Any, Any]

__all__ = ["HDF5LabNotebook", "read", "write"]

#: The version of epyc's format that is written.
VERSION = "1"

_CREATOR = "Created by labkit"
_MAGIC = b"\x89HDF\r\n\x1a\n"

#: What epyc calls things in the file.
_RESULTS, _PENDING, _DESCRIPTION, _LOCKED = "results", "pending", "description", "locked"
_CURRENT = "current-resultset"

#: What epyc cannot hold, as JSON in each result set's group.
_OURS = "labkit"

_EPYCS_ORDER = (METADATA, PARAMETERS, RESULTS)

#: How long a server may be silent.
_PATIENCE_S = 60.0


class HDF5LabNotebook(FileLabNotebook, epyc.HDF5LabNotebook):
    """A notebook in memory that is loaded from and saved to epyc's HDF5 format.

    epyc reads what it writes. A column of its tables has one type, so that a missing
    number makes it a column of floats with NaN, a missing text is empty, as with epyc,
    and what is no number, text or sequence of these is JSON. What these forms lose is in
    the same file, too, so that each value comes back equal here. A table holds some 900
    columns.

    Parameters
    ----------
    name : str or path
        The file, by convention ``*.h5``, which is made when there is none; or an http
        or https URL, whose notebook is read and locked.
    create : bool
        Begin with an empty notebook, erasing the one that is there; not with a URL.
    description : str, optional
        Free text.

    Raises
    ------
    NotebookFormatError, NotebookVersionException
        When the file is something else, or of an unknown version.
    UnknownNotebookError
        When nothing can be had from the URL.
    NotebookInUseError
        On the first write, when another process writes it.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> nb = HDF5LabNotebook(f"{folder.name}/walks.h5")
    >>> nb.addResult({"parameters": {"a": 1}, "metadata": {}, "results": {}})
    >>> nb.commit()
    >>> HDF5LabNotebook(nb.name()).results()[0]["parameters"]
    {'a': 1}
    >>> nb.close(); folder.cleanup()
    """

    def __init__(
        self, name: str | os.PathLike[str], create: bool = False, description: str | None = None
    ) -> None:
        self._isRemote = urlsplit(os.fspath(name)).scheme in ("http", "https")
        super().__init__(name, create and not self._isRemote, description)

    def _loaded(self) -> NotebookContent | None:
        return _downloaded(os.fspath(self.name())) if self._isRemote else super()._loaded()

    def _read_file(self, path: Path) -> NotebookContent:
        return read(path)

    def _write_file(self, path: Path, content: NotebookContent) -> None:
        write(path, content)


def _downloaded(url: str) -> NotebookContent:
    """Read the notebook at a URL, and finish it: it cannot be written."""
    import requests

    try:
        response = requests.get(url, timeout=_PATIENCE_S)
        response.raise_for_status()
    except requests.RequestException as e:
        raise UnknownNotebookError(f"{url} cannot be read: {e}") from e
    content = _read(io.BytesIO(response.content), url)
    content.locked = True
    for page in content.result_sets.values():
        page.locked = True
    return content


# ---------- writing ----------


def write(path: Path, content: NotebookContent) -> None:
    """Write a notebook as epyc's HDF5, version 1.

    Raises
    ------
    NotebookError
        When a result set has too many columns for HDF5.
    """
    import h5py

    groups = unique_names(content.result_sets, _group_name)
    with h5py.File(path, "w", locking=False) as file:
        for order, (tag, page) in enumerate(content.result_sets.items()):
            group = file.create_group(groups[tag])
            lost = _write_page(group, tag, page)
            ours = {"tag": exact.tagged("", tag), "order": order, "exact": lost}
            if order == 0:
                # each of the file's groups is a result set to epyc
                ours["logs"] = exact.tagged("", content.logs)
                ours["description"] = exact.tagged("", content.description)
            group.create_dataset(_OURS, data=json.dumps(ours), dtype=h5py.string_dtype())
        about = file.attrs
        about["creator"] = _CREATOR
        about["version"] = VERSION
        about[_DESCRIPTION] = plain_text(content.description)
        about[_CURRENT] = groups[content.current]
        about[_LOCKED] = content.locked


def _group_name(tag: str) -> str:
    """Return the group of a result set: its tag, as far as HDF5 can have that."""
    name = plain_text(tag).replace("/", "%2F")
    return {"": "%", ".": "%2E"}.get(name, name)


def _write_page(group: h5py.Group, tag: str, page: ResultSetContent) -> dict[str, Any]:
    """Write what epyc can hold of a result set, and return the rest."""
    import h5py

    group.attrs[_DESCRIPTION] = plain_text(page.description)
    group.attrs[_LOCKED] = page.locked
    for name, value in page.attributes.items():
        if name not in (_DESCRIPTION, _LOCKED, "") and plain_text(name) == name:
            shown = epyccolumns.as_text(value)
            group.attrs.create(name, shown, dtype=h5py.string_dtype())
    names = names_for_epyc(page)
    results = _results_table(page, names)
    pending = _pending_table(page, names[PARAMETERS])
    if page.outcomes:
        _create(group, _RESULTS, results, tag)
        for part in _EPYCS_ORDER:
            if names[part]:
                group[_RESULTS].attrs.create(part, names[part], dtype=h5py.string_dtype())
    if len(pending):
        _create(group, _PENDING, pending, tag)
    return exact.difference(page, _page(group.attrs, names, results, pending))


def _create(group: h5py.Group, name: str, table: Array, tag: str) -> None:
    try:
        # epyc resizes the table when it adds a result
        group.create_dataset(name, data=table, maxshape=(None,))
    except ValueError as e:
        raise NotebookError(
            f"result set {tag} has {len(table.dtype)} columns, more than HDF5 can hold in a table "
            "(some 900): return a dict or an array instead of many results"
        ) from e


def _results_table(page: ResultSetContent, names: Mapping[str, list[str]]) -> Array:
    columns = {
        name: [outcome[part].get(name) for outcome in page.outcomes]
        for part in _EPYCS_ORDER
        for name in names[part]
    }
    if page.outcomes:
        # epyc asks each outcome for it
        columns[Experiment.STATUS] = [bool(value) for value in columns[Experiment.STATUS]]
    return epyccolumns.table(columns, len(page.outcomes))


def _pending_table(page: ResultSetContent, names: list[str]) -> Array:
    import h5py

    points = {job: point for job, point in page.pending.items() if plain_text(job) == job}
    columns = {name: [point.get(name) for point in points.values()] for name in names}
    made = epyccolumns.table(columns, len(points))
    for name in names:
        # epyc reads neither text nor booleans there, but sequences of one text and numbers
        if h5py.check_string_dtype(made.dtype[name]):
            columns[name] = [[word] for word in made[name]]
        elif made.dtype[name].kind == "b":
            columns[name] = made[name].astype(int).tolist()
    return epyccolumns.table({**columns, ResultSet.JOBID: list(points)}, len(points))


# ---------- reading ----------


def read(path: Path) -> NotebookContent:
    """Read a notebook in epyc's HDF5.

    Raises
    ------
    NotebookFormatError
        When the file is something else; the error names it.
    NotebookVersionException
        When it is of another version.
    """
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise NotebookFormatError(f"{path} is not HDF5")
    return _read(path, str(path))


def _read(source: Path | io.BytesIO, name: str) -> NotebookContent:
    import h5py

    try:
        # epyc writes in place, under HDF5's own lock
        with h5py.File(source, "r") as file:
            version = file.attrs.get("version")
            if version is None:
                raise NotebookFormatError(f"{name} is HDF5, but no notebook of epyc's")
            if _str(version) != VERSION:
                raise NotebookVersionException(VERSION, _str(version), name)
            return _notebook(file)
    except (OSError, KeyError, ValueError, TypeError, IndexError) as e:
        if isinstance(e, NotebookError):
            raise
        raise NotebookFormatError(
            f"{name} is no notebook of epyc's, or it is damaged: {type(e).__name__}: {e}"
        ) from e


def _notebook(file: h5py.File) -> NotebookContent:
    about = file.attrs
    # epyc leaves labkit's part in the file when it writes it, but it may be true no more
    is_ours = about.get("creator") == _CREATOR
    found = [(name, *_read_page(file[name], name, is_ours)) for name in file]
    found.sort(key=lambda f: f[1].get("order", 0))
    tags = {name: exact.untagged(ours["tag"]) for name, ours, _ in found}
    ours = found[0][1] if found else {}
    current = _str(about.get(_CURRENT, ""))
    description = _str(about.get(_DESCRIPTION, "A notebook"))
    return NotebookContent(
        description=exact.untagged(ours.get("description", description)),
        current=tags.get(current, current),
        locked=bool(about.get(_LOCKED, False)),
        result_sets={tags[name]: page for name, _, page in found},
        logs=exact.untagged(ours.get("logs", {})),
    )


def _read_page(
    group: h5py.Group, name: str, is_ours: bool
) -> tuple[dict[str, Any], ResultSetContent]:
    """Return what labkit has noted about a result set, and its content."""
    results = group.get(_RESULTS)
    names = {part: [] if results is None else _texts(results.attrs.get(part)) for part in PARTS}
    pending = group[_PENDING][()] if _PENDING in group else None
    page = _page(group.attrs, names, None if results is None else results[()], pending)
    if not is_ours:
        _lists_of_arrays(page)
        return {"tag": name}, page
    ours = json.loads(group[_OURS][()])
    exact.restore(page, ours["exact"])
    return ours, page


def _page(
    attributes: Mapping[str, Any],
    names: Mapping[str, list[str]],
    results: Array | None,
    pending: Array | None,
) -> ResultSetContent:
    outcomes = [] if results is None else _outcomes(results, names)
    points = {} if pending is None else _points(pending)
    known = {part: list(some) for part, some in names.items()}
    waiting = {name for point in points.values() for name in point}
    known[PARAMETERS] = sorted(waiting.union(known[PARAMETERS]))
    return ResultSetContent(
        description=_str(attributes.get(_DESCRIPTION, "")),
        locked=bool(attributes.get(_LOCKED, False)),
        attributes={k: _str(v) for k, v in attributes.items() if k not in (_DESCRIPTION, _LOCKED)},
        names=known,
        outcomes=outcomes,
        pending=points,
    )


def _outcomes(table: Array, names: Mapping[str, list[str]]) -> list[Outcome]:
    # epyc finds the columns by their order
    fields = iter(table.dtype.names or ())
    where = [(part, name, next(fields)) for part in _EPYCS_ORDER for name in names[part]]
    found: list[Outcome] = [{part: {} for part in PARTS} for _ in range(len(table))]
    for part, name, field in where:
        for outcome, value in zip(found, epyccolumns.values_of(table[field]), strict=True):
            outcome[part][name] = value
    for outcome in found:
        if not outcome[METADATA].get(Experiment.STATUS):
            # zeros that epyc put there
            outcome[RESULTS] = {}
    return [without_missing(outcome) for outcome in found]


def _points(table: Array) -> dict[str, dict[str, Any]]:
    columns = {name: epyccolumns.values_of(table[name]) for name in table.dtype.names or ()}
    jobs = columns.pop(ResultSet.JOBID)
    return {
        str(job): {name: column[row] for name, column in columns.items()}
        for row, job in enumerate(jobs)
    }


def _lists_of_arrays(page: ResultSetContent) -> None:
    """Make lists of what epyc has read from lists as arrays."""
    for rc in page.outcomes:
        for part in PARTS:
            rc[part] = {name: _list_of(value) for name, value in rc[part].items()}
    page.pending = {
        job: {name: _list_of(value) for name, value in point.items()}
        for job, point in page.pending.items()
    }


def _list_of(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value


def _str(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _texts(value: Any) -> list[str]:
    return [] if value is None else [_str(v) for v in value]
