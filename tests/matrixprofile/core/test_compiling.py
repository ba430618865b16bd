"""Where compiled kernels are kept, for whom, and how long."""

import os
import subprocess
import sys
import time
from pathlib import Path

PROGRAM = """
from labkit.matrixprofile.core import compiling
print(compiling.cache_folder())
"""


def folder(cache: Path, **environment: str) -> Path:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "LABKIT_CACHE": str(cache), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return Path(done.stdout.strip())


def test_each_processor_has_a_folder_of_its_own(tmp_path: Path) -> None:
    here, again = folder(tmp_path), folder(tmp_path)
    other = folder(tmp_path, NUMBA_CPU_NAME="haswell", NUMBA_CPU_FEATURES="+avx2")
    assert here == again != other
    assert here.parent == other.parent == tmp_path / "kernels"
    assert here.stat().st_mode & 0o777 == 0o700


def test_an_edit_of_any_kernel_makes_another_folder(tmp_path: Path, monkeypatch) -> None:
    from labkit.matrixprofile.core import compiling

    core = tmp_path / "core"
    core.mkdir()
    for name in ("simd.py", "blocks.py"):
        (core / name).write_text("one\n")
    monkeypatch.setattr(compiling, "__file__", str(core / "compiling.py"))
    before = compiling._digest()
    assert compiling._digest() == before
    (core / "simd.py").write_text("two\n")
    assert compiling._digest() != before


def test_what_was_not_used_for_a_month_is_removed(tmp_path: Path) -> None:
    kernels = tmp_path / "kernels"
    for name, days in (("old", 31), ("recent", 29)):
        (kernels / name).mkdir(parents=True)
        (kernels / name / "kernel.nbc").touch()
        then = time.time() - days * 24 * 3600
        os.utime(kernels / name, (then, then))
    mine = folder(tmp_path)
    assert sorted(kernels.iterdir()) == sorted([kernels / "recent", mine])


def test_a_cache_that_cannot_be_written_is_replaced_for_the_process(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    replacement = folder(tmp_path / "file")
    assert replacement.name.startswith("labkit-cache-")
    replacement.rmdir()
