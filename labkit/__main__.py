"""The program ``labkit``; ``python -m labkit`` is the same."""

from labkit import lightepyc
from labkit.cli import main

__all__ = ["program"]


def program() -> None:
    """Execute what the command line says."""
    lightepyc.install()
    main()


if __name__ == "__main__":
    program()
