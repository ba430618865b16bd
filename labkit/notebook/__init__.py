"""What is kept: notebooks and their result sets."""

from __future__ import annotations

from labkit.notebook.labnotebook import LabNotebook
from labkit.notebook.resultset import ResultSet
from labkit.notebook.sqlnotebook import SQLiteLabNotebook

__all__ = ["LabNotebook", "ResultSet", "SQLiteLabNotebook"]
