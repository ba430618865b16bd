"""Series from text: one number a line, or a column of a table.

pyarrow parses it: in C, strictly, correctly rounded. What it cannot read is looked for again,
line by line, so that the error names the line.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from labkit.errors import SeriesError
from labkit.matrixprofile.files.choosing import Part, choose

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["read_lines", "read_table"]

MISSING = ("", " ", "NA", "N/A", "n/a", "#N/A", "<NA>", "null", "NULL", "None")
"""What an empty cell of a table may look like; nan is a number."""

SHOWN = 20
"""So many characters of a wrong cell are told."""


def read_lines(path: Path) -> NDArray[Any]:
    """Read one number a line, as SCAMP has it.

    Parameters
    ----------
    path : Path
        The file. The last line may have no newline; nan and inf are numbers.

    Raises
    ------
    SeriesError
        For a line that is empty, blank ones at the end apart, or no number.
    """
    return _numbers(_Text(path))


def read_table(path: Path, column: Part, delimiter: str) -> NDArray[Any]:
    """Read one column of a table.

    Parameters
    ----------
    path : Path
        The file. Its first line is a header if a cell in it is no number. A blank line is a
        missing sample, but at the end it is ignored.
    column : str, int or None
        Name or number.
    delimiter : str
        What is between cells.

    Raises
    ------
    SeriesError
        For a column that is not there, a line with more or fewer cells than the first, or a
        cell that is no number.
    """
    _, cells = next(_Text(path, delimiter).rows(), (0, []))
    has_header = any(cell not in MISSING and not _is_number(cell) for cell in cells)
    names = cells if has_header else [""] * len(cells)
    chosen = choose(path, "column", column, names) if names else 0
    return _numbers(_Text(path, delimiter, names or [""], has_header, chosen))


@dataclass(frozen=True, slots=True)
class _Text:
    """Where in a text the numbers are; without delimiter there is one a line."""

    path: Path
    delimiter: str = ""
    names: Sequence[str] = ("",)
    has_header: bool = False
    chosen: int = 0

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Yield the number of each line below the header, and its cells."""
        rows = self._all_rows()
        if self.has_header:
            next(rows, None)
        return rows

    def _all_rows(self) -> Iterator[tuple[int, list[str]]]:
        with io.TextIOWrapper(_bytes_of(self.path), "utf-8-sig", "replace") as text:
            if not self.delimiter:
                yield from ((number, [line.strip()]) for number, line in enumerate(text, 1))
                return
            reader = csv.reader(text, delimiter=self.delimiter)
            try:
                for row in reader:
                    yield reader.line_num, [cell.strip() for cell in row]
            except csv.Error as e:
                raise SeriesError(f"{self.path}, line {reader.line_num}: {e}") from e

    def parsed(self) -> pa.ChunkedArray:
        """Return the numbers; ArrowInvalid when some are none."""
        import pyarrow as pa
        from pyarrow import csv as fast

        # names of our own, since those in the header may occur twice
        columns = [str(i) for i in range(len(self.names))]
        column = columns[self.chosen]
        # the last cell of a table of tabs may be empty
        blank = b"\r\n" if self.delimiter == "\t" else b" \t\r\n"
        with closing(_Trimmed(_bytes_of(self.path), blank)) as stream:
            table = fast.read_csv(
                stream,
                read_options=fast.ReadOptions(column_names=columns, skip_rows=int(self.has_header)),
                parse_options=fast.ParseOptions(
                    delimiter=self.delimiter or "\x1f",
                    quote_char='"' if self.delimiter else False,
                    ignore_empty_lines=False,
                ),
                convert_options=fast.ConvertOptions(
                    column_types={column: pa.float64()},
                    include_columns=[column],
                    null_values=MISSING if self.delimiter else [""],
                ),
            )
        return table[column]


class _Trimmed:
    """A stream without the blank lines at its end, as far as pyarrow needs one."""

    closed = False

    def __init__(self, inner: BinaryIO, blank: bytes) -> None:
        self._inner, self._blank = inner, blank
        self._ready = self._held = b""

    def read(self, size: int) -> bytes:
        # as many as are wanted: after a short block pyarrow finds no end of line
        while len(self._ready) < size and (block := self._inner.read(size)):
            kept = block.rstrip(self._blank)
            if kept:
                self._ready, self._held = self._ready + self._held + kept, b""
            self._held += block[len(kept) :]
        given, self._ready = self._ready[:size], self._ready[size:]
        return given

    def close(self) -> None:
        self.closed = True
        self._inner.close()


def _bytes_of(path: Path) -> BinaryIO:
    if path.suffix.lower() == ".gz":
        return cast("BinaryIO", gzip.open(path, "rb"))
    return path.open("rb")


def _numbers(text: _Text) -> NDArray[Any]:
    import pyarrow as pa

    try:
        parsed = text.parsed()
    except pa.ArrowInvalid as e:
        if not any(any(cells) for _, cells in text.rows()):
            return np.empty(0)
        _raise_first_fault(text)
        raise SeriesError(f"{text.path} cannot be read: {e}") from e
    if parsed.null_count and not text.delimiter:
        _raise_first_fault(text)
    values: NDArray[Any] = parsed.to_numpy()
    return values


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.isascii() and "_" not in text


def _raise_first_fault(text: _Text) -> None:
    """Look for the first line that is not as it should be, and say what is wrong with it."""
    for line, cells in text.rows():
        wrong = _wrong_cells(text, cells) if text.delimiter else _wrong_line(cells[0], line)
        if wrong:
            raise SeriesError(f"{text.path}, line {line}: {wrong}")


def _wrong_line(line: str, number: int) -> str:
    """Say what is wrong with a line that should be one number; nothing when it is one."""
    if _is_number(line):
        return ""
    if not line:
        return "empty; write nan where a sample is missing"
    if all(_is_number(t) for t in line.replace(",", " ").replace(";", " ").split()):
        return f"{_cut(line)} is several numbers; a table is a .csv or .tsv"
    header = "; a file with a header is a .csv" if number == 1 else ""
    return f"{_cut(line)} is not a number{header}"


def _wrong_cells(text: _Text, cells: Sequence[str]) -> str:
    """Say what is wrong with a row of a table; nothing when it is right."""
    if not cells:
        return ""
    if len(cells) != len(text.names):
        return f"{len(cells)} cells, where the first line has {len(text.names)}"
    cell = cells[text.chosen]
    if cell in MISSING or _is_number(cell):
        return ""
    return f"{_cut(cell)} in column {text.names[text.chosen] or text.chosen} is not a number"


def _cut(text: str) -> str:
    return repr(text if len(text) <= SHOWN else f"{text[:SHOWN]}…")
