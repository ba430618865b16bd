"""What holds for the project as a whole: its shape, its directions, its promises at start-up."""

import ast
import doctest
import importlib
import importlib.metadata
import inspect
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import epyc
import pytest
from packaging.requirements import Requirement

import labkit

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "labkit"
MODULES = sorted(PACKAGE.rglob("*.py"))
LABKIT = Path(sys.executable).with_name("labkit")


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    """Return the room of a module: the first name under labkit, or labkit itself."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "labkit"


# ---------- the rooms, and which of them may know which ----------

FOUNDATION = {
    "batch",
    "cache",
    "garbage",
    "attachment",
    "bundle",
    "errors",
    "point",
    "points",
    "provenance",
    "designs",
    "experiment",
    "outcome",
    "parameter",
    "source",
    "table",
}
ROOMS = {
    "cache": set(),
    "errors": set(),
    "garbage": set(),
    "lightepyc": set(),
    "attachment": FOUNDATION,
    "batch": FOUNDATION,
    "bundle": FOUNDATION,
    "point": FOUNDATION,
    "points": FOUNDATION,
    "provenance": FOUNDATION,
    "designs": FOUNDATION,
    "experiment": FOUNDATION,
    "outcome": FOUNDATION,
    "parameter": FOUNDATION,
    "source": FOUNDATION,
    "table": set(),
    "engine": FOUNDATION | {"lightepyc"},
    "notebook": FOUNDATION,
    "cluster": FOUNDATION | {"engine"},
    "matrixprofile": FOUNDATION | {"engine", "notebook"},
    "labs": FOUNDATION | {"engine", "notebook", "cluster"},
}
ROOMS["cli"] = set(ROOMS)
ROOMS["__main__"] = {"cli", "lightepyc"}


def is_room(name: str) -> bool:
    return (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file()


class Imports(ast.NodeVisitor):
    """The rooms that one module imports, wherever in it, and the lines that do so."""

    def __init__(self, path: Path) -> None:
        self.found: list[tuple[int, str]] = []
        self.visit(ast.parse(path.read_text(encoding="utf-8")))

    def add(self, node: ast.AST, target: str) -> None:
        """Note `labkit.room…`, or `labkit.Name`, which belongs to the room that defines it."""
        package, _, rest = target.partition(".")
        name = rest.partition(".")[0]
        if package != "labkit" or name.startswith("__"):
            return
        if name and not is_room(name):
            value = getattr(labkit, name)
            name = room_of(str(getattr(value, "__module__", "")))
        if name:
            self.found.append((node.lineno, name))

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self.add(node, alias.name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        assert node.level == 0, "relative imports are banned by ruff"
        if node.module == "labkit":
            for alias in node.names:
                self.add(node, f"labkit.{alias.name}")
        else:
            self.add(node, node.module or "")

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if isinstance(node.value, ast.Name) and node.value.id == "labkit":
            self.add(node, f"labkit.{node.attr}")
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        """`importlib.import_module("labkit.room")` is an import, too."""
        name = node.func.attr if isinstance(node.func, ast.Attribute) else None
        if name == "import_module" and node.args and isinstance(node.args[0], ast.Constant):
            self.add(node, str(node.args[0].value))
        self.generic_visit(node)


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_imports_point_one_way(path: Path) -> None:
    room = room_of(module_name(path))
    if room == "labkit":
        return  # the package knows all rooms, by name
    assert room in ROOMS, f"a new room: say in ROOMS what labkit.{room} may import"
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: labkit.{room} may not import labkit.{target}"
        for line, target in Imports(path).found
        if target != room and target not in ROOMS[room]
    ]
    assert not wrong, "\n".join(wrong)


def test_rooms_import_each_other_in_no_circle() -> None:
    graph = {room: set() for room in ROOMS}
    for path in MODULES:
        room = room_of(module_name(path))
        if room in graph:
            graph[room] |= {target for _, target in Imports(path).found} - {room}
    while leaves := {room for room, targets in graph.items() if not targets & set(graph)}:
        graph = {room: targets for room, targets in graph.items() if room not in leaves}
    assert not graph, f"these rooms import each other: {sorted(graph)}"


def test_direction_check_sees_every_form_of_import(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text(
        "import labkit.labs.lab\n"
        "from labkit.engine import spool\n"
        "from labkit import notebook, __version__, Experiment\n"
        "def later():\n"
        "    import labkit\n"
        "    labkit.cluster\n"
        '    importlib.import_module("labkit.cli.run")\n'
        "    import numpy\n"
    )
    assert Imports(module).found == [
        (1, "labs"),
        (2, "engine"),
        (3, "notebook"),
        (3, "experiment"),
        (6, "cluster"),
        (7, "cli"),
    ]


# ---------- public names ----------


def test_public_names_are_sorted_and_can_be_had() -> None:
    assert list(labkit.__all__) == sorted(set(labkit.__all__))
    missing = [name for name in labkit.__all__ if not hasattr(labkit, name)]
    assert not missing
    assert set(labkit.__all__) <= set(dir(labkit))


@pytest.mark.parametrize("room", ["labs", "matrixprofile", "notebook"])
def test_names_of_rooms_resolve(room: str) -> None:
    module = importlib.import_module(f"labkit.{room}")
    assert [name for name in module.__all__ if not hasattr(module, name)] == []
    assert not hasattr(module, "no_such_name")


def test_a_kind_of_notebook_brings_no_other() -> None:
    code = "import sys, labkit; labkit.SQLiteLabNotebook; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    loaded = subprocess.run(command, capture_output=True, check=True, text=True).stdout.split()
    assert "labkit.notebook.sqlitenotebook" in loaded
    others = ("epychdf5", "epycjson", "postgresnotebook", "recovery")
    assert [name for name in others if f"labkit.notebook.{name}" in loaded] == []


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        labkit.no_such_name  # noqa: B018


def camel_case(name: str) -> bool:
    return re.search(r"[a-z][A-Z]", name) is not None


EPYC_NAMES = {
    name
    for value in vars(epyc).values()
    if inspect.isclass(value)
    for name in dir(value)
    if camel_case(name)
}


def extends_epyc(path: Path, name: str) -> bool:
    value = getattr(importlib.import_module(module_name(path)), name)
    return any(base.__module__.partition(".")[0] == "epyc" for base in value.__mro__)


def test_camel_case_only_where_epyc_is_extended() -> None:
    wrong = []
    for path in MODULES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        methods = {
            method: node.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ClassDef)
            for method in node.body
        }
        wrong += [
            f"{path.relative_to(ROOT)}:{node.lineno}: {node.name} is neither epyc's "
            "nor in a class that extends one of epyc's: write it as PEP 8 does"
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef)
            and camel_case(node.name)
            and node.name not in EPYC_NAMES
            and not (node in methods and extends_epyc(path, methods[node]))
        ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "path", [path for path in MODULES if path.name != "__main__.py"], ids=module_name
)
def test_examples_in_docstrings(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    results = doctest.testmod(importlib.import_module(module_name(path)), optionflags=options)
    assert results.failed == 0


# ---------- start-up ----------

HEAVY = {
    "epyc",
    "h5py",
    "ipyparallel",
    "matplotlib",
    "numba",
    "numpy",
    "pandas",
    "pyarrow",
    "pydantic",
    "ruamel",
    "scipy",
    "sqlalchemy",
}


def seconds_of(*command: str | Path) -> float:
    """Return how long a command takes."""
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    return time.perf_counter() - started


def takes_less(limit_s: float, *command: str | Path) -> bool:
    """Test whether a command takes less time: noise only adds to it, so once is enough."""
    return any(seconds_of(*command) < limit_s for _ in range(40))


def test_import_takes_less_than_200_ms() -> None:
    python = sys.executable
    bare = min(seconds_of(python, "-c", "pass") for _ in range(5))
    assert takes_less(bare + 0.200, python, "-c", "import labkit")


def test_help_takes_less_than_500_ms() -> None:
    assert takes_less(0.500, LABKIT, "--help")


@pytest.mark.parametrize(
    "statement",
    [
        "import labkit",
        "import labkit; dir(labkit)",
        "from labkit.cli import main; main(['--help'], standalone_mode=False)",
    ],
)
def test_nothing_heavy_is_imported(statement: str) -> None:
    code = f"{statement}\nimport sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "labkit" in loaded
    assert not loaded & HEAVY


# ---------- the command line ----------


def commands() -> Iterator[tuple[str, click.Command]]:
    """Yield every command with the words that call it, the group `labkit` first."""
    main = importlib.import_module("labkit.cli").main

    def walk(words: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
        yield words, command
        if isinstance(command, click.Group):
            context = click.Context(command)
            for name in command.list_commands(context):
                yield from walk(f"{words} {name}", command.get_command(context, name))

    yield from walk("labkit", main)


def test_every_command_and_option_has_help() -> None:
    all_commands = dict(commands())
    assert len(all_commands) > 1
    silent = [words for words, command in all_commands.items() if not command.help]
    silent += [
        f"{words} {parameter.opts[0]}"
        for words, command in all_commands.items()
        for parameter in command.params
        if isinstance(parameter, click.Option) and not parameter.help
    ]
    assert not silent


def test_every_command_is_in_the_reference(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    page = (ROOT / "docs/reference/cli.md").read_text(encoding="utf-8")
    (source / "index.md").write_text(page, encoding="utf-8")
    sphinx = [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "text", "-C"]
    extensions = ["-D", "extensions=myst_parser,sphinx_click"]
    subprocess.run([*sphinx, *extensions, source, tmp_path / "out"], check=True)
    usages = re.findall(
        r"^\s*(labkit(?: [a-z-]+)*)", (tmp_path / "out/index.txt").read_text(), re.MULTILINE
    )
    assert {words for words, _ in commands()} <= set(usages)


# ---------- the repository ----------


def tracked() -> list[Path]:
    """Return what is committed or will be: all files that git does not ignore."""
    git = ["git", "-c", "safe.directory=*", "-C", str(ROOT), "ls-files", "-z"]
    try:
        done = subprocess.run(
            [*git, "--cached", "--others", "--exclude-standard"], check=True, capture_output=True
        )
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("needs git and a git checkout")
    paths = {ROOT / os.fsdecode(name) for name in done.stdout.split(b"\0") if name}
    return sorted(path for path in paths if path.is_file())


def test_no_file_knows_where_it_was_written() -> None:
    machine = re.compile(
        rb"(?<![\w.$})])/(?:work|root|opt/wheels|opt/pypi|tmp/bash)[/_.-]"
        rb"|\.\./share[d]|files\.pythonhost[e]d"
    )
    found = {
        f"{path.relative_to(ROOT)}: {match[0].decode()}"
        for path in tracked()
        for match in machine.finditer(path.read_bytes())
    }
    assert not found


LAYOUT = {
    ".ci",
    ".gitignore",
    ".pre-commit-config.yaml",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "docs",
    "labkit",
    "notebooks",
    "profiles",
    "pyproject.toml",
    "setup.cfg",
    "tests",
}


def test_top_level_is_tidy() -> None:
    top = {path.relative_to(ROOT).parts[0] for path in tracked()}
    assert top == LAYOUT


def test_every_room_is_there() -> None:
    rooms = set(ROOMS) - {"__main__"}
    assert {name for name in rooms if is_room(name)} == rooms
    assert (PACKAGE / "py.typed").is_file()


def test_ci_runs_the_tests() -> None:
    run = ROOT / ".ci/run"
    assert os.access(run, os.X_OK)
    assert run.read_text().splitlines()[-1] == "make test"


def test_nothing_is_left_for_later() -> None:
    left = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in MODULES
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(r"\b(TODO|FIXME|XXX)\b", line)
    ]
    assert not left, "\n".join(left)


def test_every_import_is_declared() -> None:
    requires = [Requirement(line) for line in importlib.metadata.requires("labkit") or []]
    declared = {re.sub(r"[-_.]+", "-", r.name).lower() for r in requires if r.marker is None}
    owners = importlib.metadata.packages_distributions()
    undeclared = set()
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in {name.partition(".")[0] for name in names} - sys.stdlib_module_names:
                dists = {re.sub(r"[-_.]+", "-", dist).lower() for dist in owners.get(name, [name])}
                if name != "labkit" and not dists & declared:
                    undeclared.add(f"{path.relative_to(ROOT)} imports {name}")
    assert not undeclared, "\n".join(sorted(undeclared))
