"""The command line: each command is a few lines that call the library.

``--help`` loads click and these modules only; what computes is imported by the command
that runs.
"""

from __future__ import annotations

import click

import labkit
from labkit.cli.group import LabkitGroup

__all__ = ["main"]


@click.group(
    "labkit",
    cls=LabkitGroup,
    homes={
        "cluster": "labkit.cli.cluster:cluster",
        "demo": "labkit.cli.demo:demo",
        "doctor": "labkit.cli.doctor:doctor",
        "inventory": "labkit.cli.inventory:inventory",
        "matrix-profile": "labkit.cli.matrixprofile:matrix_profile",
        "notebook": "labkit.cli.notebook:notebook",
        "profile": "labkit.cli.profile:profile",
        "run": "labkit.cli.run:run",
    },
    epilog="Begin with: labkit demo",
)
@click.version_option(labkit.__version__, prog_name="labkit", message="%(prog)s %(version)s")
def main() -> None:
    """Run experiments at many points, and keep every outcome in a notebook."""
