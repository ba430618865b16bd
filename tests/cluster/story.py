"""The notebook of the five machines, executed on five machines of the testbed.

``python -m tests.cluster.story`` does so and keeps what came out in the notebook: few readers
have five machines at hand.
"""

from __future__ import annotations

import html
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbformat import NotebookNode

from .machines import WORDS
from .testbed import ROOT, Testbed, why_not

NOTEBOOK = ROOT / "notebooks" / "five_machines.ipynb"

#: As the notebook has them.
MACHINES = {"cl-0": "10.0.0.1", **{f"cl-{i}": f"10.0.0.{10 + i}" for i in range(1, 5)}}
USER = "alice"

_CELL_S = 150
_BLOCK = re.compile(r"^```(console|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_WIDGET = "application/vnd.jupyter.widget-view+json"


class Story:
    """The notebook, and the machines that it is about.

    Parameters
    ----------
    bed : Testbed
        Machines with the names that the notebook uses.
    """

    def __init__(self, bed: Testbed) -> None:
        self.bed = bed
        self.notebook = nbformat.read(NOTEBOOK, as_version=4)
        #: What the laptop has said, block by block.
        self.on_laptop: list[str] = []
        for machine in bed.machines.values():
            # where the inventory expects Python
            (machine.folder / "home" / "venv").symlink_to(sys.prefix)

    @property
    def home(self) -> Path:
        """The home on the notebook's machine, as seen from here."""
        return self.bed["cl-0"].folder / "home"

    @property
    def cells(self) -> list[NotebookNode]:
        """The cells with code."""
        return [cell for cell in self.notebook.cells if cell.cell_type == "code"]

    def left(self) -> list[str]:
        """Return what runs of a cluster, or of a way to it, on any of the machines."""
        return [
            f"{machine.name}: {line}"
            for machine in self.bed.machines.values()
            for line in machine.processes(*WORDS, "BatchMode").values()
        ]

    def execute(self) -> None:
        """Execute all cells, and on the laptop what the text says to do there."""
        client = NotebookClient(
            self.notebook, km=self._kernel(), timeout=_CELL_S, coalesce_streams=True
        )
        with (
            (self.bed.folder / "kernel.log").open("wb") as log,
            client.setup_kernel(cleanup_kc=True, stdout=log, stderr=subprocess.STDOUT),
        ):
            for index, cell in enumerate(self.notebook.cells):
                if cell.cell_type == "code":
                    number = client.code_cells_executed + 1
                    client.execute_cell(cell, index, execution_count=number)
                else:
                    self._sit_down_at_the_laptop(cell.source)
            client.set_widgets_metadata()

    def _kernel(self) -> AsyncKernelManager:
        """Return what starts a kernel on the controller's machine.

        One speaks with it through sockets in the folder that all machines see: no network
        leads there from here.
        """
        there = self.bed["cl-0"]
        login = [f"{name}={value}" for name, value in there.environment().items()]
        spec = {
            "argv": there.words(
                *("env", "--ignore-environment", f"--chdir={self.bed.home}", *login),
                *(sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"),
            ),
            "display_name": "Python 3",
            "language": "python",
        }
        folder = self.bed.folder / "kernels" / "cl-0"
        folder.mkdir(parents=True)
        (folder / "kernel.json").write_text(json.dumps(spec))
        return AsyncKernelManager(
            kernel_name="cl-0",
            kernel_spec_manager=KernelSpecManager(kernel_dirs=[str(folder.parent)]),
            connection_file=str(folder / "connection.json"),
            transport="ipc",
            ip=str(folder / "socket"),
        )

    def _sit_down_at_the_laptop(self, markdown: str) -> None:
        taken_along = [c.source for c in self.cells if c.source.startswith(("import ", "class "))]
        for language, block in _BLOCK.findall(markdown):
            words = {
                "console": ["sh", "-ec", block.removeprefix("$ ")],
                "python": [sys.executable, "-c", "\n".join([*taken_along, block])],
            }
            at_home = ("env", f"--chdir={self.bed.home}")
            self.on_laptop.append(self.bed.laptop.execute(*at_home, *words[language]))

    # ---------- what is kept ----------

    def keep(self) -> None:
        """Write the notebook with what came out, for whoever only reads it."""
        for cell in self.cells:
            # when each of them ran is nobody's business
            cell.metadata.pop("execution", None)
            cell.outputs = [self._kept(output) for output in cell.outputs]
        # only what runs can move a widget
        self.notebook.metadata.pop("widgets", None)
        nbformat.validate(self.notebook)
        nbformat.write(self.notebook, NOTEBOOK)

    def _kept(self, output: NotebookNode) -> NotebookNode:
        if _WIDGET in output.get("data", {}):
            bar = self._bar(output.data[_WIDGET]["model_id"])
            return nbformat.v4.new_output("stream", name="stderr", text=f"{bar}\n")
        if "text" in output:
            text = output.text.replace("\r\n", "\n")
            output.text = text.replace(str(self.bed.home), f"/home/{USER}")
        return output

    def _bar(self, model: str) -> str:
        """Return a progress bar as a terminal would have shown it at its end."""
        told = self.notebook.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"]
        parts = told[model]["state"]["children"]
        before, bar, after = (told[part.removeprefix("IPY_MODEL_")]["state"] for part in parts)
        full = "█" * round(10 * bar["value"] / bar["max"])
        shown = html.unescape(f"{before['value']}|{full:<10}|{after['value']}")
        # a terminal needs no spaces as wide as digits
        return shown.replace("\u2007", " ").strip()


def text_of(cell: NotebookNode) -> str:
    """Return what a cell has printed, and shown as text."""
    return "".join(_texts(cell))


def _texts(cell: NotebookNode) -> Iterator[str]:
    for output in cell.outputs:
        yield output.get("text", "") or output.get("data", {}).get("text/plain", "")


def main() -> None:
    """Execute the notebook, and keep what came out."""
    if why := why_not():
        sys.exit(why)
    with (
        tempfile.TemporaryDirectory() as folder,
        Testbed(Path(folder), MACHINES, USER) as bed,
    ):
        story = Story(bed)
        story.execute()
        story.keep()
    sys.stdout.write(f"{NOTEBOOK.relative_to(ROOT)} is written\n")


if __name__ == "__main__":
    main()
