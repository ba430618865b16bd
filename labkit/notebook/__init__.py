"""What is kept: notebooks and their result sets."""

from __future__ import annotations

from labkit.notebook.epychdf5 import HDF5LabNotebook
from labkit.notebook.epycjson import JSONLabNotebook
from labkit.notebook.labnotebook import LabNotebook
from labkit.notebook.postgresnotebook import SQLLabNotebook
from labkit.notebook.resultset import ResultSet
from labkit.notebook.sqlitenotebook import SQLiteLabNotebook

__all__ = [
    "HDF5LabNotebook",
    "JSONLabNotebook",
    "LabNotebook",
    "ResultSet",
    "SQLLabNotebook",
    "SQLiteLabNotebook",
]
