"""YAML files that know where in them everything stands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.errors import InventoryError

if TYPE_CHECKING:
    from ruamel.yaml import YAML
    from ruamel.yaml.nodes import MappingNode, Node

__all__ = ["Document", "Mistake", "Mistakes", "Place", "Route"]

#: The keys and numbers that lead from the top of a file to a value in it.
Route = tuple[str | int, ...]

_MERGE = "tag:yaml.org,2002:merge"


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A place in a file; lines and columns count from 1.

    Examples
    --------
    >>> str(Place("hosts.yaml", 3, 7))
    'hosts.yaml:3:7'
    """

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"

    def after(self, characters: int) -> Place:
        """Return the place so many characters further in the same line."""
        return Place(self.file, self.line, self.column + characters)


@dataclass(frozen=True, slots=True, order=True)
class Mistake:
    """What is wrong at a place."""

    place: Place
    what: str

    def __str__(self) -> str:
        return f"{self.place}: {self.what}"


class Mistakes:
    """Collects what is wrong with a file, to tell all of it at once.

    Parameters
    ----------
    file : str
        The file's name, as it is told.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        self._found: list[Mistake] = []

    def add(self, place: Place, what: str) -> None:
        """Note one."""
        self._found.append(Mistake(place, what))

    def check(self) -> None:
        """Raise when there are any.

        Raises
        ------
        InventoryError
            With all of them, in the order of the file.
        """
        if self._found:
            raise InventoryError(self.file, [str(m) for m in sorted(set(self._found))])


class Document:
    r"""A YAML file: its value, and the place of each part of it.

    Parameters
    ----------
    file : str
        The file's name, as it is told.
    text : str
        What it holds.

    Raises
    ------
    InventoryError
        When it is empty or no YAML.

    Attributes
    ----------
    file : str
        As it was given.
    value
        What the file holds, as dicts, lists and plain values.
    mistakes : Mistakes
        Keys that are there twice, of which the first holds, or are no text; values that hold
        themselves. Who reads on adds to them, and has them told.
    has_all_hosts : bool
        True: an inventory's hosts are those of the value.

    Examples
    --------
    >>> document = Document("hosts.yaml", "hosts:\n  cl-1: {engines: 8}\n")
    >>> document.value
    {'hosts': {'cl-1': {'engines': 8}}}
    >>> str(document.place(("hosts", "cl-1", "engines")))
    'hosts.yaml:2:19'
    """

    has_all_hosts = True

    def __init__(self, file: str, text: str) -> None:
        self.file = file
        self._reader = _Reader(file)
        self._root = self._reader.parse(text)
        self.mistakes = self._reader.mistakes
        self.value: Any = self._reader.value(self._root)

    @classmethod
    def read(cls, path: Path) -> Document:
        """Read a file.

        Raises
        ------
        InventoryError
            When it cannot be read, too.
        """
        try:
            return cls(str(path), _decoded(str(path), path.read_bytes()))
        except OSError as e:
            raise InventoryError(str(path), [f"{path}: {e.strerror}"]) from e

    def place(self, route: Route, *, of_key: bool = False) -> Place:
        """Return the place of a value, or of the key before it.

        Where the route leads further than the file goes, it is the place of the last part
        that is there.
        """
        node = self._root
        key: Node | None = None
        for step in route:
            found = self._reader.child(node, step)
            if found is None:
                of_key = of_key and key is not None
                break
            key, node = found
        return self._reader.place(key if of_key and key is not None else node)


class _Reader:
    """Turns the nodes of one file into values."""

    def __init__(self, file: str) -> None:
        self.mistakes = Mistakes(file)
        self._file = file
        self._values: dict[int, Any] = {}
        self._open: set[int] = set()
        self._entries: dict[int, dict[str, tuple[Node, Node]]] = {}
        self._yaml = _yaml()

    def place(self, node: Node) -> Place:
        mark = node.start_mark
        return Place(self._file, mark.line + 1, mark.column + 1)

    def parse(self, text: str) -> Node:
        from ruamel.yaml.error import MarkedYAMLError
        from ruamel.yaml.reader import ReaderError

        try:
            root: Node | None = self._yaml.compose(text)
        except MarkedYAMLError as e:
            mark = e.problem_mark or e.context_mark
            place = Place(self._file, mark.line + 1, mark.column + 1)
            raise _only(place, _explained(e, text.splitlines(), place)) from e
        except ReaderError as e:
            place = _place_of(self._file, text[: e.position])
            raise _only(place, f"character {e.character:#04x} may not be in YAML") from e
        except RecursionError as e:
            raise _only(Place(self._file, 1, 1), "it is nested too deeply") from e
        if root is None:
            raise _only(Place(self._file, 1, 1), "the file is empty")
        return root

    def value(self, node: Node) -> Any:
        if id(node) in self._open:
            self.mistakes.add(self.place(node), "this value holds itself")
            return None
        if id(node) not in self._values:
            self._open.add(id(node))
            self._values[id(node)] = self._made(node)
            self._open.discard(id(node))
        return self._values[id(node)]

    def _made(self, node: Node) -> Any:
        from ruamel.yaml.constructor import ConstructorError
        from ruamel.yaml.nodes import MappingNode, SequenceNode

        if isinstance(node, MappingNode):
            return {key: self.value(child) for key, (_, child) in self.entries(node).items()}
        if isinstance(node, SequenceNode):
            return [self.value(child) for child in node.value]
        try:
            return self._yaml.constructor.construct_object(node)
        except (ConstructorError, ValueError):
            return node.value

    def entries(self, node: MappingNode) -> dict[str, tuple[Node, Node]]:
        """Return keys, and the nodes of each and its value; those of merged mappings last."""
        if id(node) not in self._entries:
            found: dict[str, tuple[Node, Node]] = {}
            # known before it is complete: it may merge itself
            self._entries[id(node)] = found
            merged: list[Node] = []
            for key, child in node.value:
                if key.tag == _MERGE:
                    merged.append(child)
                elif not isinstance(key.value, str):
                    self.mistakes.add(self.place(key), "a key must be text; quote it")
                elif key.value in found:
                    first = self.place(found[key.value][0])
                    self.mistakes.add(
                        self.place(key), f"{key.value} is there already, at line {first.line}"
                    )
                else:
                    found[key.value] = (key, child)
            for mapping in self._mappings(merged):
                found.update({k: v for k, v in self.entries(mapping).items() if k not in found})
        return self._entries[id(node)]

    def _mappings(self, merged: list[Node]) -> Iterator[MappingNode]:
        from ruamel.yaml.nodes import MappingNode, SequenceNode

        for node in merged:
            for each in node.value if isinstance(node, SequenceNode) else [node]:
                if isinstance(each, MappingNode):
                    yield each
                else:
                    self.mistakes.add(self.place(each), "<< merges mappings only")

    def child(self, node: Node, step: str | int) -> tuple[Node | None, Node] | None:
        from ruamel.yaml.nodes import MappingNode, SequenceNode

        if isinstance(node, MappingNode):
            return self.entries(node).get(str(step))
        if isinstance(node, SequenceNode) and isinstance(step, int) and step < len(node.value):
            return None, node.value[step]
        return None


def _yaml() -> YAML:
    from ruamel.yaml import YAML

    return YAML(typ="safe", pure=True)


def _only(place: Place, what: str) -> InventoryError:
    return InventoryError(place.file, [str(Mistake(place, what))])


def _explained(e: Any, lines: list[str], place: Place) -> str:
    """Return what a parser says, and the usual reason for it where that is plain to see."""
    line = lines[place.line - 1] if place.line <= len(lines) else ""
    if "\t" in line[: place.column]:
        return "a tab: YAML is indented by spaces"
    problem = str(e.problem).replace("'<stream end>'", "the end of the file")
    if "mapping values are not allowed" in problem:
        problem += "; quote a value that holds a colon, and indent all keys of a mapping alike"
    if "got '['" in problem:
        problem += "; within braces, quote a name with brackets"
    if "undefined alias" in problem:
        problem += "; quote a value that begins with *"
    return f"{e.context}: {problem}" if e.context else problem


def _decoded(file: str, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        before = content[: e.start].decode("utf-8-sig")
        what = f"byte {content[e.start]:#04x} is no UTF-8: save the file as UTF-8"
        raise _only(_place_of(file, before), what) from e


def _place_of(file: str, before: str) -> Place:
    """Return the place that comes after a text."""
    lines = re.split(r"\r\n|\r|\n", before)
    return Place(file, len(lines), len(lines[-1]) + 1)
