"""Notebooks to and from other formats, and to pictures."""

from __future__ import annotations

from pathlib import Path

from labkit.cli.opening import reading
from labkit.errors import ParameterError, suggestion
from labkit.notebook import SQLiteLabNotebook, epycimport
from labkit.notebook import export as exporting
from labkit.notebook import plot as plotting

__all__ = ["assert_picture", "export", "plot", "take_over"]


def export(path: Path, out: Path, form: str | None, tag: str | None, *, overwrite: bool) -> str:
    """Write a notebook in another format; return what was done."""
    with reading(path) as notebook:
        exporting.export(notebook, out, form, tag, overwrite=overwrite)
    return f"{out} is written"


def take_over(source: Path, target: Path) -> str:
    """Copy a notebook of epyc's into one of ours; return what was done."""
    # a source that cannot be read leaves no empty notebook behind
    epycimport.read(source)
    notebook = SQLiteLabNotebook(target)
    with notebook.open():
        epycimport.import_notebook(source, notebook)
        outcomes = sum(notebook.numberOfResults(tag) for tag in notebook.resultSets())
        sets = notebook.numberOfResultSets()
    return f"{target} holds {outcomes:,} outcomes in {sets} result set{'s' * (sets != 1)}"


def plot(path: Path, axes: tuple[str, str, str | None], tag: str | None, out: Path) -> str:
    """Draw a result set; return what was done.

    Raises
    ------
    ParameterError
        When the name of the picture tells no format.
    """
    assert_picture(out)
    with reading(path) as notebook:
        x, y, hue = axes
        plotting.plot(notebook, x, y, hue, tag).savefig(out)
    return f"{out} is drawn"


def assert_picture(path: Path) -> None:
    """Make sure that the name of a picture tells a format that can be drawn.

    Raises
    ------
    ParameterError
        When it does not.
    """
    from matplotlib.backend_bases import FigureCanvasBase

    formats = FigureCanvasBase.get_supported_filetypes()
    if path.suffix[1:].lower() not in formats:
        known = suggestion(path.suffix[1:], formats)
        raise ParameterError(f"{path}: its suffix names no format of a picture{known}")
