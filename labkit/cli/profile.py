"""``labkit profile``."""

from __future__ import annotations

from pathlib import Path

import click

from labkit.cli.group import examples

__all__ = ["profile"]

_NAME = click.argument("name", metavar="PROFILE")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(epilog=examples("labkit profile generate hosts.yaml"))
def profile() -> None:
    """Make the profile that starts a cluster, and see what has become of it.

    A profile is IPython's: a folder with the settings and connection files of a cluster.
    """


@profile.command(
    epilog=examples("labkit profile generate hosts.yaml", "labkit cluster start --profile cluster")
)
@click.argument("path", metavar="HOSTS", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--profile", "name", metavar="NAME", help="Its name.  [default: the inventory's]")
@click.option(
    "--stock", is_flag=True, help="Use ipyparallel's own launcher: slower, but without labkit."
)
@click.option("--dry-run", is_flag=True, help="Show what would change, and write nothing.")
@click.option("--force", is_flag=True, help="Overwrite changes that were made by hand.")
def generate(path: Path, name: str | None, stock: bool, dry_run: bool, force: bool) -> None:
    """Write a profile from an inventory.

    Run it on the controller's machine. Afterwards ipcluster, ipyparallel, epyc and labkit
    know the profile by its name. What was changed by hand is shown, and overwritten only
    after a question.
    """
    from labkit.cli import profiling

    change = profiling.plan(path, name, stock=stock)
    if dry_run or change.handmade:
        click.echo(profiling.differences(change), nl=False)
    if dry_run:
        return
    if change.handmade and not force:
        profiling.ask(change)
    change.write()
    click.echo(profiling.written(change, stock=stock))


@profile.command(
    epilog=examples(
        "labkit profile shadow alice@cl-0", "labkit profile shadow alice@cl-0 --as night"
    )
)
@click.argument("destination", metavar="USER@HOST")
@click.option(
    "--profile", "of", metavar="NAME", default="cluster", show_default=True, help="Its name there."
)
@click.option(
    "--as", "name", metavar="NAME", default="shadow", show_default=True, help="Its name here."
)
def shadow(destination: str, of: str, name: str) -> None:
    """Make a profile here of a cluster elsewhere, for a laptop.

    HOST is the controller's machine, which ssh lets in to; nothing else has to be in reach.
    What is fetched is the client's connection file. A lab with the profile then opens a
    tunnel by itself.
    """
    from labkit.cli import shadowing

    click.echo(shadowing.made(destination, of, name))


@profile.command(epilog=examples("labkit profile refresh shadow"))
@_NAME
def refresh(name: str) -> None:
    """Fetch the connection file of a shadow again, after the cluster was restarted."""
    from labkit.cli import shadowing

    click.echo(shadowing.refreshed(name))


@profile.command("list", epilog=examples("labkit profile list --json"))
@_JSON
def list_(as_json: bool) -> None:
    """List the profiles with which a cluster can be started."""
    from labkit.cli import profiling

    click.echo(profiling.listing(as_json=as_json))


@profile.command(epilog=examples("labkit profile show cluster"))
@_NAME
@_JSON
def show(name: str, as_json: bool) -> None:
    """Show where a profile is, and what its files say."""
    from labkit.cli import profiling

    click.echo(profiling.show(name, as_json=as_json))


@profile.command(epilog=examples("labkit profile check cluster"))
@_NAME
@click.pass_context
def check(ctx: click.Context, name: str) -> None:
    """Load a profile with ipyparallel, and compare it with its inventory.

    A shadow is compared with the connection file on the other machine. The exit status is 0
    when all is sound, and 1 when something is not.
    """
    from labkit.cli import profiling

    is_sound, text = profiling.check(name)
    click.echo(text)
    ctx.exit(0 if is_sound else 1)


@profile.command(epilog=examples("labkit profile remove cluster --force"))
@_NAME
@click.option("--force", is_flag=True, help="Do not ask.")
def remove(name: str, force: bool) -> None:
    """Remove a profile that labkit has made, its logs and connection files included."""
    from labkit.cli import profiling

    found = profiling.named(name)
    if not force:
        click.confirm(f"Remove {found.folder}?", abort=True)
    click.echo(profiling.removed(found))
