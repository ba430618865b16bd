"""The code that an experiment brings with it: local packages, each an archive.

Classes travel to engines by name, if they come from a module, and an engine may not have that
module, or have another version of it. So the lab looks which packages and modules an
experiment needs that are nobody's but the user's, and packs each as an attachment: a zip
file that is known by its content.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import io
import os
import sys
import sysconfig
import warnings
import zipfile
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from importlib.util import resolve_name
from pathlib import Path
from typing import NamedTuple

import numpy as np

from labkit.attachment import Attachment

__all__ = ["MOST_BYTES", "Bundle", "bundles_of", "is_importable"]

#: A package with more than this is data, too, and does not travel.
MOST_BYTES = 64 * 2**20

#: What every engine has.
_EVERYWHERE = frozenset({"labkit", "epyc", "__main__", *sys.stdlib_module_names})

#: Where installed packages lie, in any environment.
_INSTALLED = frozenset({"site-packages", "dist-packages"})

#: The earliest time that a zip file knows: when a file was edited is not part of its content.
_NO_TIME = (1980, 1, 1, 0, 0, 0)


class Bundle(NamedTuple):
    """A package or module, as it travels."""

    name: str
    """Its name, as in ``import``."""
    archive: Attachment
    """A zip file of it, to be unpacked into a folder of the module path."""


class _Package(NamedTuple):
    """What travels as a whole: a regular package, or a module in none."""

    name: str
    place: Path
    """Its folder, or file."""


def bundles_of(message: bytes) -> tuple[Bundle, ...]:
    """Return the local packages that an experiment needs.

    Local is what is neither Python's own nor installed in ``site-packages``. Of these, it
    is what the pickle mentions, and what that imports, in functions, too.

    Parameters
    ----------
    message : bytes
        The experiment, as cloudpickle writes it.
    """
    names = [name for name in _local_modules() if _mentions(message, name)]
    found: dict[str, Path] = {}
    while names:
        package = _package_of(names.pop())
        if package is None or package.name in found or not _is_local(package.place):
            continue
        found[package.name] = package.place
        names += {name for file in _sources(package) for name in _imports(*file)}
    archives = ((name, _packed(_Package(name, found[name]))) for name in sorted(found))
    return tuple(Bundle(name, archive) for name, archive in archives if archive is not None)


def is_importable(bundle: Bundle) -> bool:
    """Test whether this process would import the very same code without the bundle."""
    package = _package_of(bundle.name)
    if package is None or package.name != bundle.name:
        return False
    archive = _packed(package)
    return archive is not None and archive.digest == bundle.archive.digest


def _mentions(message: bytes, name: str) -> bool:
    """Test whether a pickle has the name of a module, which may be among the names of a code."""
    text = name.encode(errors="surrogatepass")
    # the opcode SHORT_BINUNICODE
    return len(text) < 256 and b"\x8c" + bytes([len(text)]) + text in message


def _local_modules() -> list[str]:
    """Return the names of all modules that are loaded and not installed."""
    modules = list(sys.modules)
    tops = {name.partition(".")[0] for name in modules} - _EVERYWHERE
    local = {top for top in tops if not _is_installed(top)}
    return [name for name in modules if name.partition(".")[0] in local]


def _is_installed(top: str) -> bool:
    spec = _spec(top, None)
    if spec is None:
        return False
    places = [spec.origin] if spec.has_location else spec.submodule_search_locations
    return not any(_is_local(Path(place)) for place in places or () if place)


# ---------- where packages are ----------


def _package_of(module: str) -> _Package | None:
    """Return the outermost regular package of a module, or the module; None without a file."""
    if module.partition(".")[0] in _EVERYWHERE:
        return None
    above: list[str] | None = None
    for name in _prefixes(module):
        spec = _spec(name, above)
        if spec is not None and spec.has_location and spec.origin is not None:
            file = Path(spec.origin)
            is_package = spec.submodule_search_locations is not None
            return _Package(name, file.parent if is_package else file) if file.is_file() else None
        # else it may be a namespace package: the folders in which others lie
        above = _folders(name, above)
        if not above:
            return None
    return None


def _folders(name: str, above: list[str] | None) -> list[str]:
    """Return where the modules of a namespace package are looked for."""
    loaded = getattr(sys.modules.get(name), "__path__", None)
    if loaded is not None:
        return list(loaded)
    folder = name.rpartition(".")[2]
    places = (Path(place, folder) for place in (sys.path if above is None else above))
    return [str(place) for place in places if place.is_dir()]


def _prefixes(module: str) -> Iterator[str]:
    parts = module.split(".")
    for i in range(len(parts)):
        yield ".".join(parts[: i + 1])


def _spec(name: str, above: list[str] | None) -> ModuleSpec | None:
    """Return where a module was loaded from, or would be; import nothing."""
    spec = getattr(sys.modules.get(name), "__spec__", None)
    if isinstance(spec, ModuleSpec):
        return spec
    for finder in sys.meta_path:
        # a KeyError: of a namespace package, importlib wants to have imported what is above
        with contextlib.suppress(AttributeError, ImportError, KeyError, ValueError):
            found = finder.find_spec(name, above)
            if found is not None:
                return found
    return None


def _is_local(place: Path) -> bool:
    return _INSTALLED.isdisjoint(place.parts) and not place.is_relative_to(_stdlib())


@functools.cache
def _stdlib() -> Path:
    return Path(sysconfig.get_path("stdlib"))


def _files(package: _Package) -> Iterator[tuple[str, Path]]:
    """Yield the files of a package, and their names in an archive."""
    root = package.name.replace(".", "/")
    if package.place.is_file():
        # a file may be loaded under another name than its own
        yield f"{root}{''.join(package.place.suffixes)}", package.place
        return
    for folder, folders, files in os.walk(package.place):
        folders[:] = sorted(f for f in folders if _is_part(Path(folder, f)))
        inside = Path(folder).relative_to(package.place)
        for file in sorted(files):
            if not file.startswith(".") and not file.endswith((".pyc", ".pyo")):
                yield Path(root, inside, file).as_posix(), Path(folder, file)


def _is_part(folder: Path) -> bool:
    is_made = folder.name == "__pycache__" or (folder / "pyvenv.cfg").exists()
    return not is_made and not folder.name.startswith(".")


def _packed(package: _Package) -> Attachment | None:
    """Return the archive of a package, the same for the same content; None if it is too large."""
    buffer = io.BytesIO()
    try:
        files = list(_files(package))
        if sum(path.stat().st_size for _, path in files) > MOST_BYTES:
            return None
        # not compressed: that depends on the version of zlib
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, path in files:
                entry = zipfile.ZipInfo(name, _NO_TIME)
                entry.create_system, entry.external_attr = 3, 0o644 << 16
                archive.writestr(entry, path.read_bytes())
    except OSError:
        return None
    return Attachment(np.frombuffer(buffer.getvalue(), np.uint8))


# ---------- what packages import ----------


def _sources(package: _Package) -> Iterator[tuple[str, Path, int]]:
    """Yield for each source file of a package where names in it are relative to."""
    for name, path in _files(package):
        if path.suffix == ".py":
            with contextlib.suppress(OSError):
                yield name.rpartition("/")[0].replace("/", "."), path, path.stat().st_mtime_ns


@functools.lru_cache(maxsize=4096)
def _imports(package: str, path: Path, edited: int) -> frozenset[str]:
    """Return what a source file imports, anywhere in it; some names may be no modules.

    Parameters
    ----------
    package : str
        Where relative names begin.
    path : Path
        The file.
    edited : int
        When it was edited: what was read before counts no more.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it was told when the file was compiled
            tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return frozenset()
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            with contextlib.suppress(ImportError):  # it is above everything
                source = resolve_name("." * node.level + (node.module or ""), package)
                names.update(f"{source}.{alias.name}" for alias in node.names)
    return frozenset(names)
