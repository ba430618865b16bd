"""Notebooks in the formats of other programs: parquet, CSV, and epyc's own two."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.errors import NotebookError, NotebookFormatError, suggestion
from labkit.experiment import Experiment
from labkit.notebook import epychdf5, epycjson
from labkit.notebook.atomic import replacing
from labkit.notebook.content import content_of
from labkit.notebook.labnotebook import LabNotebook
from labkit.notebook.readable import plain_text, readable, text

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FORMATS", "SUFFIXES", "export"]


def export(
    notebook: LabNotebook,
    path: str | os.PathLike[str],
    format: str | None = None,
    tag: str | None = None,
    *,
    overwrite: bool = False,
) -> None:
    """Write a notebook to a file of another format.

    ``parquet`` and ``csv`` hold one result set as the table that ``dataframe`` gives,
    failed outcomes included, whose results are missing. In parquet, arrays and lists are
    (nested) lists, and other objects, complex numbers too, are JSON text; units and
    descriptions are in the file's metadata, under ``labkit``. In CSV, arrays and objects
    are JSON text, and a missing value is empty, as empty text is.

    ``json`` and ``hdf5`` are epyc's formats, with all result sets; of values that epyc
    cannot hold they have the nearest form, see :class:`labkit.JSONLabNotebook` and
    :class:`labkit.HDF5LabNotebook`.

    Parameters
    ----------
    notebook : LabNotebook
        Any notebook.
    path : str or path
        The file to write.
    format : {"parquet", "csv", "json", "hdf5"}, optional
        By default the suffix of the path tells: ``.parquet``, ``.csv``, ``.json``,
        ``.h5`` or ``.hdf5``.
    tag : str, optional
        The result set; by default the current one for tables, and all of them for epyc's.
    overwrite : bool
        Replace a file that is there.

    Raises
    ------
    NotebookFormatError
        When the format is not known.
    UnknownResultSetError
        When there is no result set of that tag.
    NotebookError
        When the file is there already, or belongs to the notebook.

    Examples
    --------
    >>> import tempfile, pandas as pd
    >>> nb = LabNotebook()
    >>> nb.addResult({"parameters": {"a": 1}, "metadata": {}, "results": {}})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     export(nb, f"{folder}/walks.csv")
    ...     pd.read_csv(f"{folder}/walks.csv")["a"].tolist()
    [1]
    """
    target = Path(path)
    write = FORMATS[_format(target, format)]
    if tag is not None:
        notebook.resultSet(tag)
    _assert_free(notebook, target, overwrite)
    with replacing(target) as unfinished:
        write(notebook, unfinished, tag)


def _format(path: Path, format: str | None) -> str:
    if format is None:
        try:
            return SUFFIXES[path.suffix.lower()]
        except KeyError:
            known = suggestion(path.suffix, SUFFIXES)
            raise NotebookFormatError(
                f"{path}: the suffix tells no format{known}; or say format="
            ) from None
    if format not in FORMATS:
        raise NotebookFormatError(f"no format {format}{suggestion(format, FORMATS)}")
    return format


def _assert_free(notebook: LabNotebook, path: Path, overwrite: bool) -> None:
    if path.resolve() in _own_files(notebook):
        raise NotebookError(f"{path} is a file of the notebook itself: export to another one")
    if path.exists() and not overwrite:
        raise NotebookError(f"{path} exists already: choose another name, or overwrite it")


def _own_files(notebook: LabNotebook) -> set[Path]:
    if not notebook.isPersistent():
        return set()
    own = {Path(notebook.name()).resolve()}
    database = getattr(notebook, "_database", None)
    if database is not None:
        # the first is where arrays will be, even if there are none yet
        arrays = database.arrays
        own |= {file.resolve() for file in (arrays.path, *arrays.numbered_files().values())}
    return own


# ---------- one result set as a table ----------


def _parquet(notebook: LabNotebook, path: Path, tag: str | None) -> None:
    import pyarrow as pa
    from pyarrow import compute as pc
    from pyarrow import parquet

    from labkit.notebook import arrowcolumns

    frame = notebook.dataframe(tag, only_successful=False)
    failed = _failed(frame)
    columns = {}
    for name in frame.columns:
        made = arrowcolumns.column(frame[name])
        if frame[name].dtype.kind == "f":
            # a failed outcome has no NaN for a result, but none
            made = pc.if_else(failed & frame[name].isna().to_numpy(), None, made)
        columns[plain_text(str(name))] = made
    about = {"labkit": json.dumps(_about(notebook, tag))}
    parquet.write_table(pa.table(columns).replace_schema_metadata(about), path)


def _failed(frame: pd.DataFrame) -> Any:
    import numpy as np

    if Experiment.STATUS not in frame:
        return np.zeros(len(frame), dtype=bool)
    return np.array([status is not True for status in frame[Experiment.STATUS].tolist()])


def _about(notebook: LabNotebook, tag: str | None) -> dict[str, Any]:
    tag = notebook.currentTag() if tag is None else tag
    rs = notebook.resultSet(tag)
    return {
        "notebook": notebook.description(),
        "result_set": tag,
        "description": rs.description(),
        "attributes": {name: readable(rs[name]) for name in sorted(rs.keys())},
    }


def _csv(notebook: LabNotebook, path: Path, tag: str | None) -> None:
    frame = notebook.dataframe(tag, only_successful=False)
    for name in frame.columns:
        if frame[name].dtype.kind not in "biuf":
            frame[name] = _cells(frame[name])
    frame.to_csv(path, index=False, encoding="utf-8", errors="backslashreplace")


def _cells(series: pd.Series[Any]) -> pd.Series[Any]:
    """Return a column of text, and None where nothing is."""
    import pandas as pd

    return pd.Series([_cell(value) for value in series], index=series.index, dtype=object)


def _cell(value: Any) -> Any:
    if isinstance(value, BaseException):
        return str(value) or repr(value)
    plain = readable(value)
    return text(value) if isinstance(plain, list | dict) else plain


# ---------- whole notebooks ----------


def _json(notebook: LabNotebook, path: Path, tag: str | None) -> None:
    epycjson.write(path, content_of(notebook, None if tag is None else [tag]))


def _hdf5(notebook: LabNotebook, path: Path, tag: str | None) -> None:
    epychdf5.write(path, content_of(notebook, None if tag is None else [tag]))


FORMATS: dict[str, Callable[[LabNotebook, Path, str | None], None]] = {
    "parquet": _parquet,
    "csv": _csv,
    "json": _json,
    "hdf5": _hdf5,
}
"""What each format is called, and how it is written."""

SUFFIXES = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".json": "json",
    ".h5": "hdf5",
    ".hdf5": "hdf5",
}
"""File name suffixes, and the formats that they tell."""
