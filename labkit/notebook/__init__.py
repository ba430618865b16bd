"""What is kept: notebooks and their result sets."""

from __future__ import annotations

from labkit.notebook.checking import check
from labkit.notebook.condition import LostRow, LostValue, NotebookCondition, ResultSetCondition
from labkit.notebook.epychdf5 import HDF5LabNotebook
from labkit.notebook.epycjson import JSONLabNotebook
from labkit.notebook.labnotebook import LabNotebook
from labkit.notebook.postgresnotebook import SQLLabNotebook
from labkit.notebook.recovery import recover
from labkit.notebook.resultset import ResultSet
from labkit.notebook.sqlitenotebook import SQLiteLabNotebook

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
