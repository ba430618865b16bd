"""How commands are found, and how what goes wrong is told."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TextIO

import click

__all__ = ["INTERRUPTED", "LabkitGroup", "examples"]

#: The exit status of a program that Ctrl-C ended, as shells have it.
INTERRUPTED = 130


def examples(*lines: str) -> str:
    """Return the end of a command's help: what one may type."""
    # click leaves alone what follows a backspace
    return "\n".join(["\b", f"Example{'s' * (len(lines) > 1)}:", *(f"  {line}" for line in lines)])


class LabkitGroup(click.Group):
    """A group that imports a command when it is used, and tells errors in one line.

    An error of labkit's is told without a traceback, and the exit status is 2; after a
    Ctrl-C it is 130. Any other exception is a fault of labkit's, and goes through.

    Parameters
    ----------
    homes : mapping of str to str
        Commands, and where each is: ``module:name``.
    """

    def __init__(self, *args: Any, homes: Mapping[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._homes = dict(homes or {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands, sorted."""
        return sorted([*self._homes, *self.commands])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of this name, or None."""
        if cmd_name not in self._homes:
            return super().get_command(ctx, cmd_name)
        module, _, name = self._homes[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was asked for."""
        if ctx.parent is not None:
            return super().invoke(ctx)
        try:
            with _plain_warnings():
                return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("\nInterrupted.", err=True)
            ctx.exit(INTERRUPTED)
        except Exception as e:
            if _is_ours(e) or isinstance(e, OSError):
                raise _Failure(str(e)) from e
            raise


class _Failure(click.ClickException):
    """What went wrong, as ``Error: ...`` and exit status 2."""

    exit_code = 2


def _is_ours(e: Exception) -> bool:
    # when nothing has imported the errors, none can have been raised
    errors = sys.modules.get("labkit.errors")
    return errors is not None and isinstance(e, errors.LabkitError)


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Show labkit's own warnings as one line, without the place in its code."""
    with warnings.catch_warnings():
        show = warnings.showwarning

        def show_plainly(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if category.__module__ == "labkit.errors":
                click.echo(f"Warning: {message}", err=True)
            else:
                show(message, category, filename, lineno, file, line)

        warnings.showwarning = show_plainly
        yield
