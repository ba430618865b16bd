"""The virtual environment that a host gets for its engines, from wheels that it is sent.

It is sent there as it stands, runs under a Python that the host has, and imports nothing but
the standard library. Wheels are unpacked once, into ``wheels``; the files of an environment,
below ``environments``, are links to these. Whatever is there is whole: it is made under another
name, written to the disk, and renamed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

__all__ = ["is_missing", "make", "unfit"]

#: Pieces in which a wheel is read, in bytes.
_PIECE = 2**20

#: How the names of folders begin that are not whole yet.
_UNFINISHED = ".unfinished-"

#: Finds the interpreter beside itself, in whatever folder that is. Python takes the second
#: line for a text.
_BESIDE = b"""\
#!/bin/sh
'''exec' "$(dirname -- "$(realpath -- "$0")")/python" "$0" "$@"
' '''
"""

_CALL = """\
import sys
from {module} import {first}
sys.exit({attribute}())
"""


def is_missing(request: dict[str, Any]) -> bool:
    """Test whether this is not the interpreter of the environment that is asked for."""
    wanted = request.get("venv")
    return wanted is not None and Path(sys.prefix).name.rpartition("-")[0] != wanted["name"]


def _own(name: str) -> str:
    """Return what an environment is called that this interpreter makes.

    Hosts that share their homes may have it at different places: each environment begins at
    one of them, and is none where there is nothing at that place.
    """
    place = hashlib.sha256(os.path.realpath(sys.executable).encode()).hexdigest()
    return f"{name}-{place[:8]}"


def unfit(wanted: dict[str, Any]) -> str | None:
    """Return why this Python cannot have an environment of these wheels; None if it can."""
    remedy = "say python: bundle:/path/to/another/python3"
    built = sysconfig.get_config_var("SOABI")
    if built != wanted["abi"]:
        return f"{sys.executable} is {built}, and the packages are for {wanted['abi']}: {remedy}"
    # on some systems it is a package of its own
    if importlib.util.find_spec("venv") is None:
        return f"{sys.executable} has no module venv: install python3-venv there, or {remedy}"
    return None


def make(request: dict[str, Any], tell: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Make an environment; return ``made``, or ``failed`` and why.

    Parameters
    ----------
    request : dict
        ``venv`` is what is wanted, ``environment`` the variables of the engines.
    tell : callable
        Is told the wheels that it lacks. These are read from standard input.
    """
    # the shell has found the folder
    wanted, root = request["venv"], Path(sys.argv[2])
    if why := unfit(wanted):
        return {"failed": why}
    environments, wheels = root / "environments", root / "wheels"
    for folder in (environments, wheels):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _alone(root):
        python = environments / _own(wanted["name"]) / "bin" / "python"
        # another one may have made it meanwhile
        if not os.access(python, os.X_OK):
            lacking = [name for name in wanted["wheels"] if not (wheels / name).is_dir()]
            tell({"lacks": lacking})
            for _ in lacking:
                _receive(wheels)
            if why := _make(request, environments, wheels):
                return {"failed": why}
    return {"made": str(python)}


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Keep others off, on all hosts that share the folder; tidy what a killed one has left."""
    with (root / "environments" / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError:
            # some shared file systems have none; then two may do the same, and one comes last
            yield
            return
        for left in root.glob(f"*/{_UNFINISHED}*"):
            shutil.rmtree(left, ignore_errors=True)
        yield


@contextlib.contextmanager
def _unfinished(folder: Path) -> Iterator[Path]:
    """Make a folder that is gone afterwards, unless it was renamed."""
    made = Path(tempfile.mkdtemp(dir=folder, prefix=_UNFINISHED))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _put(made: Path, place: Path) -> None:
    """Rename a folder; what is there already is the same, or broken."""
    # after a power cut, a new name may stand for files whose content was never written
    os.sync()
    if place.exists():
        with _unfinished(place.parent) as old, contextlib.suppress(FileNotFoundError):
            place.rename(old / "old")
    # another one may have been faster, where nothing can be locked
    with contextlib.suppress(FileExistsError):
        made.rename(place)


# ---------- wheels ----------


def _receive(wheels: Path) -> None:
    """Read a wheel from standard input, and unpack it."""
    told = json.loads(sys.stdin.buffer.readline() or b"{}")
    if not told:
        raise ConnectionError("the connection has ended before all wheels were sent")
    with _unfinished(wheels) as folder:
        file = folder / "wheel"
        with file.open("wb") as out:
            _copy(sys.stdin.buffer, out, told["size"])
        unpacked = folder / "unpacked"
        with zipfile.ZipFile(file) as archive:
            for entry in archive.infolist():
                # it reads to the end, and so compares the checksum
                path = archive.extract(entry, unpacked)
                Path(path).chmod(entry.external_attr >> 16)
        _put(unpacked, wheels / told["name"])


def _copy(source: BinaryIO, out: BinaryIO, left: int) -> None:
    while left:
        piece = source.read(min(left, _PIECE))
        if not piece:
            raise ConnectionError("the connection has ended in the middle of a wheel")
        out.write(piece)
        left -= len(piece)


# ---------- the environment ----------


def _make(request: dict[str, Any], environments: Path, wheels: Path) -> str | None:
    """Make the environment; return why it does not work, if it does not."""
    import venv

    class Builder(venv.EnvBuilder):
        def setup_scripts(self, context: Any) -> None:
            """Write none: they would name this folder, which is renamed."""

    wanted = request["venv"]
    with _unfinished(environments) as folder:
        made = folder / _own(wanted["name"])
        Builder(symlinks=True).create(made)
        site = Path(sysconfig.get_path("purelib", "venv", vars={"base": str(made)}))
        for name in wanted["wheels"]:
            _install(wheels / name, made, site)
        for package in importlib.metadata.distributions(path=[str(site)]):
            for entry in package.entry_points:
                if entry.group in ("console_scripts", "gui_scripts"):
                    _write(made / "bin" / entry.name, _call(entry).encode())
        if why := _trouble(made / "bin" / "python", wanted["imports"], request["environment"]):
            return why
        _put(made, environments / made.name)
    return None


def _install(wheel: Path, made: Path, site: Path) -> None:
    for part in wheel.iterdir():
        if not part.name.endswith(".data"):
            _link(part, site / part.name)
            continue
        for kind in part.iterdir():
            if kind.name == "data":
                _link(kind, made)
            else:
                for script in kind.iterdir():
                    _write_script(script, made / "bin" / script.name)


def _link(source: Path, target: Path) -> None:
    """Give files another name: they need no room twice."""
    if source.is_file():
        _link_file(str(source), str(target))
        return
    shutil.copytree(source, target, copy_function=_link_file, dirs_exist_ok=True)


def _link_file(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except FileExistsError:
        # two packages have the same file: the last one's stays, as with pip
        Path(target).unlink()
        os.link(source, target)
    except OSError:
        # not all file systems can
        shutil.copy2(source, target)


def _write_script(script: Path, target: Path) -> None:
    content = script.read_bytes()
    if content.startswith(b"#!python\n"):
        _write(target, content.partition(b"\n")[2])
    else:
        _link_file(str(script), str(target))


def _write(script: Path, content: bytes) -> None:
    script.unlink(missing_ok=True)
    script.write_bytes(_BESIDE + content)
    script.chmod(0o755)


def _call(entry: importlib.metadata.EntryPoint) -> str:
    first = entry.attr.partition(".")[0]
    return _CALL.format(module=entry.module, first=first, attribute=entry.attr)


def _trouble(python: Path, imports: list[str], environment: dict[str, str]) -> str | None:
    """Return what an environment says that does not work; None if it does."""
    done = subprocess.run(
        [str(python), "-c", f"import {', '.join(imports)}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, **environment},
        check=False,
    )
    if done.returncode == 0:
        return None
    lines = done.stdout.decode(errors="replace").strip().splitlines()[-5:]
    told = "".join(f"\n  {line}" for line in lines)
    return f"what was sent does not work there, status {done.returncode}:{told}"
