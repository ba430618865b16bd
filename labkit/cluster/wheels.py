"""The packages that are installed here, as wheels again.

What pip, or another installer, has unpacked is packed anew from the list that it has left of
the files. So hosts get what runs here, to the byte, and no index is asked for anything.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import os
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from pathlib import Path

import labkit
from labkit.errors import ClusterError

__all__ = ["Wheel", "installed", "is_editable", "wheel_of"]

#: What tells how a package came here, and not what it is.
_OF_INSTALLERS = frozenset({"INSTALLER", "RECORD", "REQUESTED", "direct_url.json"})

#: The earliest time that a zip file knows.
_NO_TIME = (1980, 1, 1, 0, 0, 0)

#: A higher one takes several times as long, for a tenth less.
_LEVEL = 1


@dataclass(frozen=True, slots=True)
class _File:
    """A file, as it is in a wheel."""

    name: str
    source: str
    digest: str

    @property
    def is_script(self) -> bool:
        return ".data/scripts/" in self.name


@dataclass(frozen=True, slots=True)
class Wheel:
    """A package, as it travels."""

    name: str
    """The file's name, without ``.whl``; its build tag is a digest of the content."""
    info: str
    """The name of the folder with its metadata."""
    files: tuple[_File, ...]
    """What is in it."""

    def path(self, folder: Path) -> Path:
        """Return where its file is in a folder, if it was packed."""
        return folder / f"{self.name}.whl"

    def pack(self, folder: Path) -> Path:
        """Return its file in a folder; write it, as a whole or not at all, if it is not there."""
        path = self.path(folder)
        if path.exists():
            return path
        folder.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=".")
        try:
            with os.fdopen(descriptor, "wb") as out, zipfile.ZipFile(out, "w") as archive:
                self._write(archive)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        return path

    def _write(self, archive: zipfile.ZipFile) -> None:
        for file in self.files:
            mode = 0o755 if Path(file.source).stat().st_mode & 0o111 else 0o644
            _add(archive, file.name, _content(file.source, is_script=file.is_script), mode)
        record = f"{self.info}/RECORD"
        _add(archive, record, f"{_record(self.files)}{record},,\n".encode(), 0o644)


def _add(archive: zipfile.ZipFile, name: str, content: bytes, mode: int) -> None:
    entry = zipfile.ZipInfo(name, _NO_TIME)
    entry.create_system, entry.external_attr = 3, mode << 16
    archive.writestr(entry, content, zipfile.ZIP_DEFLATED, _LEVEL)


def _content(path: str, *, is_script: bool) -> bytes:
    content = Path(path).read_bytes()
    if is_script and content.startswith(b"#!"):
        first, newline, rest = content.partition(b"\n")
        # of the interpreter here; the host fills in its own
        return (b"#!python" + newline + rest) if b"python" in first else content
    return content


def _record(files: Iterable[_File]) -> str:
    return "".join(f"{_quoted(file.name)},sha256={file.digest},\n" for file in files)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"' if '"' in name or "," in name else name


# ---------- which packages ----------


def installed(wanted: Iterable[str]) -> list[Distribution]:
    """Return packages that are installed here with all that they require, by name.

    Parameters
    ----------
    wanted : iterable of str
        Requirements, as pip takes them: ``scikit-learn``, ``labkit[postgresql]``.

    Raises
    ------
    ClusterError
        When one is not installed, or in another version.
    """
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    found: dict[str, Distribution] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [(Requirement(each), "the inventory") for each in wanted]
    while waiting:
        required, by = waiting.pop()
        name = canonicalize_name(required.name)
        package = found[name] = found.get(name) or _find(required.name, by)
        if not required.specifier.contains(package.version, prereleases=True):
            raise ClusterError(
                f"{by} requires {required}, and {name} {package.version} is installed here: "
                f"pip install '{required}'"
            )
        for extra in {"", *required.extras}:
            if (name, extra) not in seen:
                seen.add((name, extra))
                further = map(Requirement, package.requires or ())
                waiting += [(each, name) for each in further if _holds(each.marker, extra)]
    return [found[name] for name in sorted(found)]


def _find(name: str, by: str) -> Distribution:
    there = list(distributions(name=name))
    if not there:
        raise ClusterError(f"{by} requires {name}, which is not installed here: pip install {name}")
    # beside its source, setuptools leaves something that looks like a package, too
    return next((each for each in there if each.read_text("RECORD") is not None), there[0])


def _holds(marker: object, extra: str) -> bool:
    from packaging.markers import Marker

    return not isinstance(marker, Marker) or marker.evaluate({"extra": extra})


def is_editable(package: Distribution) -> bool:
    """Test whether a package lies where it is written, and only a hint at that is installed."""
    told = json.loads(package.read_text("direct_url.json") or "{}")
    return bool(told.get("dir_info", {}).get("editable"))


# ---------- what is in them ----------


def wheel_of(package: Distribution) -> Wheel:
    """Return the wheel of a package that is installed; nothing is written yet.

    Raises
    ------
    ClusterError
        When nothing tells which files it has, or they are not all that it needs.
    """
    name = package.metadata["Name"]
    record, told = package.read_text("RECORD"), package.read_text("WHEEL")
    installer = (package.read_text("INSTALLER") or "").strip()
    if record is None or told is None or installer == "conda":
        by = f"by {installer}" if installer else "without a list of its files"
        raise ClusterError(
            f"{name} is installed here {by}, and cannot be sent: start the cluster from a "
            "virtual environment that pip has filled"
        )
    rows = [(row[0], row[1]) for row in csv.reader(record.splitlines()) if row]
    # deeper ones are of packages that it has within itself
    folders = (path.split("/") for path, _ in rows if path.endswith(".dist-info/RECORD"))
    info = next(parts[0] for parts in folders if len(parts) == 2)
    layout = _Layout(package, info)
    found = layout.edited(rows) if is_editable(package) else layout.files(rows)
    files = tuple(sorted(found, key=lambda file: file.name))
    digest = hashlib.sha256(_record(files).encode()).hexdigest()[:24]
    stem = info.removesuffix(".dist-info")
    return Wheel(f"{stem}-0{digest}-{_tags(told)}", info, files)


def _tags(told: str) -> str:
    """Return the tags of a wheel as its file's name has them."""
    tags = [line.partition(":")[2].strip() for line in told.splitlines() if line[:4] == "Tag:"]
    return "-".join(
        ".".join(dict.fromkeys(parts)) for parts in zip(*(t.split("-") for t in tags), strict=True)
    )


class _Layout:
    """Where the files of a package are here, and what they are called in a wheel."""

    def __init__(self, package: Distribution, info: str) -> None:
        self._info = info
        self._site = os.path.realpath(str(package.locate_file("")))
        # lib/python3.11/site-packages lies there
        self._prefix = str(Path(self._site).parents[2])
        self._made = {
            entry.name
            for entry in package.entry_points
            if entry.group in ("console_scripts", "gui_scripts")
        }
        self._since = Path(self._site, info, "RECORD").stat().st_mtime_ns

    def files(self, rows: Iterable[tuple[str, str]]) -> Iterator[_File]:
        for path, digest in rows:
            # strings: there are tens of thousands
            source = os.path.normpath(f"{self._site}/{path}")
            name = self._name(source)
            if name is not None:
                yield self._file(name, source, digest)

    def edited(self, rows: Iterable[tuple[str, str]]) -> Iterator[_File]:
        """Yield labkit's own files, from where it is being written."""
        own = ((path, digest) for path, digest in rows if path.startswith(f"{self._info}/"))
        yield from self.files(own)
        root = Path(labkit.__file__).parent
        for path in sorted(root.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield self._file(f"labkit/{path.relative_to(root).as_posix()}", str(path), "")

    def _name(self, source: str) -> str | None:
        """Return what a file is called in the wheel; None if it does not belong there."""
        if source.endswith(".pyc"):
            return None
        name = _inside(source, self._site)
        if name is not None:
            folder, _, file = name.rpartition("/")
            return None if folder == self._info and file in _OF_INSTALLERS else name
        name = _inside(source, self._prefix)
        if name is None:
            raise ClusterError(
                f"{source}, of {self._info}, lies outside of the environment here, and cannot "
                "be sent: install the package anew, in a virtual environment"
            )
        data = self._info.removesuffix(".dist-info") + ".data"
        folder, _, file = name.rpartition("/")
        if folder != "bin":
            return f"{data}/data/{name}"
        return None if file in self._made else f"{data}/scripts/{file}"

    def _file(self, name: str, source: str, told: str) -> _File:
        method, _, digest = told.partition("=")
        file = _File(name, source, digest)
        # what was changed by hand since is sent as it is now
        is_known = method == "sha256" and Path(source).stat().st_mtime_ns <= self._since
        if is_known and not file.is_script:
            return file
        content = _content(source, is_script=file.is_script)
        encoded = base64.urlsafe_b64encode(hashlib.sha256(content).digest())
        return _File(name, source, encoded.rstrip(b"=").decode())


def _inside(path: str, folder: str) -> str | None:
    """Return a path as it is below a folder; None if it is not."""
    return path[len(folder) + 1 :] if path.startswith(f"{folder}/") else None
