"""Which Python of a host is taken, as its shell decides."""

import subprocess
import sys

import pytest

from labkit.cluster.interpreters import command_line

HERE = "{}.{}".format(*sys.version_info)


@pytest.fixture
def shell(tmp_path):
    """Execute a line with some interpreters in the path; each tells its own name."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "sh").symlink_to("/bin/sh")

    def execute(line, *interpreters, **variables):
        for name in interpreters:
            place = tmp_path / name if "/" in name else folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(f'#!/bin/sh\n[ "$2" ] && echo {name} "$3" "$4"\n:\n')
            place.chmod(0o755)
        return subprocess.run(
            ["/bin/sh", "-c", line],
            env={"PATH": str(folder), "HOME": str(tmp_path), **variables},
            capture_output=True,
            text=True,
            check=False,
        )

    return execute


@pytest.mark.parametrize(
    ("python", "there", "taken"),
    [
        ("bundle", [f"python{HERE}", "python3"], f"python{HERE}"),
        ("bundle", ["python3"], "python3"),
        ("bundle:~/my own/py", ["my own/py", "python3"], "my own/py"),
        ("bundle", [".cache/labkit/environments/e-1/bin/python", "python3"], ".cache/labkit/env"),
    ],
)
def test_the_first_that_starts(shell, tmp_path, python, there, taken):
    done = shell(command_line(python, "t", {}, "e"), *there)
    assert done.stdout.startswith(taken)
    assert done.stdout.endswith(f" t {tmp_path}/.cache/labkit\n")


def test_one_that_is_there_and_does_not_start_is_passed_over(shell, tmp_path):
    # as pyenv's do that are not chosen
    broken = tmp_path / "bin" / f"python{HERE}"
    broken.write_text("#!/bin/sh\nexit 127\n")
    broken.chmod(0o755)
    assert shell(command_line("bundle", "t", {}), "python3").stdout.startswith("python3 t ")


def test_an_environment_of_a_host_with_python_elsewhere_is_passed_over(shell, tmp_path):
    other = tmp_path / ".cache/labkit/environments/e-1/bin/python"
    other.parent.mkdir(parents=True)
    other.symlink_to("/not/on/this/host/python3")
    own = ".cache/labkit/environments/e-2/bin/python"
    assert shell(command_line("bundle", "t", {}, "e"), own, "python3").stdout.startswith(own)


def test_none(shell):
    done = shell(command_line("bundle", "t", {}))
    assert done.returncode == 127
    told = f"no Python starts there, of python{HERE}, python3: say python: bundle:/path/to/python"
    assert done.stderr.startswith(told)


@pytest.mark.parametrize(
    ("told", "login", "folder"),
    [
        ({"LABKIT_CACHE": "/told it's"}, {"LABKIT_CACHE": "/login"}, "/told it's"),
        ({}, {"LABKIT_CACHE": "~/far"}, "HOME/far"),
        ({}, {"XDG_CACHE_HOME": "/caches"}, "/caches/labkit"),
        ({}, {"XDG_CACHE_HOME": "relative"}, "HOME/.cache/labkit"),
    ],
)
def test_the_folder_of_the_cache(shell, tmp_path, told, login, folder):
    done = shell(command_line("bundle", "t", told, "e"), "python3", **login)
    assert done.stdout == f"python3 t {folder.replace('HOME', str(tmp_path))}\n"


def test_a_python_of_another_version_is_told_and_any_will_do_to_stop(shell, tmp_path):
    old = tmp_path / "bin" / "python3"
    old.write_text(
        f'#!/bin/sh\nexec {sys.executable} -c "import sys; sys.version_info = (2, 7, 18); $2"\n'
    )
    old.chmod(0o755)
    done = shell(command_line("bundle", "t", {}, "e"))
    assert f" is Python 2.7.18, and engines need {HERE}, as here: " in done.stderr
    assert "JSONDecodeError" in shell(command_line("bundle", "t", {})).stderr
