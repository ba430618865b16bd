"""``labkit doctor``."""

from __future__ import annotations

import click

from labkit.cli.group import examples

__all__ = ["doctor"]


@click.command(
    epilog=examples("labkit doctor --profile cluster", "labkit doctor --profile cluster --problems")
)
@click.option("--profile", "name", metavar="PROFILE", required=True, help="The profile.")
@click.option("--problems", "only_problems", is_flag=True, help="Show only what is not ok.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def doctor(ctx: click.Context, name: str, only_problems: bool, as_json: bool) -> None:
    """See whether the machines of a profile are fit for a cluster, and what to do.

    It looks at ssh, versions, clocks, files, ports and threads of all hosts at once. Use it
    on the controller's machine. The exit status is 0 when all is well, and 1 when something
    is not.
    """
    from labkit.cli import examination

    is_well, text = examination.examine(name, only_problems=only_problems, as_json=as_json)
    click.echo(text)
    ctx.exit(0 if is_well else 1)
