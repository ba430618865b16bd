"""The notebooks and labs that both sides are given."""

from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import epyc

MEMORY, JSON, HDF5, SQLITE = "memory", "json", "hdf5", "sqlite"


@dataclass(frozen=True)
class Notebooks:
    """Notebooks of one kind for both sides; epyc has no SQLite, there it gives in-memory ones."""

    kind: str
    directory: Path
    opened: list[Any] = field(default_factory=list)

    def on(self, module: ModuleType) -> "NotebookMaker":
        """Give the maker of this side's notebooks."""
        directory = self.directory / module.__name__
        directory.mkdir(exist_ok=True)
        return NotebookMaker(module, self.kind, directory, self.opened)

    def close(self) -> None:
        """Let go of every notebook that has something to let go."""
        for notebook in self.opened:
            close_if_it_can(notebook)


@dataclass(frozen=True)
class NotebookMaker:
    """Creates notebooks of one kind on one side, and opens them again."""

    module: ModuleType
    kind: str
    directory: Path
    opened: list[Any]

    @property
    def is_in_memory(self) -> bool:
        """Tell whether nothing is left of a notebook but the object."""
        return self.kind == MEMORY or (self.kind == SQLITE and self.module is epyc)

    @property
    def suffix(self) -> str:
        """The file name suffix of this kind."""
        return {JSON: ".json", HDF5: ".h5", SQLITE: ".db"}.get(self.kind, "")

    def create(self, name: str = "notebook", description: str | None = None) -> Any:
        """Create an empty notebook."""
        return self._open(name, description, create=True)

    def open(self, name: str = "notebook", description: str | None = None) -> Any:
        """Open a notebook that may be there already."""
        return self._open(name, description, create=False)

    def reopen(self, notebook: Any) -> Any:
        """Commit a notebook and open what was committed, where that is something else."""
        notebook.commit()
        if self.is_in_memory:
            return notebook
        close_if_it_can(notebook)
        return self.open(Path(notebook.name()).stem)

    def _open(self, name: str, description: str | None, create: bool) -> Any:
        if self.is_in_memory:
            return self.module.LabNotebook(name, description)
        made = {JSON: "JSONLabNotebook", HDF5: "HDF5LabNotebook", SQLITE: "SQLiteLabNotebook"}
        notebook_class = getattr(self.module, made[self.kind])
        path = str(self.directory / (name + self.suffix))
        notebook = notebook_class(path, create=create, description=description)
        self.opened.append(notebook)
        return notebook


def close_if_it_can(notebook: Any) -> None:
    """Close a notebook; epyc's have nothing to close."""
    close = getattr(notebook, "close", None)
    if close is not None:
        close()


@dataclass(frozen=True)
class Labs:
    """Labs of one class for both sides."""

    class_name: str
    arguments: dict[str, Any]
    opened: list[Any] = field(default_factory=list)

    def on(self, module: ModuleType) -> "LabMaker":
        """Give the maker of this side's labs."""
        return LabMaker(module, self.class_name, self.arguments, self.opened)

    def close(self) -> None:
        """Close every lab that was made."""
        for lab in self.opened:
            lab.close()


@dataclass(frozen=True)
class LabMaker:
    """Creates labs of one class on one side."""

    module: ModuleType
    class_name: str
    arguments: dict[str, Any]
    opened: list[Any]

    def create(self, notebook: Any = None) -> Any:
        """Create a lab."""
        lab = getattr(self.module, self.class_name)(notebook, **self.arguments)
        self.opened.append(lab)
        return lab

    def run(self, lab: Any, experiment: Any) -> Any:
        """Run an experiment over the lab's parameters, and stay until the end."""
        lab.runExperiment(experiment)
        if self.class_name == "ClusterLab":
            assert lab.wait(timeout=60), "the cluster did not finish within a minute"
        return lab
