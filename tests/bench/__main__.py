"""Print how labkit compares with its peers: ``make bench``, or ``python -m tests.bench NAME``."""

from __future__ import annotations

import sys

from tests.bench import labs

BENCHMARKS = {"labs": labs.main}


def main(names: list[str]) -> None:
    """Run the benchmarks of these names, or all."""
    for name in names or BENCHMARKS:
        BENCHMARKS[name]()


main(sys.argv[1:])
