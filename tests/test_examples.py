"""Every example in README, docs/ and notebooks/ is executed, and what it shows is compared.

A page is one story: its blocks run in order, in one folder, and share their names.

- ``python``: runs as a cell does. One whose first line is ``# NAME.py`` is that file instead.
- ``pycon``: runs as a session; the values it shows must come (``...`` stands for anything).
- ``yaml``: one whose first line is ``# NAME.yaml`` is that file; others are only read.
- ``console``: each ``$`` line runs in a shell and must succeed, or end with the status that the
  line before the block gives (``<!-- exits with 1 -->``). What is shown must come.
- ``text`` and other languages that are only read are not executed.

A block after ``<!-- not executed: WHY -->`` is left out.
"""

import doctest
import gc
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

import labkit
from labkit.cluster import settings
from labkit.errors import SourceChangedWarning
from labkit.notebook import schema
from labkit.notebook.values import KINDS
from tests.cluster import story
from tests.notebook import postgres

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    *sorted(p for p in ROOT.glob("docs/**/*.md") if "_build" not in p.parts),
]
#: Another one needs five machines: tests/cluster/test_story.py executes it on them, and it keeps
#: its outputs for readers who have none.
NOTEBOOKS = sorted(set(ROOT.glob("notebooks/**/*.ipynb")) - {story.NOTEBOOK})

EXECUTED = {"python", "pycon", "console", "yaml"}
READ = {"", "text", "json"}

#: Blocks that tests cannot execute, each with its reason on the page.
NOT_EXECUTED = 1

SHOWN = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
LIMIT_S = 120

_FENCE = re.compile(
    r"^(?:<!-- (?P<mark>[^\n]*) -->\n)?"
    r"(?P<fence>```+)(?P<language>[^\n`]*)\n"
    r"(?P<body>.*?)^(?P=fence)$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    body: str
    mark: str

    @property
    def why_not(self) -> str:
        return self.mark.partition("not executed: ")[2]

    @property
    def status(self) -> int:
        found = re.fullmatch(r"exits with (\d+)", self.mark)
        return int(found[1]) if found else 0

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for found in _FENCE.finditer(text):
        language = found["language"].strip()
        if not language.startswith("{"):  # a directive of MyST, which Sphinx checks
            line = text.count("\n", 0, found.start("body")) + 1
            yield Block(page, line, language, found["body"], found["mark"] or "")


def page_name(page: Path) -> str:
    return str(page.relative_to(ROOT))


# ---------- how a block runs ----------


class Session:
    """Runs the blocks of one page."""

    def __init__(self) -> None:
        self._names: dict[str, Any] = {"__name__": "__main__"}
        self._runner = doctest.DocTestRunner(optionflags=SHOWN, verbose=False)
        path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])
        self._environment = {**os.environ, "PATH": path, "COLUMNS": "100", "TERM": "dumb"}

    def run(self, block: Block) -> None:
        getattr(self, f"_{block.language}")(block)

    def _python(self, block: Block) -> None:
        if named := re.match(r"# (\w+\.py)\n", block.body):
            Path(named[1]).write_text(block.body, encoding="utf-8")
            return
        # so that tracebacks, and whoever asks for the source, find the page
        padded = "\n" * (block.line - 1) + block.body
        exec(compile(padded, str(block.page), "exec"), self._names)

    def _yaml(self, block: Block) -> None:
        if named := re.match(r"# (\w+\.yaml)\n", block.body):
            Path(named[1]).write_text(block.body, encoding="utf-8")

    def _pycon(self, block: Block) -> None:
        parser = doctest.DocTestParser()
        test = parser.get_doctest(block.body, {}, str(block), str(block.page), block.line - 1)
        test.globs = self._names
        report: list[str] = []
        self._runner.run(test, out=report.append, clear_globs=False)
        assert not report, "".join(report)

    def _console(self, block: Block) -> None:
        first, *commands = re.split(r"^\$ ", block.body, flags=re.MULTILINE)
        assert not first.strip(), f"{block}: a console block begins with $"
        for command in commands:
            typed, shown = _typed_and_shown(command)
            if re.search(r"\bsqlite3 ", typed) and shutil.which("sqlite3") is None:
                pytest.skip(f"{block} needs sqlite3")
            status, came = self._shell(typed)
            assert status == block.status, f"{block}: $ {typed}\n{came}"
            if shown.strip():
                assert doctest.OutputChecker().check_output(shown, came, SHOWN), (
                    f"{block}: $ {typed}\nshown:\n{shown}\ncame:\n{came}"
                )

    def _shell(self, command: str) -> tuple[int, str]:
        # a file, not a pipe: what goes on in the background would keep a pipe open
        with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
            done = subprocess.run(
                ["bash", "-c", command],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=LIMIT_S,
                check=False,
            )
            output.seek(0)
            return done.returncode, output.read()


def _typed_and_shown(command: str) -> tuple[str, str]:
    lines = command.splitlines(keepends=True)
    count = 1
    while lines[count - 1].endswith("\\\n"):
        count += 1
    return "".join(lines[:count]), "".join(lines[count:])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Work in an empty folder; stop the clusters and forget the modules that a page makes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None)
        if file is not None and Path(file).parent == tmp_path:
            del sys.modules[name]
    for running in tmp_path.glob("ipython/profile_*/security/cluster-*.json"):
        ipcluster = [sys.executable, "-m", "ipyparallel.cluster", "stop"]
        subprocess.run([*ipcluster, f"--profile-dir={running.parents[1]}"], check=False)


# ---------- the pages ----------


#: A page that needs a server, which its examples find by the environment.
NEEDS_POSTGRESQL = ROOT / "docs/howto/postgresql.md"


@pytest.fixture
def surroundings(page: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Start what the examples of a page need."""
    if page != NEEDS_POSTGRESQL:
        yield
        return
    if why := postgres.why_not():
        pytest.skip(why)
    with postgres.Server() as server:
        server.create_database("lab")
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        yield


@pytest.mark.parametrize("page", PAGES, ids=page_name)
@pytest.mark.usefixtures("surroundings")
def test_page(page: Path, folder: Path) -> None:
    session = Session()
    with warnings.catch_warnings():
        # shown to the reader, who is told why it comes
        warnings.simplefilter("ignore", SourceChangedWarning)
        for block in blocks(page):
            if block.language in EXECUTED and not block.why_not:
                session.run(block)
    # what a page leaves open is found here, not in the test of another one
    del session
    gc.collect()


def test_every_block_is_executed_or_only_read() -> None:
    known = EXECUTED | READ
    unknown = [
        f"{b}: {b.language}" for page in PAGES for b in blocks(page) if b.language not in known
    ]
    assert not unknown, f"write python, pycon or console, or text for what is only read: {unknown}"


def test_what_is_not_executed_says_why() -> None:
    left_out = [f"{b}: {b.why_not}" for page in PAGES for b in blocks(page) if b.why_not]
    assert len(left_out) == NOT_EXECUTED, "\n".join(left_out)


def test_marks_stand_before_blocks() -> None:
    for page in PAGES:
        marks = re.findall(r"<!-- (?:not executed: |exits with )", page.read_text(encoding="utf-8"))
        assert len(marks) == sum(bool(b.mark) for b in blocks(page)), page


@pytest.mark.parametrize(
    ("language", "body"),
    [
        ("python", "1 / 0\n"),
        ("pycon", ">>> 1 + 1\n3\n"),
        ("console", "$ exit 3\n"),
        ("console", "$ echo one\ntwo\n"),
    ],
)
def test_a_false_example_fails(language: str, body: str, folder: Path) -> None:
    with pytest.raises((AssertionError, ZeroDivisionError)):
        Session().run(Block(PAGES[0], 1, language, body, ""))


# ---------- what the reference lists ----------


def reference(name: str) -> str:
    return (ROOT / "docs/reference" / name).read_text(encoding="utf-8")


def test_every_table_and_column_is_in_the_reference() -> None:
    of_result_set, other = reference("notebook.md").split("## Other tables")
    row = re.compile(r"^\| `(labkit_\w+)` \| ([\w, ]+) \|", re.MULTILINE)
    tables = schema.metadata.tables.values()
    assert dict(row.findall(other)) == {t.name: ", ".join(t.columns.keys()) for t in tables}
    assert dict(row.findall(of_result_set)).keys() == set(
        schema.result_set_table("results").columns.keys()
    )
    assert all(f"| {kind} | {sql}" in of_result_set for kind, sql in KINDS.items())


def test_every_element_of_metadata_is_in_the_reference() -> None:
    class Coin(labkit.Experiment):
        def do(self, params: dict[str, Any]) -> dict[str, Any]:
            return {"heads": self.rng.random() < 0.5}

    tossed = labkit.RepeatedExperiment(Coin(), 2)
    lab = labkit.Lab()
    lab["coin"] = 1
    for e in (tossed, labkit.SummaryExperiment(tossed)):
        lab.runExperiment(e)
    elements = {name for outcome in lab.results() for name in outcome["metadata"]}
    described = set(re.findall(r"`([\w.]+)`", reference("metadata.md")))
    assert len(elements) > 25
    assert not {n for n in elements if n not in described and n.rpartition(".")[2] not in described}
    shared = set(re.findall(r"^\|(.*)\| shared \|$", reference("metadata.md"), re.MULTILINE))
    assert set(re.findall(r"`(\w+\.[\w.]+)`", "".join(shared))) == schema.PROVENANCE_NAMES


@pytest.mark.parametrize(
    "model",
    [
        settings.InventorySettings,
        settings.ControllerSettings,
        settings.HostSettings,
        settings.SSHSettings,
    ],
)
def test_every_key_of_an_inventory_is_in_the_reference(model: Any) -> None:
    for name, field in model.model_fields.items():
        assert f"| `{name}` | {field.description} |\n" in reference("hosts-yaml.md")


# ---------- the notebooks ----------


@pytest.mark.parametrize("path", NOTEBOOKS, ids=page_name)
def test_notebook(path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # so that no kernel but this interpreter's own is found
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(folder / "jupyter"))
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=LIMIT_S, kernel_name="python3", resources=resources).execute()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=page_name)
def test_notebook_is_stored_without_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    stored = [
        c for c in notebook.cells if c.cell_type == "code" and (c.outputs or c.execution_count)
    ]
    assert not stored, "clear the outputs: they are made where the notebook runs"
    assert notebook.metadata.kernelspec.name == "python3"
