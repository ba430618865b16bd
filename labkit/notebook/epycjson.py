"""Notebooks in epyc's JSON format."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import epyc

from labkit.errors import (
    NotebookFormatError,
    NotebookVersionException,
    ResultsStructureException,
)
from labkit.experiment import Experiment
from labkit.notebook import epycjson1, exact
from labkit.notebook.content import (
    NotebookContent,
    ResultSetContent,
    names_for_epyc,
    names_of,
    unique_names,
    without_missing,
)
from labkit.notebook.filenotebook import FileLabNotebook
from labkit.notebook.readable import plain_text, readable, text
from labkit.outcome import METADATA, PARAMETERS, RESULTS, Outcome, flatten

__all__ = ["JSONLabNotebook", "read", "write"]

logger = logging.getLogger(__name__)

#: The version of epyc's format that is written.
VERSION = "2"

#: NumPy's dtypes are smaller than this, and have no more dimensions; epyc's of text has this size.
_DTYPE_BYTES, _DTYPE_DEPTH, _TEXT_BYTES = 2**31, 32, 1024

#: What a result set's object holds beside attributes.
_RESERVED = ("results", "pending-results", "description", "locked")


class JSONLabNotebook(FileLabNotebook, epyc.JSONLabNotebook):  # type: ignore[misc]
    """A notebook in memory that is loaded from and saved to epyc's JSON format.

    epyc reads what it writes: numbers, text and lists as they are; of an array, nested
    lists; of anything else, JSON as text. What these forms lose is in the same file, too,
    under ``labkit``, so that each value comes back equal here.

    Parameters
    ----------
    name : str or path
        The file, by convention ``*.json``. It is made when there is none. One of
        version 1, as epyc wrote it before 2020, is read, and written as version 2.
    create : bool
        Begin with an empty notebook, erasing the one that is there.
    description : str, optional
        Free text.

    Raises
    ------
    NotebookFormatError, NotebookVersionException
        When the file is something else, or of an unknown version.
    NotebookInUseError
        On the first write, when another process writes it.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> nb = JSONLabNotebook(f"{folder.name}/walks.json")
    >>> nb.addResult({"parameters": {"a": 1}, "metadata": {}, "results": {}})
    >>> nb.commit()
    >>> JSONLabNotebook(nb.name()).results()[0]["parameters"]
    {'a': 1}
    >>> nb.close(); folder.cleanup()
    """

    def _read_file(self, path: Path) -> NotebookContent:
        return read(path)

    def _write_file(self, path: Path, content: NotebookContent) -> None:
        write(path, content)


# ---------- writing ----------


def write(path: Path, content: NotebookContent) -> None:
    """Write a notebook as epyc's JSON, version 2."""
    shown = unique_names(content.result_sets, plain_text)
    pages = {shown[tag]: _visible(page) for tag, page in content.result_sets.items()}
    about = {
        "creator": "Created by labkit",
        "version": VERSION,
        "description": plain_text(content.description),
        "current": shown[content.current],
        "locked": content.locked,
    }
    ours = _ours(content, shown, pages)
    with path.open("w", encoding="ascii") as file:
        file.writelines(_lines(about, pages, ours))


def _ours(
    content: NotebookContent, shown: Mapping[str, str], pages: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what epyc cannot hold of a notebook."""
    lost = {
        shown[tag]: exact.difference(page, _page(pages[shown[tag]]))
        for tag, page in content.result_sets.items()
    }
    odd = [content.description] * (content.description != plain_text(content.description))
    found = {
        "exact": {tag: inside for tag, inside in lost.items() if inside},
        "tags": {name: exact.tagged("", tag) for tag, name in shown.items() if name != tag},
        "description": exact.tagged("", odd),
        "logs": exact.tagged("", content.logs),
    }
    return {what: inside for what, inside in found.items() if inside}


def _lines(
    about: Mapping[str, Any], pages: Mapping[str, Mapping[str, Any]], ours: Mapping[str, Any]
) -> Iterator[str]:
    """Yield the document with one outcome a line: json writes fast only without indenting."""
    yield "{\n"
    yield from (f"{json.dumps(name)}: {json.dumps(value)},\n" for name, value in about.items())
    yield '"resultsets": {\n'
    for i, (tag, page) in enumerate(pages.items()):
        yield ",\n" if i else ""
        yield f"{json.dumps(tag)}: {{\n"
        other = {name: value for name, value in page.items() if name != "results"}
        yield from (f"{json.dumps(name)}: {json.dumps(value)},\n" for name, value in other.items())
        yield '"results": ['
        for row, outcome in enumerate(page["results"]):
            yield (",\n" if row else "\n") + json.dumps(outcome)
        yield "\n]}"
    yield "\n}"
    if ours:
        yield f',\n"labkit": {json.dumps(ours)}'
    yield "\n}\n"


def _visible(page: ResultSetContent) -> dict[str, Any]:
    """Return a result set as epyc writes it, of values that epyc can hold."""
    names = names_for_epyc(page)
    attributes = {
        k: readable(v)
        for k, v in page.attributes.items()
        if k not in _RESERVED and plain_text(k) == k
    }
    return {
        **attributes,
        "description": plain_text(page.description),
        "locked": page.locked,
        "pending-results": {
            job: {name: _visible_value(point.get(name)) for name in names[PARAMETERS]}
            for job, point in page.pending.items()
            if plain_text(job) == job
        },
        "results": [_visible_outcome(outcome, names) for outcome in page.outcomes],
    }


def _visible_outcome(outcome: Outcome, names: Mapping[str, list[str]]) -> Outcome:
    visible: Outcome = {}
    for part in (PARAMETERS, METADATA, RESULTS):
        given = outcome[part]
        there = (name for name in names[part] if given.get(name) is not None)
        visible[part] = {name: _visible_value(given[name]) for name in there}
    # epyc asks each outcome for it
    visible[METADATA][Experiment.STATUS] = bool(outcome[METADATA].get(Experiment.STATUS))
    return visible


def _visible_value(value: Any) -> Any:
    plain = "" if value is None else readable(value)
    return plain if 0 <= _dtype_bytes(plain) < _DTYPE_BYTES else text(value)


def _dtype_bytes(plain: Any, depth: int = 0) -> int:
    """Return the size of the dtype that epyc finds for a value, negative if it finds none.

    Of a list it looks at the first element.
    """
    if isinstance(plain, list) and plain:
        inside = _dtype_bytes(plain[0], depth + 1)
        # it has no dtype for a list of empty lists, either
        return len(plain) * inside if inside and depth < _DTYPE_DEPTH else -1
    if isinstance(plain, list):
        return 0
    if plain is None or isinstance(plain, dict):
        return -1
    return _TEXT_BYTES if isinstance(plain, str) else 8


# ---------- reading ----------


def read(path: Path) -> NotebookContent:
    """Read a notebook in epyc's JSON, of version 2 or 1.

    Raises
    ------
    NotebookFormatError
        When the file is something else; the error names it.
    NotebookVersionException
        When it is of another version.
    """
    document = _parsed(path)
    version = document.get("version")
    if version is not None and version != VERSION:
        raise NotebookVersionException(VERSION, str(version), str(path))
    try:
        if version is None:
            logger.info("%s is of version 1 of epyc's format", path)
            return epycjson1.notebook(document)
        return _notebook(document)
    except (KeyError, TypeError, ValueError, AttributeError, ResultsStructureException) as e:
        raise NotebookFormatError(
            f"{path} is JSON, but no notebook of epyc's: {type(e).__name__}: {e}"
        ) from e


def _parsed(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as e:
        raise NotebookFormatError(f"{path} is not JSON, or it is damaged: {e}") from e
    if not isinstance(document, dict):
        raise NotebookFormatError(f"{path} is JSON, but no notebook of epyc's")
    return document


def _notebook(document: Mapping[str, Any]) -> NotebookContent:
    content = NotebookContent(
        description=document["description"],
        current=document["current"],
        locked=bool(document["locked"]),
        result_sets={tag: _page(page) for tag, page in document["resultsets"].items()},
    )
    ours = document.get("labkit", {})
    for tag, lost in ours.get("exact", {}).items():
        exact.restore(content.result_sets[tag], lost)
    content.logs = exact.untagged(ours.get("logs", {}))
    for description in exact.untagged(ours.get("description", [])):
        content.description = description
    tags = {name: exact.untagged(tag) for name, tag in ours.get("tags", {}).items()}
    content.result_sets = {tags.get(n, n): page for n, page in content.result_sets.items()}
    content.current = tags.get(content.current, content.current)
    return content


def _page(page: Mapping[str, Any]) -> ResultSetContent:
    outcomes = [without_missing(rc) for rc in flatten(list(page["results"]))]
    return ResultSetContent(
        description=page["description"],
        locked=bool(page["locked"]),
        attributes={k: v for k, v in page.items() if k not in _RESERVED},
        names=names_of(outcomes),
        outcomes=outcomes,
        pending={job: dict(point) for job, point in page.get("pending-results", {}).items()},
    )
