"""``labkit matrix-profile``."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from labkit.cli.group import INTERRUPTED, examples

if TYPE_CHECKING:
    from labkit.cli.joins import Join
    from labkit.cli.outputs import Outputs
    from labkit.cli.running import Place

__all__ = ["matrix_profile"]

_FILE = click.Path(dir_okay=False, path_type=Path)


def _as_shape(
    ctx: click.Context, option: click.Parameter, value: str | None
) -> tuple[int, int] | None:
    if value is None:
        return None
    height, x, width = value.lower().partition("x")
    if not (x and height.isdecimal() and width.isdecimal()):
        raise click.BadParameter(f"{value!r} is not HEIGHTxWIDTH, such as 100x200")
    return int(height), int(width)


def _as_exclusion(
    ctx: click.Context, option: click.Parameter, value: str | None
) -> int | str | None:
    # a name is checked by the join
    with contextlib.suppress(TypeError, ValueError):
        return int(value or "")
    return value


@click.command(
    "matrix-profile",
    epilog=examples(
        "labkit matrix-profile pulse.txt --window 100 -o pulse.h5 --plot pulse.png",
        "labkit matrix-profile pulse.csv:volt --window 100 --kind knn --k 5 -o pulse.npz",
        "labkit matrix-profile a.h5:/day1 b.h5:/day2 --window 500 --engines 8",
    ),
)
@click.argument("series", metavar="SERIES [SERIES_B]", nargs=-1, required=True)
@click.option(
    "--window",
    type=int,
    required=True,
    metavar="M",
    help="Length of the windows that are compared, in samples.",
)
@click.option(
    "--kind",
    type=click.Choice(["1nn", "1nn_only", "sum", "knn", "summary"]),
    default="1nn",
    show_default=True,
    help="Of each window: its nearest neighbour and where that is; the former only; the sum of "
    "its correlations; its k nearest neighbours. Or the nearest pair in each cell of a matrix.",
)
@click.option("--k", type=int, metavar="K", help="How many neighbours, of kind knn.  [default: 1]")
@click.option(
    "--threshold",
    type=float,
    metavar="T",
    help="Only correlations above it count, of kinds sum, knn and summary.",
)
@click.option(
    "--shape",
    callback=_as_shape,
    metavar="HxW",
    help="Rows and columns of a summary, such as 100x200.",
)
@click.option(
    "--exclusion",
    callback=_as_exclusion,
    metavar="Z",
    help="How near two windows of one series are no match: up to Z samples, or as stumpy or "
    "scamp have it.  [default: stumpy]",
)
@click.option("--correlation", is_flag=True, help="Give correlations in place of distances.")
@click.option(
    "--sides",
    type=click.Choice(["one", "both"]),
    help="Both: of one series, neighbours before and after apart; of two, each compared with "
    "the other.  [default: one]",
)
@click.option(
    "--aligned",
    is_flag=True,
    help="The two series begin at the same time: the exclusion holds between them.",
)
@click.option(
    "--precision",
    type=click.Choice(["double", "single"]),
    help="Single is faster, and good for a first look.  [default: double]",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    metavar="T",
    help="Threads of this process, or of each engine.  [default: one a core; of an engine 1]",
)
@click.option(
    "--engines",
    type=click.IntRange(min=1),
    metavar="N",
    help="Compute tiles on an own cluster of so many engines on this machine.",
)
@click.option(
    "--profile",
    metavar="NAME",
    help="Compute tiles on the ipyparallel cluster that runs under this profile.",
)
@click.option(
    "--tile",
    type=click.IntRange(min=1),
    metavar="SIDE",
    help="Windows along a side of a tile.  [default: by the length of the series]",
)
@click.option(
    "--notebook",
    type=_FILE,
    metavar="FILE",
    help="Where tiles are kept; without engines they are computed in this process.  "
    "[default: SERIES-matrix-profile.db beside it]",
)
@click.option(
    "-o",
    "outputs",
    type=_FILE,
    multiple=True,
    metavar="FILE",
    help="Where the result goes: .h5, .npz, .csv or .txt. Can be given again.",
)
@click.option("--plot", type=_FILE, metavar="FILE", help="A picture: .png, .pdf or .svg.")
@click.option("--force", is_flag=True, help="Replace files that are there.")
@click.pass_context
def matrix_profile(  # noqa: PLR0913, the options of the command
    ctx: click.Context,
    /,
    series: tuple[str, ...],
    *,
    window: int,
    kind: str,
    threads: int | None,
    engines: int | None,
    profile: str | None,
    tile: int | None,
    notebook: Path | None,
    outputs: tuple[Path, ...],
    plot: Path | None,
    force: bool,
    **options: Any,
) -> None:
    """Compare each window of a series with all others, or with those of a second one.

    SERIES is a file: .txt with a number a line, .csv, .tsv, .npy, .npz, .h5 or .parquet;
    FILE:NAME is one of several columns or datasets. With --engines, --profile or
    --notebook the work is cut into tiles, and a notebook keeps each that is finished: the
    same command goes on where it was interrupted.

    Exit status: 0 all is computed, 1 some tiles failed, 2 wrong usage, 130 interrupted.
    """
    if len(series) > 2:
        raise click.UsageError(f"give one series, or two to be joined, not {len(series)}")
    if len(series) == 1 and options["aligned"]:
        raise click.UsageError("--aligned is for two series")
    if engines is not None and profile is not None:
        raise click.UsageError("give one of --engines and --profile")
    in_lab = any(given is not None for given in (engines, profile, notebook))
    if tile is not None and not in_lab:
        raise click.UsageError("--tile goes with --engines, --profile or --notebook")

    from labkit.cli.joins import Join
    from labkit.cli.outputs import Outputs
    from labkit.cli.running import Place
    from labkit.matrixprofile.files.reading import Source

    # not by equality: 0 is a threshold
    chosen = {n: v for n, v in options.items() if v is not None and v is not False}
    join = Join(tuple(map(Source.parse, series)), window, kind, chosen, tile, threads)
    files = Outputs(outputs, plot, force)
    if in_lab:
        place = Place(engines, profile, serial=engines is None and profile is None)
        ctx.exit(_in_lab(join, files, place, notebook or join.notebook()))
    ctx.exit(_here(join, files))


def _here(join: Join, files: Outputs) -> int:
    from labkit.cli import findings, joins

    files.check(join)
    try:
        # in a thread that compiles, an interruption may get lost; this one only waits
        computed = ThreadPoolExecutor(1, "join").submit(joins.compute, join).result()
    except KeyboardInterrupt:
        click.echo("\nInterrupted. With --notebook FILE, what is finished would be kept.", err=True)
        # the other cannot be stopped, and would be waited for
        os._exit(INTERRUPTED)
    _print(findings.told(join, computed))
    _print(files.write(join, computed.result))
    return 0


def _in_lab(join: Join, files: Outputs, place: Place, notebook: Path) -> int:
    from labkit.cli import findings, joins, summary

    # the notebook keeps its arrays beside it
    files.check(join, notebook, notebook.with_suffix(".h5"))
    report, computed = joins.compute_in_lab(join, notebook, place, click.echo)
    if computed is None:
        _print(summary.report(report))
        return report.exit_status
    _print(findings.told(join, computed))
    click.echo(f"{notebook} keeps the tiles (result set {report.tag})")
    _print(files.write(join, computed.result))
    return 0


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(line)
