"""``labkit cluster``."""

from __future__ import annotations

import click

from labkit.cli.group import examples

__all__ = ["cluster"]

_PROFILE = click.option("--profile", "name", metavar="PROFILE", required=True, help="Its profile.")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(epilog=examples("labkit cluster start --profile cluster"))
def cluster() -> None:
    """Start a cluster on the machines of a profile, and look after it.

    Use it on the controller's machine. labkit profile generate makes the profile.
    """


@cluster.command(epilog=examples("labkit cluster start --profile cluster"))
@_PROFILE
@_JSON
@click.pass_context
def start(ctx: click.Context, name: str, as_json: bool) -> None:
    """Start the controller, and engines on all hosts at once.

    It returns when the engines that can come have come, and tells why others have not. Hosts
    that come later get engines then. After the controller or its machine has died, it goes on
    with the same ports and keys, as restart does. The exit status is 0 when all are there, and
    1 when any is missing; when none has come, what was started is ended.
    """
    from labkit.cli import clusters

    is_whole, text = clusters.start(name, as_json=as_json)
    click.echo(text)
    ctx.exit(0 if is_whole else 1)


@cluster.command(epilog=examples("labkit cluster stop --profile cluster"))
@_PROFILE
@click.pass_context
def stop(ctx: click.Context, name: str) -> None:
    """End the controller, all engines, and whatever they have started.

    The exit status is 0 when nothing runs on any host, and 1 when that is not known of some.
    """
    from labkit.cli import clusters

    is_done, text = clusters.stop(name)
    click.echo(text)
    ctx.exit(0 if is_done else 1)


@cluster.command(epilog=examples("labkit cluster restart --profile cluster"))
@_PROFILE
@_JSON
@click.pass_context
def restart(ctx: click.Context, name: str, as_json: bool) -> None:
    """Start everything anew, with the same ports and keys.

    Clients and labs that are connected go on with the new engines. A controller that has died
    comes back, and tasks and results that it knew are still there. The exit status is as of
    start.
    """
    from labkit.cli import clusters

    is_whole, text = clusters.restart(name, as_json=as_json)
    click.echo(text)
    ctx.exit(0 if is_whole else 1)


@cluster.command(epilog=examples("labkit cluster status --profile cluster --json"))
@_PROFILE
@_JSON
@click.pass_context
def status(ctx: click.Context, name: str, as_json: bool) -> None:
    """Show how each engine does: whether it lives, is registered, is busy.

    The exit status is 0 when all of them do well, and 1 when any does not.
    """
    from labkit.cli import clusters

    is_well, text = clusters.status(name, as_json=as_json)
    click.echo(text)
    ctx.exit(0 if is_well else 1)


@cluster.command(
    epilog=examples(
        "labkit cluster wait --profile cluster --engines 8",
        "labkit cluster wait --profile cluster --idle --timeout 3600",
    )
)
@_PROFILE
@click.option(
    "--engines", type=click.IntRange(1), help="How many have to be there.  [default: all]"
)
@click.option("--idle", is_flag=True, help="Wait until nothing is waiting or running.")
@click.option("--timeout", "timeout_s", type=click.FloatRange(0), help="How long, in seconds.")
def wait(name: str, engines: int | None, idle: bool, timeout_s: float | None) -> None:
    """Wait until engines are there, or have nothing to do."""
    from labkit.cli import clusters

    if idle and engines is not None:
        raise click.UsageError("--engines or --idle: say one of them")
    clusters.wait(name, engines, idle=idle, timeout_s=timeout_s)


@cluster.command(epilog=examples("labkit cluster scale --profile cluster cl-1=8 cl-2=0"))
@_PROFILE
@click.argument("counts", metavar="HOST=ENGINES...", nargs=-1, required=True)
@_JSON
@click.pass_context
def scale(ctx: click.Context, name: str, counts: tuple[str, ...], as_json: bool) -> None:
    """Have more or fewer engines on some hosts; 0 is none.

    It holds until the cluster is stopped. Engines that were given up are started again. The
    exit status is as of start.
    """
    from labkit.cli import clusters

    is_whole, text = clusters.scale(name, counts, as_json=as_json)
    click.echo(text)
    ctx.exit(0 if is_whole else 1)


@cluster.command(epilog=examples("labkit cluster logs --profile cluster cl-1 --lines 50"))
@_PROFILE
@click.argument("hosts", metavar="[HOST...]", nargs=-1)
@click.option("--lines", type=click.IntRange(1), default=10, show_default=True, help="Of each.")
@_JSON
def logs(name: str, hosts: tuple[str, ...], lines: int, as_json: bool) -> None:
    """Show the last lines of each log: the controller's, the watcher's, the hosts' and engines'."""
    from labkit.cli import clusters

    click.echo(clusters.logs(name, hosts, lines, as_json=as_json))
