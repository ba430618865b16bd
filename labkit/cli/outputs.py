"""The files in which a matrix profile ends."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit.cli import findings
from labkit.cli.conversion import assert_picture
from labkit.cli.joins import Join
from labkit.errors import ParameterError
from labkit.matrixprofile.files.writing import assert_writable, files_of, write_result
from labkit.notebook.atomic import replacing

__all__ = ["Outputs"]


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where a result goes."""

    results: tuple[Path, ...] = ()
    """Files of numbers."""
    picture: Path | None = None
    """What is drawn."""
    overwrite: bool = False
    """Replace files that are there."""

    def check(self, join: Join, *others: Path) -> None:
        """Make sure, before work starts, that all can be written.

        Parameters
        ----------
        join : Join
            What is to be computed; its series must stay.
        *others : Path
            Other files that must stay.

        Raises
        ------
        ParameterError
            When one cannot, or two are the same.
        """
        about = join.about()
        for path in self.results:
            assert_writable(path, join.kind, about=about, overwrite=self.overwrite)
        if self.picture is not None:
            self._check_picture(self.picture)
        inputs = [source.path for source in join.sources]
        _assert_apart([*inputs, *others], self._files(join))

    def _check_picture(self, path: Path) -> None:
        assert_picture(path)
        if not path.parent.is_dir():
            raise ParameterError(f"{path}: there is no folder {path.parent}; make it first")
        if path.exists() and not self.overwrite:
            raise ParameterError(f"{path} exists already: choose another name, or give --force")

    def _files(self, join: Join) -> Iterator[Path]:
        for path in self.results:
            yield from files_of(path, join.kind, about=join.about())
        if self.picture is not None:
            yield self.picture

    def write(self, join: Join, result: Any) -> Iterator[str]:
        """Write all, and yield what was done."""
        about = join.about(digests=bool(self.results))
        for path in self.results:
            files = write_result(path, join.kind, result, about=about, overwrite=self.overwrite)
            yield from (f"{file} is written" for file in files)
        if self.picture is not None:
            with replacing(self.picture) as unfinished:
                form = self.picture.suffix[1:].lower()
                findings.draw(join, result).savefig(unfinished, format=form)
            yield f"{self.picture} is drawn"


def _assert_apart(kept: Iterable[Path], written: Iterable[Path]) -> None:
    seen = {os.path.realpath(path): "is needed itself" for path in kept}
    for path in written:
        place = os.path.realpath(path)
        if place in seen:
            raise ParameterError(f"{path} {seen[place]}; choose another name")
        seen[place] = "is to be written twice"
