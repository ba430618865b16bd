"""Print how labkit compares with its peers: ``make bench``, or ``python -m tests.bench NAME``.

A name is a benchmark, or one of its tables: ``labs``, ``labs.points``, ``matrixprofile.speed``.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable

from tests.bench import clusters, instructions, labs, matrixprofile

BENCHMARKS: dict[str, Callable[[], None]] = {
    "cluster": clusters.main,
    "labs": labs.main,
    **{f"labs.{table}": functools.partial(labs.main, table) for table in labs.TABLES},
    "instructions": instructions.main,
    "matrixprofile": matrixprofile.main,
    **{
        f"matrixprofile.{table}": functools.partial(matrixprofile.main, table)
        for table in matrixprofile.TABLES
    },
}


def main(names: list[str]) -> None:
    """Run the benchmarks of these names, or all."""
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        sys.exit(f"no benchmark {', '.join(unknown)}; there are: {', '.join(BENCHMARKS)}")
    for name in names or ["labs", "matrixprofile", "cluster"]:
        BENCHMARKS[name]()


if __name__ == "__main__":
    main(sys.argv[1:])
