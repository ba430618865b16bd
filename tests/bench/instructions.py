"""The innermost loops of the matrix profile: their instructions, counted, and how fast they run.

What comes out of the compiler is what counts: a value that does not fit into a register, or
two operations that were not fused, show here and nowhere else.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np

from tests.bench.processor import Missing, instruction_set, peak, restrict

WINDOW = 100
ROWS = 256
TIMES = 200
ROUNDS = 7
FLOPS_A_CELL = 8
"""Of the peak: four operations of units that could multiply and add, each counted as two."""

SPILLED = "  of these, spilled"
KINDS = {
    "fused multiply-add": r"vfn?m(add|sub)",
    "multiply": r"vmulp",
    "minimum": r"vminp",
    "add": r"v(add|sub)p",
    "compare": r"vp?cmp",
    "logic, blend": r"v(pternlog|p?x?or|p?andn?|p?blend)",
    "masks": r"(k|vp?test|vmovmsk|vextract|vshuf|vpsll)[a-z]",
    "copy of a register": r"vmov",
}


def loops() -> dict[str, tuple[Any, str]]:
    """Return functions that go through all groups of a band so often, and their precision."""
    import numba

    from labkit.matrixprofile.core.blocks import (
        add_above,
        find_nearest,
        find_nearest_of_rows,
        walk_until_within,
    )

    def nearest(work: Any, groups: int, times: int) -> None:
        for n in range(groups * times):
            find_nearest(work, n % groups, 0, ROWS)

    def nearest_of_rows(work: Any, groups: int, times: int) -> None:
        for n in range(groups * times):
            find_nearest_of_rows(work, n % groups, 0, ROWS)

    def total(work: Any, groups: int, times: int) -> None:
        for n in range(groups * times):
            add_above(work, n % groups, 0, ROWS, work.covariances[0])

    def within(work: Any, groups: int, times: int) -> None:
        for n in range(groups * times):
            walk_until_within(work, n % groups, 0, ROWS)

    return {
        "1nn": (numba.njit(nearest), "float64"),
        "1nn of rows": (numba.njit(nearest_of_rows), "float64"),
        "sum": (numba.njit(total), "float64"),
        "knn": (numba.njit(within), "float64"),
        "1nn float32": (numba.njit(nearest), "float32"),
    }


def work_of(dtype: str) -> Any:
    """Return buffers in which no correlation is remarkable."""
    from labkit.matrixprofile.core.bands import buffers

    work = buffers(WINDOW, np.dtype(dtype))
    random = np.random.default_rng(1)
    for field in (*work.rows[:3], *work.columns[:3], work.covariances):
        field[:] = random.normal(scale=1e-3, size=field.size)
    for side in (work.rows, work.columns):
        side.kept[:] = -1.0
    return work


def innermost(assembly: str) -> list[str]:
    """Return the instructions of the loop that multiplies and adds most.

    Raises
    ------
    Missing
        When there is none in the assembly of x86.
    """
    lines = [line.strip() for line in assembly.splitlines()]
    labels = {line[:-1]: n for n, line in enumerate(lines) if re.match(r"\.\w+:$", line)}
    found: list[str] = []
    for n, line in enumerate(lines):
        jump = re.match(r"j\w+\s+(\.\w+)$", line)
        if jump and labels.get(jump[1], n) < n:
            body = [x for x in lines[labels[jump[1]] : n + 1] if re.match(r"[a-z]\w*(\s|$)", x)]
            found = max(found, body, key=lambda some: sum(x.startswith("vf") for x in some))
    if not any(x.startswith("vf") for x in found):
        raise Missing("no loop of fused multiply-adds; only the assembly of x86 is understood")
    return found


def count(instructions: list[str]) -> Counter[str]:
    """Count by kind. One that also reads memory is counted as a load, too."""
    counts: Counter[str] = Counter()
    for line in instructions:
        name, _, rest = line.partition("\t")
        operands = re.sub(r"\s*\{[^}]*\}", "", rest)  # without masks
        in_memory = "(" in operands
        if in_memory and re.search(r"%[xyz]mm", operands):
            counts["store" if operands.endswith(")") else "load"] += 1
            counts[SPILLED] += "(%rsp" in operands
        if not (in_memory and name.startswith("vmov")):
            kind = (kind for kind, pattern in KINDS.items() if re.match(pattern, name))
            counts[next(kind, "address, jump")] += 1
    return counts


def speed(function: Any, dtype: str) -> float:
    """Return cells a second of a loop alone, in 1e9; its data are in the caches."""
    from labkit.matrixprofile.core.blocks import GROUP, LAGS
    from labkit.matrixprofile.core.simd import WIDTH_BYTES

    work, groups = work_of(dtype), LAGS // GROUP
    best = np.inf
    for _ in range(ROUNDS):
        started = time.perf_counter()
        function(work, groups, TIMES)
        best = min(best, time.perf_counter() - started)
    lanes = WIDTH_BYTES // np.dtype(dtype).itemsize
    return groups * TIMES * GROUP * ROWS * lanes / best / 1e9


def main() -> None:
    """Print the instructions of each loop, how fast it runs, and how fast it could at most."""
    restrict()
    try:
        _print_table()
    except Missing as e:
        print(f"Without instructions: {e}")


def _print_table() -> None:
    from labkit.matrixprofile.core.blocks import GROUP, STEP

    vectors = GROUP * STEP
    print(f"\nInstructions of the innermost loops, a vector of cells ({instruction_set()};")
    print(f"a step takes {GROUP} diagonals x {STEP} rows, which are {vectors} such vectors)")
    counts, speeds = {}, {}
    for name, (function, dtype) in loops().items():
        function(work_of(dtype), 1, 1)
        (assembly,) = function.inspect_asm().values()
        counts[name] = count(innermost(assembly))
        speeds[name] = speed(function, dtype)
    _print_row("", counts)
    for kind in [*KINDS, "load", "store", SPILLED, "address, jump"]:
        _print_row(kind, [f"{of_loop[kind] / vectors:.2f}" for of_loop in counts.values()])
    _print_row("Gcells/s, loop alone", [f"{s:.1f}" for s in speeds.values()])
    _print_ceilings([dtype for _, dtype in loops().values()])


def _print_row(title: str, entries: Iterable[str]) -> None:
    print(f"{title:<22}" + "".join(f"{entry:>13}" for entry in entries))


def _print_ceilings(dtypes: list[str]) -> None:
    try:
        double, single = peak(1)
    except Missing as e:
        print(f"Without the processor's peak: {e}")
        return
    peaks = [single if dtype == "float32" else double for dtype in dtypes]
    _print_row("at most, by the peak", [f"{most / FLOPS_A_CELL:.1f}" for most in peaks])
    print(f"The peak: {double:.0f} Gflop/s in float64 and {single:.0f} in float32, on one thread.")
    print(f"4 of the instructions can only run where it is measured: {FLOPS_A_CELL} flop a cell.")
