"""``labkit run``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click

from labkit.cli.group import examples

__all__ = ["run"]


def _above_zero(_: click.Context, __: click.Parameter, seconds: float | None) -> float | None:
    # click's own range lets nan pass
    if seconds is not None and not seconds > 0:
        raise click.BadParameter(f"{seconds:g} is no time in seconds above 0")
    return seconds


@click.command(
    epilog=examples(
        "labkit run walks.py:Walk",
        "labkit run walks.py:Walk --set steps=10,100 --set noise=0:1:0.1 --dry-run",
        "labkit run project.walks:Walk --notebook walks.db --engines 4 --timeout 600",
    )
)
@click.argument("target", metavar="MODULE:CLASS")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUES",
    help="Values of a parameter, in place of those declared: 50,100 or a range 0:1:0.1 (its end "
    "included). Can be given again for another parameter.",
)
@click.option(
    "--notebook",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Where outcomes go.  [default: the class's name in lower case, .db, in this folder]",
)
@click.option(
    "--result-set",
    metavar="TAG",
    help="The result set in it; a new one is added.  [default: the one used last]",
)
@click.option(
    "--engines",
    type=click.IntRange(min=1),
    metavar="N",
    help="Start an own cluster of so many engines on this machine.  [default: one a core]",
)
@click.option(
    "--profile",
    metavar="NAME",
    help="Use the ipyparallel cluster that runs under this profile. A .py file travels there; "
    "what it imports must be there.",
)
@click.option("--serial", is_flag=True, help="Run in this process, one point after another.")
@click.option(
    "--only",
    type=click.Choice(["missing", "failed", "all"]),
    default="missing",
    show_default=True,
    help="Which points: those without a success, those whose runs have all failed, or all.",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=float,
    callback=_above_zero,
    metavar="SECONDS",
    help="Stop a point that runs for longer, and record it as failed.  [default: no limit]",
)
@click.option(
    "--chunk",
    type=click.IntRange(min=1),
    metavar="N",
    help="Give an engine so many points at a time.  [default: by what the points cost]",
)
@click.option("--dry-run", is_flag=True, help="Say what there is to do, and do nothing.")
@click.pass_context
def run(  # noqa: PLR0913, the options of the command
    ctx: click.Context,
    target: str,
    *,
    settings: tuple[str, ...],
    notebook: Path | None,
    result_set: str | None,
    engines: int | None,
    profile: str | None,
    serial: bool,
    only: str,
    timeout_s: float | None,
    chunk: int | None,
    dry_run: bool,
) -> None:
    """Run an experiment at the points of its space.

    MODULE is the path of a .py file, or an importable module; CLASS is the experiment in
    it. By default only what is missing runs: the same command goes on where it was
    interrupted, and costs nothing when all is done.

    Ctrl-C lets the points that are running finish; a second one stops at once. What was
    recorded stays. Exit status: 0 all succeeded, 1 some points failed, 2 wrong usage,
    130 interrupted.
    """
    if (engines is not None) + (profile is not None) + serial > 1:
        raise click.UsageError("give one of --engines, --profile and --serial")
    if serial and timeout_s is not None:
        raise click.UsageError(
            "--serial runs the points in this process, where --timeout can stop none: "
            "leave one of them out"
        )

    from labkit.cli import loading, ranges, running, summary

    request = running.Request(
        experiment=loading.load(target),
        notebook=notebook or Path(f"{target.rpartition(':')[2].lower()}.db"),
        ranges=ranges.settings(settings),
        tag=result_set,
        only=only,
        timeout_s=timeout_s,
        chunk=chunk,
    )
    place = running.Place(engines, profile, serial)
    if dry_run:
        _print(summary.forecast(running.forecast(request, place)))
        return
    report = running.run(request, place, click.echo)
    _print(summary.report(report))
    ctx.exit(report.exit_status)


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(line)
