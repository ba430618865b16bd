"""``labkit inventory``."""

from __future__ import annotations

from pathlib import Path

import click

from labkit.cli.group import examples

__all__ = ["inventory"]

_HOSTS = click.argument("path", metavar="HOSTS", type=click.Path(dir_okay=False, path_type=Path))
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(epilog=examples("labkit inventory check hosts.yaml"))
def inventory() -> None:
    """See which machines an inventory names, and what is wrong with it.

    HOSTS is a hosts.yaml, or an inventory of Ansible's in YAML.
    """


@inventory.command(epilog=examples("labkit inventory check hosts.yaml"))
@_HOSTS
@_JSON
@click.pass_context
def check(ctx: click.Context, path: Path, as_json: bool) -> None:
    """Tell all mistakes, each with its line and column.

    The exit status is 0 when there is none, and 1 when there are some.
    """
    from labkit.cli import machines

    is_sound, text = machines.check(path, as_json=as_json)
    click.echo(text)
    ctx.exit(0 if is_sound else 1)


@inventory.command(epilog=examples("labkit inventory show hosts.yaml"))
@_HOSTS
@_JSON
def show(path: Path, as_json: bool) -> None:
    """Show the hosts with all that holds for them.

    Address, user and port are those that the system's ssh would use, ~/.ssh/config included.
    """
    from labkit.cli import machines

    click.echo(machines.show(path, as_json=as_json))


@inventory.command(epilog=examples("labkit inventory expand hosts.yaml | wc -l"))
@_HOSTS
@_JSON
def expand(path: Path, as_json: bool) -> None:
    """List the names of all hosts, ranges such as cl-[1-4] expanded."""
    from labkit.cli import machines

    click.echo(machines.expand(path, as_json=as_json))


@inventory.command(epilog=examples("labkit inventory schema > hosts.schema.json"))
def schema() -> None:
    """Print the JSON schema of hosts.yaml, with which editors complete and check it."""
    from labkit.cli import machines

    click.echo(machines.schema())
