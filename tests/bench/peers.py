"""The peers, built once, each in an environment of its own.

They are as they are published, but SCAMP, which is built from its source for this processor.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.bench.processor import CACHE, Missing, compiler_flags, digest

STUMPY = "1.14.1"
SCAMP = "4.0.3"
FARMS = {
    "dask": ("distributed", "2026.8.0"),
    "ray": ("ray", "2.60.0"),
    "joblib": ("joblib", "1.6.0"),
}
"""What runs points: package and version."""
LOG = CACHE / "build.log"

# pyscamp has no argument for what SCAMP's own program takes as --max_tile_size
FIXED_TILE = "args.max_tile_size = 128000;"
CHOSEN_TILE = 'args.max_tile_size = std::stoul(std::getenv("SCAMP_MAX_TILE_SIZE"));'


def python() -> Path:
    """Return the interpreter of the environment of the matrix profile's peers, which has stumpy.

    Raises
    ------
    Missing
        When it cannot be made.
    """
    return _environment("stumpy", STUMPY)


def farm(name: str) -> Path:
    """Return the interpreter that has one of the systems that run points.

    Raises
    ------
    Missing
        When it cannot be installed.
    """
    return _environment(*FARMS[name])


def _environment(package: str, version: str) -> Path:
    """Make an environment with this package, unless there is one; return its interpreter."""
    folder = CACHE / f"{package}-{version}-{sys.implementation.cache_tag}"
    interpreter = folder / "bin" / "python"
    complete = folder / "complete"
    if not (complete.exists() and interpreter.exists()):
        CACHE.mkdir(parents=True, exist_ok=True)
        print(f"Installing {package} {version} into {folder}", flush=True)
        _run([sys.executable, "-m", "venv", "--clear", folder])
        _run([interpreter, "-m", "pip", "install", f"{package}=={version}"])
        complete.touch()
    return interpreter


def scamp() -> Path:
    """Return the folder from which the peers' interpreter can import pyscamp.

    Raises
    ------
    Missing
        When it cannot be built; the message says what is needed.
    """
    folder = CACHE / f"scamp-{SCAMP}-{digest(compiler_flags(), CHOSEN_TILE, sys.version)}"
    if not folder.exists():
        _need("cmake", "c++")
        CACHE.mkdir(parents=True, exist_ok=True)
        print(f"Building SCAMP {SCAMP} with {' '.join(compiler_flags())} (a minute)", flush=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as name:
            source = _scamp_source(Path(name))
            built = Path(name) / "built"
            _pip(["install", "--no-deps", "--target", built, source])
            built.rename(folder)
    return folder


def _scamp_source(folder: Path) -> Path:
    """Fetch SCAMP's source, and let its caller choose the tile."""
    fetched = ["--no-deps", "--no-binary", "pyscamp", f"pyscamp=={SCAMP}"]
    _pip(["download", "--dest", folder, *fetched])
    (archive,) = folder.glob("pyscamp-*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    source = folder / f"pyscamp-{SCAMP}"
    binding = source / "src" / "python" / "SCAMP_python.cpp"
    text = binding.read_text()
    if text.count(FIXED_TILE) != 1:
        raise Missing(f"SCAMP {SCAMP} no longer has {FIXED_TILE!r}: its tile cannot be chosen")
    binding.write_text(text.replace(FIXED_TILE, CHOSEN_TILE))
    return source


def _need(*programs: str) -> None:
    missing = [program for program in programs if not shutil.which(program)]
    if missing:
        raise Missing(
            f"SCAMP is built from source, and that needs {' and '.join(missing)} "
            "(Debian: apt-get install cmake g++)"
        )


def _pip(arguments: list[str | Path]) -> None:
    """Run pip with what SCAMP's build reads: for the CPU, with our -march and not its own."""
    settings = {
        "FORCE_NO_CUDA": "1",
        "CXXFLAGS": " ".join(compiler_flags()),
        "PYSCAMP_ADD_CMAKE_ARGS": "-DCOMPILER_OPT_ARCH_NATIVE_SUPPORTED=OFF",
    }
    _run([python(), "-m", "pip", *arguments], os.environ | settings)


def _run(command: Sequence[str | Path], environment: Mapping[str, str] = os.environ) -> None:
    with LOG.open("w") as log:
        ended = subprocess.run(command, stdout=log, stderr=log, check=False, env=environment)
    if ended.returncode:
        last = "\n".join(LOG.read_text().splitlines()[-5:])
        raise Missing(f"{' '.join(map(str, command))} failed; all it says is in {LOG}:\n{last}")
