"""What is kept: notebooks and their result sets."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labkit.notebook.checking import check as check
    from labkit.notebook.condition import LostRow as LostRow
    from labkit.notebook.condition import LostValue as LostValue
    from labkit.notebook.condition import NotebookCondition as NotebookCondition
    from labkit.notebook.condition import ResultSetCondition as ResultSetCondition
    from labkit.notebook.epychdf5 import HDF5LabNotebook as HDF5LabNotebook
    from labkit.notebook.epycjson import JSONLabNotebook as JSONLabNotebook
    from labkit.notebook.labnotebook import LabNotebook as LabNotebook
    from labkit.notebook.postgresnotebook import SQLLabNotebook as SQLLabNotebook
    from labkit.notebook.recovery import recover as recover
    from labkit.notebook.resultset import ResultSet as ResultSet
    from labkit.notebook.sqlitenotebook import SQLiteLabNotebook as SQLiteLabNotebook

# each kind of notebook brings libraries that the others do not need
_HOME_OF = {
    "HDF5LabNotebook": "labkit.notebook.epychdf5",
    "JSONLabNotebook": "labkit.notebook.epycjson",
    "LabNotebook": "labkit.notebook.labnotebook",
    "LostRow": "labkit.notebook.condition",
    "LostValue": "labkit.notebook.condition",
    "NotebookCondition": "labkit.notebook.condition",
    "ResultSet": "labkit.notebook.resultset",
    "ResultSetCondition": "labkit.notebook.condition",
    "SQLLabNotebook": "labkit.notebook.postgresnotebook",
    "SQLiteLabNotebook": "labkit.notebook.sqlitenotebook",
    "check": "labkit.notebook.checking",
    "recover": "labkit.notebook.recovery",
}

__all__ = [
    "HDF5LabNotebook",
    "JSONLabNotebook",
    "LabNotebook",
    "LostRow",
    "LostValue",
    "NotebookCondition",
    "ResultSet",
    "ResultSetCondition",
    "SQLLabNotebook",
    "SQLiteLabNotebook",
    "check",
    "recover",
]


def __getattr__(name: str) -> Any:
    try:
        home = _HOME_OF[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
