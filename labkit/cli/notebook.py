"""``labkit notebook``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click

from labkit.cli.group import examples

__all__ = ["notebook"]

_FILE = click.Path(dir_okay=False, path_type=Path)
_RESULT_SET = click.option(
    "--result-set", metavar="TAG", help="The result set.  [default: the one used last]"
)
_NOTEBOOK = click.argument("path", metavar="NB", type=_FILE)


@click.group(epilog=examples("labkit notebook show walk.db"))
def notebook() -> None:
    """See, plot and convert what is kept.

    Reading needs no lock: it works while another process writes.
    """


@notebook.command(epilog=examples("labkit notebook ls", "labkit notebook ls walk.db"))
@click.argument("path", metavar="[NB]", type=_FILE, required=False)
def ls(path: Path | None) -> None:
    """List the notebooks in this folder, or the result sets of one."""
    from labkit.cli import pages

    _print(pages.files(Path()) if path is None else pages.overview(path))


@notebook.command(
    epilog=examples("labkit notebook show walk.db", "labkit notebook show walk.db --metadata -n 1")
)
@_NOTEBOOK
@_RESULT_SET
@click.option(
    "-n",
    "limit",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    metavar="ROWS",
    help="How many outcomes to show.",
)
@click.option("--keys", is_flag=True, help="Show the keys of the points.")
@click.option("--metadata", is_flag=True, help="Show all that is known of each outcome.")
def show(path: Path, result_set: str | None, limit: int, keys: bool, metadata: bool) -> None:
    """Show outcomes: parameters, results, and why some failed."""
    from labkit.cli import pages

    _print(pages.rows(path, result_set, limit, keys=keys, metadata=metadata))


@notebook.command(epilog=examples("labkit notebook log walk.db 5f2a91"))
@_NOTEBOOK
@click.argument("key", metavar="KEY")
def log(path: Path, key: str) -> None:
    """Show what the runs of a point printed and logged.

    KEY is the point's key or its beginning, at least 4 digits; show --keys tells it. For
    a point that failed the traceback follows.
    """
    from labkit.cli import pages

    _print(pages.log(path, key))


@notebook.command(
    epilog=examples(
        "labkit notebook export walk.db walk.csv",
        "labkit notebook export walk.db walk.h5 --format hdf5",
    )
)
@_NOTEBOOK
@click.argument("out", metavar="OUT", type=_FILE)
@click.option(
    "--format",
    "form",
    type=click.Choice(["parquet", "csv", "json", "hdf5"]),
    help="What to write; json and hdf5 are notebooks of epyc.  [default: by the name of OUT]",
)
@_RESULT_SET
@click.option("--overwrite", is_flag=True, help="Replace a file that is there.")
def export(
    path: Path, out: Path, form: str | None, result_set: str | None, overwrite: bool
) -> None:
    """Write a result set in a format that other programs read."""
    from labkit.cli import conversion

    click.echo(conversion.export(path, out, form, result_set, overwrite=overwrite))


@notebook.command("import", epilog=examples("labkit notebook import walk.json walk.db"))
@click.argument("source", metavar="SOURCE", type=_FILE)
@click.argument("target", metavar="NB", type=_FILE)
def import_(source: Path, target: Path) -> None:
    """Take over a notebook that epyc wrote, JSON or HDF5."""
    from labkit.cli import conversion

    click.echo(conversion.take_over(source, target))


@notebook.command(
    epilog=examples("labkit notebook plot walk.db --x steps --y end --hue noise -o walk.png")
)
@_NOTEBOOK
@click.option("--x", required=True, metavar="NAME", help="Parameter or result along the axis.")
@click.option("--y", required=True, metavar="NAME", help="Result to show.")
@click.option("--hue", metavar="NAME", help="Parameter of which each value gets its own colour.")
@_RESULT_SET
@click.option(
    "-o", "out", type=_FILE, required=True, metavar="FILE", help="The picture: .png, .pdf or .svg."
)
def plot(path: Path, x: str, y: str, hue: str | None, result_set: str | None, out: Path) -> None:
    """Draw a result against a parameter."""
    from labkit.cli import conversion

    click.echo(conversion.plot(path, (x, y, hue), result_set, out))


_JSON = click.option("--json", "as_json", is_flag=True, help="Say all of it as JSON.")


@notebook.command(
    epilog=examples("labkit notebook check walk.db", "labkit notebook check walk.db --json")
)
@_NOTEBOOK
@_JSON
@click.pass_context
def check(ctx: click.Context, path: Path, as_json: bool) -> None:
    """Read all that a notebook holds, and say what is damaged.

    The exit status is 0 when all is sound, and 1 when something is damaged.
    """
    from labkit.cli import repair

    is_sound, text = repair.check(path, as_json=as_json)
    click.echo(text)
    ctx.exit(0 if is_sound else 1)


@notebook.command(epilog=examples("labkit notebook recover walk.db -o saved.db"))
@_NOTEBOOK
@click.option(
    "-o", "out", type=_FILE, required=True, metavar="NEW", help="The new notebook; not there yet."
)
@_JSON
def recover(path: Path, out: Path, as_json: bool) -> None:
    """Save all that can be read of a damaged notebook into a new one.

    The damaged one is only read. What is lost is said.
    """
    from labkit.cli import repair

    click.echo(repair.recover(path, out, as_json=as_json))


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(line)
