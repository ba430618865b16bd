"""How commands are found, and how what goes wrong is told."""

import os
import subprocess
import sys
import warnings

import click
import pytest
from click.testing import CliRunner

import labkit
from labkit.cli import main
from labkit.cli.group import INTERRUPTED, LabkitGroup
from labkit.errors import ParameterError, SourceChangedWarning


def group(body):
    made = LabkitGroup("top")
    inner = click.Group("inner")
    inner.add_command(click.Command("do", callback=body))
    made.add_command(inner)
    return made


def invoke(body):
    return CliRunner().invoke(group(body), ["inner", "do"])


def test_an_error_of_ours_is_one_line():
    def body():
        raise ParameterError("window is odd: use an even one")

    done = invoke(body)
    assert done.exit_code == 2
    assert done.stderr == "Error: window is odd: use an even one\n"
    assert done.stdout == ""


def test_a_fault_goes_through():
    def body():
        raise ZeroDivisionError

    assert isinstance(invoke(body).exception, ZeroDivisionError)


def test_interruption_has_its_own_status():
    def body():
        raise KeyboardInterrupt

    done = invoke(body)
    assert done.exit_code == INTERRUPTED == 130
    assert done.stderr == "\nInterrupted.\n"


def test_exit_statuses_go_through():
    assert invoke(lambda: click.get_current_context().exit(7)).exit_code == 7


def test_warnings_of_ours_are_one_line():
    def body():
        warnings.simplefilter("always")
        warnings.warn("the source differs", SourceChangedWarning, stacklevel=1)
        warnings.warn("something else", UserWarning, stacklevel=1)

    show = warnings.showwarning
    with pytest.warns(UserWarning, match="something else") as others:
        done = invoke(body)
    assert done.stderr == "Warning: the source differs\n"
    assert len(others) == 1
    assert warnings.showwarning is show


@pytest.mark.parametrize("words", [["--version"], ["--help"], []])
def test_top(words):
    done = CliRunner().invoke(main, words)
    assert ("labkit 0" if words == ["--version"] else "Usage: ") in done.output
    assert labkit.__version__ in done.output or words != ["--version"]


def test_an_unknown_command():
    done = CliRunner().invoke(main, ["rnu"])
    assert done.exit_code == 2
    assert "No such command 'rnu'" in done.output


def examples():
    def walk(words, command):
        if isinstance(command, click.Group):
            context = click.Context(command)
            for name in command.list_commands(context):
                yield from walk([*words, name], command.get_command(context, name))
        else:
            yield " ".join(words)

    return list(walk(["labkit"], main))


@pytest.mark.parametrize("words", examples())
def test_every_command_shows_an_example(words):
    lines = CliRunner().invoke(main, [*words.split()[1:], "--help"]).output.splitlines()
    assert any(line.startswith("    " + words) for line in lines)


def test_the_module_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "labkit", "--version"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONWARNINGS": "error"},
    )
    assert done.stdout == f"labkit {labkit.__version__}\n"
