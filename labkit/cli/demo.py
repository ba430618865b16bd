"""``labkit demo``."""

from __future__ import annotations

from pathlib import Path

import click

from labkit.cli.group import examples

__all__ = ["demo"]


@click.command(epilog=examples("labkit demo --engines 4"))
@click.option(
    "--engines",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    metavar="N",
    help="How many engines to start on this machine.",
)
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("demo"),
    show_default=True,
    help="Where the notebook and the picture go.",
)
@click.pass_context
def demo(ctx: click.Context, engines: int, folder: Path) -> None:
    """Find what is odd, and what repeats, in a real pulse.

    The recording comes with labkit. Its matrix profiles, for three windows in each of
    eight segments, are computed on engines, kept in a notebook, and drawn. The second
    time nothing is missing, and the picture is drawn at once.
    """
    from labkit.cli import demonstration

    ctx.exit(demonstration.show(folder, engines, click.echo))
