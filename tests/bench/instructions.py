"""The innermost loops of the matrix profile: their instructions, counted, and how fast they run.

What comes out of the compiler is what counts: a value that does not fit into a register, or
two operations that were not fused, show here and nowhere else.
"""

from __future__ import annotations

import itertools
import re
import time
from collections import Counter
from typing import Any

import numpy as np

from tests.bench.processor import Missing, instruction_set, peak, restrict

WINDOW = 100
ROWS = 256
ROUNDS = 7
FLOPS_A_CELL = 8
"""Of the peak: four operations of units that could multiply and add, each counted as two."""

KINDS = {
    "fused multiply-add": r"vfn?m(add|sub)",
    "multiply": r"vmulp",
    "minimum": r"vminp",
    "add": r"v(add|sub)p",
    "compare": r"vp?cmp",
    "logic, blend": r"v(pternlog|p?x?or|p?andn?|p?blend)",
    "copy of a register": r"vmov",
    "masks": r"(k|vtest|vmovmsk|vptest)[a-z]",
}
OPERANDS = re.compile(r"\([^)]*\)|%\w+(?:\s*\{[^}]*\})*|\$-?\w+")


def loops() -> dict[str, tuple[Any, str]]:
    """Return functions that each have one innermost loop and no other, and their precision."""
    import numba

    from labkit.matrixprofile.blocks import add_above, find_nearest, walk_until_within

    def nearest(work, group, start, stop):  # type: ignore[no-untyped-def]
        find_nearest(work, group, start, stop)

    def total(work, group, start, stop):  # type: ignore[no-untyped-def]
        add_above(work, group, start, stop, work.covariances.dtype.type(0.0))

    def within(work, group, start, stop):  # type: ignore[no-untyped-def]
        walk_until_within(work, group, start, stop)

    return {
        "1nn": (numba.njit(nearest), "float64"),
        "sum": (numba.njit(total), "float64"),
        "knn": (numba.njit(within), "float64"),
        "1nn float32": (numba.njit(nearest), "float32"),
    }


def work_of(dtype: str) -> Any:
    """Return buffers in which no correlation is remarkable."""
    from labkit.matrixprofile.bands import buffers

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
        operands = OPERANDS.findall(rest)
        places = [n for n, operand in enumerate(operands) if operand.startswith("(")]
        is_vector = re.search(r"%[xyz]mm", rest) is not None
        if places and is_vector:
            counts["store" if places[-1] == len(operands) - 1 else "load"] += 1
            counts["spill"] += "(%rsp" in rest
        if not (places and name.startswith("vmov")):
            kind = (kind for kind, pattern in KINDS.items() if re.match(pattern, name))
            counts[next(kind, "scalar")] += 1
    return counts


def speed(function: Any, dtype: str) -> float:
    """Return cells a second of a loop alone, in 1e9; its data are in the caches."""
    from labkit.matrixprofile.blocks import GROUP, LAGS
    from labkit.matrixprofile.simd import WIDTH_BYTES

    work = work_of(dtype)
    groups = LAGS // GROUP
    best = np.inf
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for group in range(groups):
            function(work, group, 0, ROWS)
        best = min(best, time.perf_counter() - started)
    return groups * GROUP * ROWS * (WIDTH_BYTES // np.dtype(dtype).itemsize) / best / 1e9


def main() -> None:
    """Print the instructions of each loop, the ceiling that they set, and its speed."""
    restrict()
    from labkit.matrixprofile.blocks import GROUP, STEP

    table, speeds = {}, {}
    for name, (function, dtype) in loops().items():
        function(work_of(dtype), 0, 0, STEP)
        (assembly,) = function.inspect_asm().values()
        table[name] = count(innermost(assembly))
        speeds[name] = speed(function, dtype)
    print(f"\nInstructions of the innermost loops for each vector of cells ({instruction_set()};")
    print(f"a step is {GROUP} diagonals x {STEP} rows, so {GROUP * STEP} of these vectors)")
    print(" " * 22 + "".join(f"{name:>13}" for name in table))
    for kind in [*KINDS, "load", "store", "spill", "scalar"]:
        if any(counts[kind] for counts in table.values()) or kind == "spill":
            shares = (counts[kind] / (GROUP * STEP) for counts in table.values())
            print(f"{kind:<22}" + "".join(f"{share:>13.2f}" for share in shares))
    print(f"{'Gcells/s, loop alone':<22}" + "".join(f"{s:>13.1f}" for s in speeds.values()))
    _print_ceiling()


def _print_ceiling() -> None:
    try:
        measured = peak(1)
    except Missing as e:
        print(f"Without the processor's peak: {e}")
        return
    ceilings = itertools.chain(
        itertools.repeat(measured.double / FLOPS_A_CELL, 3), [measured.single / FLOPS_A_CELL]
    )
    print(f"{'ceiling by the peak':<22}" + "".join(f"{c:>13.1f}" for c in ceilings))
    print(f"One thread's measured peak is {measured.double:.0f} Gflop/s in float64; 3 fused")
    print(f"multiply-adds and 1 multiplication are {FLOPS_A_CELL} flop of that a cell.")
