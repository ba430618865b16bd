"""Ansible's inventories in YAML, read as if they were ``hosts.yaml``.

What Ansible knows of a host (address, user, port, key, interpreter, jump host) is taken
over. What it does not know stands in variables called ``labkit``: of a host or a group, the
settings of hosts; of ``all``, also those of the whole inventory.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from labkit.cluster.hostranges import RangeMistake, expand
from labkit.cluster.positions import Document, Place, Route
from labkit.errors import suggestion

__all__ = ["AnsibleDocument", "is_ansible"]

_GROUP_KEYS = ("children", "hosts", "vars")
_WHOLE = ("controller", "encryption", "packages", "profile", "restarts", "shared_filesystem")

#: Groups that every inventory has, and that tell nothing about their hosts.
_NO_TAGS = ("all", "ungrouped")


def is_ansible(value: Any) -> bool:
    """Test whether a file is an inventory of Ansible's, by its groups.

    Examples
    --------
    >>> is_ansible({"all": {"hosts": {"cl-1": None}}}), is_ansible({"hosts": {"cl-1": None}})
    (True, False)
    """
    if not isinstance(value, dict) or not value or "hosts" in value:
        return False
    if "all" in value:
        return True
    groups = [group for group in value.values() if group]
    return bool(groups) and all(
        isinstance(group, dict) and set(group) <= set(_GROUP_KEYS) for group in groups
    )


@dataclass(slots=True)
class _Group:
    """A group, gathered from wherever the file tells something about it."""

    variables: list[Route] = field(default_factory=list)
    hosts: dict[str, list[Route]] = field(default_factory=dict)
    children: dict[str, Route] = field(default_factory=dict)


class AnsibleDocument:
    """An Ansible inventory, as the document that ``hosts.yaml`` would be.

    Parameters
    ----------
    document : Document
        The inventory.

    Attributes
    ----------
    file : str
        The file's name, as it is told.
    value : dict
        What ``hosts.yaml`` would hold.
    mistakes : Mistakes
        The document's, with groups that hold what groups may not, and variables that are
        templates.
    has_all_hosts : bool
        False when a group's hosts could not be read.
    """

    def __init__(self, document: Document) -> None:
        self.file = document.file
        self._document = document
        self.mistakes = document.mistakes
        self.has_all_hosts = True
        self._groups: dict[str, _Group] = {}
        self._origins: dict[Route, Route] = {(): ()}
        for name in document.value:
            self._gather(name, (name,))
        self._break_circles()
        depths = self._depths()
        self.value = self._converted(sorted(self._groups, key=lambda n: (depths[n], n)))

    def place(self, route: Route, *, of_key: bool = False) -> Place:
        """Return where what became this value, or key, stands in Ansible's file."""
        known = next(n for n in range(len(route), -1, -1) if route[:n] in self._origins)
        origin = self._origins[route[:known]]
        return self._document.place((*origin, *route[known:]), of_key=of_key)

    def _at(self, route: Route) -> Any:
        value = self._document.value
        for step in route:
            value = value[step]
        return value

    # ---------- groups ----------

    def _gather(self, name: str, route: Route) -> None:
        group = self._groups.setdefault(name, _Group())
        told = self._mapping(route)
        for key in set(told) - set(_GROUP_KEYS):
            place = self._document.place((*route, key), of_key=True)
            self.mistakes.add(place, f"unknown key {key}{suggestion(key, _GROUP_KEYS)}")
        if self._mapping((*route, "vars"), told):
            group.variables.append((*route, "vars"))
        for pattern in self._mapping((*route, "hosts"), told):
            for host in _expanded(pattern):
                group.hosts.setdefault(host, []).append((*route, "hosts", pattern))
        for child in self._mapping((*route, "children"), told):
            group.children[child] = (*route, "children", child)
            self._gather(child, (*route, "children", child))

    def _mapping(self, route: Route, within: dict[str, Any] | None = None) -> dict[str, Any]:
        value = self._at(route) if within is None else within.get(str(route[-1]))
        if value is None:
            return {}
        if isinstance(value, dict):
            return value
        self.mistakes.add(
            self._document.place(route), f"{route[-1]} should be a mapping, key: value"
        )
        self.has_all_hosts = self.has_all_hosts and route[-1] not in ("children", "hosts")
        return {}

    def _break_circles(self) -> None:
        """Note groups that hold themselves, and have them do so no more."""
        for name, group in self._groups.items():
            for child, route in list(group.children.items()):
                if name in self._below(child):
                    place = self._document.place(route, of_key=True)
                    self.mistakes.add(place, f"the group {child} holds itself")
                    del group.children[child]

    def _below(self, name: str) -> set[str]:
        """Return a group with all that it holds, at whatever depth."""
        found: set[str] = set()
        rest = {name}
        while rest:
            found |= rest
            rest = {child for each in rest for child in self._groups[each].children} - found
        return found

    def _depths(self) -> dict[str, int]:
        """Return how deep each group lies, by its longest way from the top."""
        depths = dict.fromkeys(self._groups, 1) | {"all": 0}
        while deeper := {
            child: depths[name] + 1
            for name, group in self._groups.items()
            for child in group.children
            if depths[child] <= depths[name]
        }:
            depths |= deeper
        return depths

    def _members(self, name: str) -> set[str]:
        if name == "all":
            return {host for group in self._groups.values() for host in group.hosts}
        return {host for each in self._below(name) for host in self._groups[each].hosts}

    # ---------- hosts ----------

    def _converted(self, names: list[str]) -> dict[str, Any]:
        """Return the settings; what a later group says holds over an earlier one, hosts' last."""
        whole: dict[str, Any] = {}
        found: dict[str, dict[str, Any]] = {
            host: {} for group in self._groups.values() for host in group.hosts
        }
        for host in found:
            self._origins["hosts", host] = self._first_route(host)
        for name in names:
            members = {host: found[host] for host in self._members(name)}
            if name == "all":
                for route in self._groups[name].variables:
                    self._take_whole(whole, (*route, "labkit"))
            for host, settings in members.items():
                if name not in _NO_TAGS:
                    settings.setdefault("tags", []).append(name)
                for route in self._groups[name].variables:
                    self._take(host, settings, route, of_all=name == "all")
        for group in self._groups.values():
            for host, routes in group.hosts.items():
                for route in routes:
                    self._take(host, found[host], route)
        return {**whole, "hosts": found}

    def _first_route(self, host: str) -> Route:
        return next(g.hosts[host][0] for g in self._groups.values() if host in g.hosts)

    def _take_whole(self, whole: dict[str, Any], route: Route) -> None:
        said = self._mapping(route, self._at(route[:-1]))
        for key in _WHOLE:
            if key in said:
                whole[key] = said[key]
                self._origins[(key,)] = (*route, key)

    def _take(
        self, host: str, settings: dict[str, Any], route: Route, *, of_all: bool = False
    ) -> None:
        variables = self._mapping(route)
        for name, read in _VARIABLES.items():
            if name in variables:
                self._set(host, settings, (*route, name), read)
        own = self._mapping((*route, "labkit"), variables)
        for key, value in own.items():
            if not (of_all and key in _WHOLE):
                self._merge(host, settings, (key,), value, (*route, "labkit", key))

    def _set(
        self,
        host: str,
        settings: dict[str, Any],
        origin: Route,
        read: Callable[[Any], Iterator[tuple[Route, Any]]],
    ) -> None:
        value = self._at(origin)
        if isinstance(value, str) and "{{" in value:
            place = self._document.place(origin)
            self.mistakes.add(place, f"{origin[-1]} is a template, which only Ansible fills in")
            if read is _connection:
                # whether it is another machine is not known: nothing more is asked of it
                self._merge(host, settings, ("local",), True, origin)
            return
        for route, setting in read(value):
            self._merge(host, settings, route, setting, origin)

    def _merge(
        self, host: str, settings: dict[str, Any], route: Route, value: Any, origin: Route
    ) -> None:
        """Set one value; mappings are merged key by key, tags added."""
        key = str(route[0])
        if len(route) > 1:
            before = settings.get(key)
            settings[key] = {**(before if isinstance(before, dict) else {}), route[1]: value}
        elif key == "tags":
            more = value if isinstance(value, list) else [value]
            settings[key] = [*settings.get(key, []), *more]
        elif key in ("env", "ssh") and isinstance(value, dict):
            for name, text in value.items():
                self._merge(host, settings, (key, name), text, (*origin, name))
        else:
            settings[key] = value
        self._origins["hosts", host, *route] = origin


def _expanded(pattern: str) -> list[str]:
    """Return the hosts of a pattern; of a wrong one, which is told of later, itself."""
    try:
        return expand(pattern)
    except RangeMistake:
        return [pattern]


# ---------- Ansible's variables ----------

_Read = Callable[[Any], Iterator[tuple[Route, Any]]]


def _as(*route: str) -> _Read:
    return lambda value: iter([(route, value)])


def _port(value: Any) -> Iterator[tuple[Route, Any]]:
    # Ansible takes text, too
    is_number = isinstance(value, str) and value.isdecimal()
    yield ("ssh", "port"), int(value) if is_number else value


def _python(value: Any) -> Iterator[tuple[Route, Any]]:
    # auto, auto_silent and others let Ansible search
    if not str(value).startswith("auto"):
        yield ("python",), value


def _connection(value: Any) -> Iterator[tuple[Route, Any]]:
    if value == "local":
        yield ("local",), True


def _jump(value: Any) -> Iterator[tuple[Route, Any]]:
    """Find the jump host among arguments of ssh."""
    try:
        words = shlex.split(str(value))
    except ValueError:
        return
    text = " ".join(words)
    found = re.search(r"ProxyJump[= ](\S+)|-J ?(\S+)", text)
    if found:
        yield ("ssh", "jump"), found[1] or found[2]
        return
    command = re.search(r"ProxyCommand[= ]ssh (.*)", text)
    if command and (hop := _hop(command[1].split())) is not None:
        yield ("ssh", "jump"), hop


def _hop(words: list[str]) -> str | None:
    """Return the last word of `-W %h:%p -q alice@gate` that is no option."""
    plain = [
        word
        for before, word in zip(["", *words], words, strict=False)
        if not word.startswith("-") and before not in ("-W", "-o", "-p", "-i", "-l", "-F")
    ]
    return plain[-1] if plain else None


_VARIABLES: dict[str, _Read] = {
    "ansible_ssh_host": _as("address"),
    "ansible_host": _as("address"),
    "ansible_ssh_user": _as("user"),
    "ansible_user": _as("user"),
    "ansible_ssh_port": _port,
    "ansible_port": _port,
    "ansible_private_key_file": _as("ssh", "identity"),
    "ansible_ssh_private_key_file": _as("ssh", "identity"),
    "ansible_python_interpreter": _python,
    "ansible_connection": _connection,
    "ansible_ssh_extra_args": _jump,
    "ansible_ssh_common_args": _jump,
}
