"""Which vectors of the processor are used, and how fast it multiplies and adds."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import llvmlite.binding as llvm

CACHE = Path(__file__).parents[2] / ".cache" / "bench-peers"
ONLY_AVX2 = os.environ.get("BENCH_AVX2", "") not in {"", "0"}


class Missing(Exception):
    """What a measurement needs cannot be had here; the message says what and why."""


class Peak(NamedTuple):
    """Floating point operations a second of fused multiply-adds, in 1e9."""

    double: float
    single: float


def features() -> str:
    """Return what the processor can do, and this run may use, as LLVM writes it."""
    there = llvm.get_host_cpu_features()
    if ONLY_AVX2:
        for name in there:
            there[name] = there[name] and not name.startswith(("avx512", "avx10"))
    return str(there.flatten())


def restrict() -> None:
    """Hold Numba, here and in all processes that start from here, to what this run may use."""
    if ONLY_AVX2:
        os.environ["NUMBA_CPU_FEATURES"] = features()


def compiler_flags() -> list[str]:
    """Return the flags that let gcc or clang use the same.

    Not -march=haswell: its tuning costs SCAMP two fifths of its speed on newer processors.
    """
    return ["-march=native", *(["-mno-avx512f"] if ONLY_AVX2 else [])]


def digest(*parts: object) -> str:
    """Return a name for what was built from these parts for this processor."""
    return hashlib.blake2b(repr((parts, features())).encode(), digest_size=6).hexdigest()


def instruction_set() -> str:
    """Return the widest vectors of this run, for headings."""
    known = {"+avx512f": "AVX-512", "+avx2": "AVX2", "+sse2": "SSE2", "+neon": "NEON"}
    there = features().split(",")
    widest = next((known[name] for name in known if name in there), "no vectors")
    return f"{widest} of {llvm.get_host_cpu_name()}" + (" (BENCH_AVX2=1)" if ONLY_AVX2 else "")


@functools.cache
def peak(threads: int) -> Peak:
    """Measure how fast so many threads multiply and add.

    Raises
    ------
    Missing
        Without a C compiler.
    """
    answer = subprocess.run(
        [_peak_program(), str(threads)], check=True, capture_output=True, text=True
    )
    return Peak(*map(float, answer.stdout.split()))


def _peak_program() -> Path:
    source = Path(__file__).with_name("peak.c")
    program = CACHE / f"peak-{digest(source.read_bytes(), compiler_flags())}"
    if not program.exists():
        if not shutil.which("cc"):
            raise Missing("the processor's peak needs a C compiler (Debian: apt-get install gcc)")
        CACHE.mkdir(parents=True, exist_ok=True)
        compile_it = ["cc", "-O3", *compiler_flags(), "-pthread", os.fspath(source)]
        subprocess.run([*compile_it, "-o", os.fspath(program)], check=True)
    return program
