"""Notebooks in epyc's JSON format."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from datetime import datetime
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
from labkit.notebook.content import NotebookContent, ResultSetContent, names_for_epyc
from labkit.notebook.filenotebook import FileLabNotebook
from labkit.notebook.readable import plain_text, readable, text
from labkit.notebook.resultset import METADATA, PARAMETERS, PARTS, RESULTS, Outcome, flatten

__all__ = ["JSONLabNotebook", "read", "write"]

logger = logging.getLogger(__name__)

#: The version of epyc's format that is written.
VERSION = "2"

#: What a result set's object holds beside attributes.
_RESERVED = ("results", "pending-results", "description", "locked")

#: Metadata that epyc fills with empty text where there is none.
_EMPTY_IS_MISSING = (
    Experiment.EXPERIMENT,
    Experiment.START_TIME,
    Experiment.END_TIME,
    Experiment.EXCEPTION,
    Experiment.TRACEBACK,
)


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

    def _read(self, path: Path) -> NotebookContent:
        return read(path)

    def _write(self, path: Path, content: NotebookContent) -> None:
        write(path, content)


# ---------- writing ----------


def write(path: Path, content: NotebookContent) -> None:
    """Write a notebook as epyc's JSON, version 2."""
    pages = {tag: _visible(page) for tag, page in content.result_sets.items()}
    lost = {
        tag: found
        for tag, page in content.result_sets.items()
        if (found := exact.difference(page, _page(pages[tag])))
    }
    about = {
        "creator": "Created by labkit",
        "version": VERSION,
        "description": content.description,
        "current": content.current,
        "locked": content.locked,
    }
    with path.open("w", encoding="ascii") as file:
        file.writelines(_lines(about, pages, lost))


def _lines(
    about: Mapping[str, Any], pages: Mapping[str, Mapping[str, Any]], lost: Mapping[str, Any]
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
    if lost:
        yield f',\n"labkit": {json.dumps({"exact": lost})}'
    yield "\n}\n"


def _visible(page: ResultSetContent) -> dict[str, Any]:
    """Return a result set as epyc writes it, of values that epyc can hold."""
    names = names_for_epyc(page)
    attributes = {k: readable(v) for k, v in page.attributes.items() if k not in _RESERVED}
    return {
        **attributes,
        "description": page.description,
        "locked": page.locked,
        "pending-results": {
            job: {name: _visible_value(point.get(name, "")) for name in names[PARAMETERS]}
            for job, point in page.pending.items()
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
    if type(value) is str:
        return plain_text(value)
    if value is None:
        return ""
    plain = readable(value)
    return plain if _is_epycs(plain) else text(value)


def _is_epycs(plain: Any) -> bool:
    """Test whether epyc finds a type for this value: of a list it looks at the first element."""
    if isinstance(plain, list):
        return not plain or _is_epycs(plain[0])
    return plain is not None and not isinstance(plain, dict)


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
    for tag, lost in document.get("labkit", {}).get("exact", {}).items():
        exact.restore(content.result_sets[tag], lost)
    return content


def _page(page: Mapping[str, Any]) -> ResultSetContent:
    outcomes = [_outcome(rc) for rc in flatten(list(page["results"]))]
    pending = {job: dict(point) for job, point in page.get("pending-results", {}).items()}
    return ResultSetContent(
        description=page["description"],
        locked=bool(page["locked"]),
        attributes={k: v for k, v in page.items() if k not in _RESERVED},
        names={part: sorted({name for rc in outcomes for name in rc[part]}) for part in PARTS},
        outcomes=outcomes,
        pending=pending,
    )


def _outcome(rc: Outcome) -> Outcome:
    outcome: Outcome = {
        part: {name: value for name, value in rc[part].items() if value is not None} for part in PARTS
    }
    metadata = outcome[METADATA]
    for name in _EMPTY_IS_MISSING:
        if metadata.get(name) == "":
            del metadata[name]
    for name in (Experiment.START_TIME, Experiment.END_TIME):
        if isinstance(metadata.get(name), str):
            metadata[name] = _moment(metadata[name])
    return outcome


def _moment(written: str) -> datetime | str:
    try:
        return datetime.fromisoformat(written)
    except ValueError:
        return written
