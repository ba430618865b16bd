"""The machines of a cluster, as ``hosts.yaml`` or an Ansible inventory names them."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from labkit.cluster import ansible, sshconfig
from labkit.cluster.hostranges import RangeMistake, expand
from labkit.cluster.interpreters import SENT, is_sent
from labkit.cluster.positions import Document, Mistakes, Place, Route
from labkit.cluster.settings import HostSettings, InventorySettings, name_mistake
from labkit.errors import suggestion

__all__ = ["Host", "Inventory", "load"]

#: An inventory as it was read.
Read = Document | ansible.AnsibleDocument

#: What pydantic says, in our words.
_WORDS = {
    "dict_type": "this should be a mapping, key: value",
    "greater_than_equal": "{input} is too small: {ge} or more",
    "int_type": "{input!r} is no whole number",
    "less_than_equal": "{input} is too large: {le} at most",
    "model_type": "this should be a mapping, key: value",
    "too_short": "there is no host: write one, as in cl-1: {{engines: 8}}",
}


@dataclass(frozen=True, slots=True)
class Host:
    """A machine on which engines run, with all that holds for it."""

    name: str
    """Its name in the inventory."""
    pattern: str
    """The key that named it, `cl-[1-4]` for one."""
    address: str
    """What ssh connects to."""
    user: str | None = None
    """The user there; None leaves it to ssh."""
    port: int | None = None
    """Its sshd's port; None leaves it to ssh."""
    identity: str | None = None
    """The file of the private key; None leaves it to ssh."""
    jump: str | None = None
    """The host through which it is reached."""
    python: str = "python3"
    """The interpreter of the engines; ``bundle`` when labkit makes an environment."""
    directory: str | None = None
    """Where they work; None is the user's home."""
    env: dict[str, str] = field(default_factory=dict)
    """Their environment variables."""
    engines: int | str = "cores"
    """How many: a number, `cores`, or `cores-1`."""
    threads_per_engine: int = 1
    """How many threads numerical libraries use in each."""
    tags: tuple[str, ...] = ()
    """Words that tell kinds of hosts."""
    local: bool = False
    """Whether this is the controller's machine, reached without ssh."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """A checked inventory."""

    file: str
    """Where it was read from."""
    profile: str
    """The IPython profile to generate."""
    controller: str
    """The name of the controller's machine."""
    interface: str
    """The IPv4 address at which it listens; `*` means all."""
    ports: tuple[int, int] | None
    """The first and the last port that it may use; None means any."""
    shared_filesystem: bool | str
    """Whether all hosts see the profile's folder; `"auto"` looks."""
    encryption: bool
    """Whether CurveZMQ encrypts the connections."""
    restarts: int
    """How often an engine that dies is started again."""
    hosts: tuple[Host, ...]
    """The machines on which engines run, in the order of the file."""
    packages: tuple[str, ...] = ()
    """What hosts get beside labkit where it makes their environment."""

    @property
    def engines(self) -> int | None:
        """How many engines all hosts have together; None when some count their cores."""
        counts = [host.engines for host in self.hosts]
        numbers = [count for count in counts if isinstance(count, int)]
        return sum(numbers) if len(numbers) == len(counts) else None

    def host(self, name: str) -> Host | None:
        """Return the host of this name, or None."""
        return next((host for host in self.hosts if host.name == name), None)


def load(path: str | Path) -> Inventory:
    """Read and check an inventory.

    Parameters
    ----------
    path : str or Path
        ``hosts.yaml``, or an inventory of Ansible's in YAML.

    Raises
    ------
    InventoryError
        With every mistake that is in it.
    """
    document = Document.read(Path(path))
    if ansible.is_ansible(document.value):
        return _checked(ansible.AnsibleDocument(document))
    return _checked(document)


def _checked(document: Read) -> Inventory:
    mistakes = document.mistakes
    settings = _settings(document, mistakes)
    if settings is None:
        mistakes.check()
        raise AssertionError("what makes no settings is a mistake")
    hosts = _hosts(settings, document, mistakes)
    for check in (_check_addresses, _check_interface, _check_jumps, _check_packages):
        check(settings, hosts, document, mistakes)
    mistakes.check()
    ports = settings.controller.ports
    first, last = map(int, ports.split("-")) if ports else (0, 0)
    return Inventory(
        file=document.file,
        profile=settings.profile,
        controller=settings.controller.host,
        interface=settings.controller.interface or "127.0.0.1",
        ports=(first, last) if ports else None,
        shared_filesystem=settings.shared_filesystem,
        encryption=settings.encryption,
        restarts=settings.restarts,
        hosts=tuple(hosts),
        packages=tuple(settings.packages),
    )


# ---------- what pydantic finds ----------


def _settings(document: Read, mistakes: Mistakes) -> InventorySettings | None:
    """Return what can be understood, and note the rest; None when that is nothing.

    What pydantic refuses is left out, so that the others can be checked together, too.
    """
    value = copy.deepcopy(document.value)
    for is_first in (True, False):
        try:
            return InventorySettings.model_validate(value)
        except ValidationError as e:
            errors = e.errors(include_url=False)
        for error in errors:
            if is_first:
                _add(mistakes, document, error)
            _remove(value, error["loc"])
    return None


def _remove(value: Any, route: Route) -> None:
    for step in route[:-1]:
        value = value[step]
    if route and isinstance(value, dict):
        value.pop(route[-1], None)


def _add(mistakes: Mistakes, document: Read, error: Mapping[str, Any]) -> None:
    if error["type"] == "too_short" and not document.has_all_hosts:
        return
    route = error["loc"]
    unknown = error["type"] == "extra_forbidden"
    place = document.place(route, of_key=unknown)
    if unknown:
        mistakes.add(place, f"unknown key {route[-1]}{suggestion(str(route[-1]), _known(route))}")
    elif error["type"] == "missing":
        mistakes.add(place, f"{route[-1]} is missing: it names the hosts")
    else:
        mistakes.add(place, f"{_named(route)}{_said(error)}")


def _known(route: Route) -> Iterable[str]:
    """Return the keys that may stand beside the last one of a route."""
    model: Any = InventorySettings
    for step in route[:-1]:
        if model is InventorySettings and step == "hosts":
            model = dict
        elif model is dict:
            model = HostSettings
        else:
            model = model.model_fields[step].annotation
    return list(model.model_fields)


def _named(route: Route) -> str:
    return f"{route[-1]}: " if route else ""


def _said(error: Mapping[str, Any]) -> str:
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    words = _WORDS.get(error["type"])
    if words is None:
        return str(error["msg"])
    return words.format(input=error["input"], **error.get("ctx", {}))


# ---------- what only the whole shows ----------


def _names(
    patterns: Iterable[str],
    document: Read,
    mistakes: Mistakes,
) -> list[tuple[str, str]]:
    """Return patterns with each name that they mean, and note those that are there twice."""
    first: dict[str, Place] = {}
    found: list[tuple[str, str]] = []
    for pattern in patterns:
        place = document.place(("hosts", pattern), of_key=True)
        try:
            names = expand(pattern)
        except RangeMistake as e:
            mistakes.add(place.after(e.offset), e.what)
            continue
        if wrong := name_mistake(names[0]):
            mistakes.add(place, wrong)
        for name in names:
            if name in first:
                mistakes.add(place, f"{name} is there already, at line {first[name].line}")
                break
            first[name] = place
            found.append((pattern, name))
    return found


def _hosts(
    settings: InventorySettings,
    document: Read,
    mistakes: Mistakes,
) -> list[Host]:
    local = {"localhost", settings.controller.host}
    return [
        _host(name, pattern, settings.hosts[pattern], settings.defaults, name in local)
        # of those that were refused, the names are looked at, too
        for pattern, name in _names(document.value["hosts"], document, mistakes)
        if pattern in settings.hosts
    ]


def _host(
    name: str, pattern: str, own: HostSettings, defaults: HostSettings, is_local: bool
) -> Host:
    said = {
        **_plain(defaults),
        **_plain(own),
        "env": {**defaults.env, **own.env},
        "tags": tuple(dict.fromkeys([*defaults.tags, *own.tags])),
    }
    said.setdefault("local", is_local)
    said.setdefault("address", name)
    return Host(name=name, pattern=pattern, **said)


def _plain(settings: HostSettings) -> dict[str, Any]:
    """Return what is said, ssh's part unfolded."""
    said = settings.model_dump(exclude={"ssh"}, exclude_none=True)
    return {**said, **settings.ssh.model_dump(exclude_none=True)}


def _check_addresses(
    settings: InventorySettings,
    hosts: list[Host],
    document: Read,
    mistakes: Mistakes,
) -> None:
    if settings.defaults.address is not None:
        place = document.place(("defaults", "address"), of_key=True)
        mistakes.add(place, "hosts cannot have one address by default: write it at each")
    counts: dict[str, int] = {}
    for host in hosts:
        counts[host.pattern] = counts.get(host.pattern, 0) + 1
    for pattern, count in counts.items():
        if count > 1 and settings.hosts[pattern].address is not None:
            place = document.place(("hosts", pattern, "address"), of_key=True)
            mistakes.add(place, f"{count} hosts cannot have one address: write them one by one")


def _check_interface(
    settings: InventorySettings,
    hosts: list[Host],
    document: Read,
    mistakes: Mistakes,
) -> None:
    far = next((host.name for host in hosts if not host.local), None)
    controller = document.value.get("controller")
    # it may be there, and wrong
    is_told = isinstance(controller, dict) and "interface" in controller
    if far is not None and not is_told:
        mistakes.add(
            document.place(("controller",)),
            f"controller: interface is missing: the IPv4 address of {settings.controller.host} "
            f"at which {far} reaches it, as in interface: 10.0.0.1",
        )


def _check_packages(
    settings: InventorySettings,
    hosts: list[Host],
    document: Read,
    mistakes: Mistakes,
) -> None:
    if settings.packages and not any(is_sent(host.python) for host in hosts):
        mistakes.add(
            document.place(("packages",), of_key=True),
            f"packages: nobody gets them: hosts that are to say python: {SENT}",
        )


def _check_jumps(
    settings: InventorySettings,
    hosts: list[Host],
    document: Read,
    mistakes: Mistakes,
) -> None:
    by_name = {host.name: host for host in hosts}
    names = {*by_name, settings.controller.host}
    seen: set[tuple[str, str]] = set()
    for host in hosts:
        if host.jump is None or host.local or (host.pattern, host.jump) in seen:
            continue
        seen.add((host.pattern, host.jump))
        own = settings.hosts[host.pattern].ssh.jump is not None
        above = ("hosts", host.pattern) if own else ("defaults",)
        place = document.place((*above, "ssh", "jump"))
        for wrong in _wrong_jumps(host, by_name, names):
            mistakes.add(place, wrong)


def _wrong_jumps(host: Host, by_name: dict[str, Host], names: set[str]) -> Iterator[str]:
    through = by_name.get(host.jump or "")
    if through is host:
        # by default all hosts but the gate itself are behind it
        return
    if through is not None and through.jump not in (None, through.name):
        yield (
            f"jump: {through.name} is itself behind {through.jump}; "
            f"write jump: {through.jump},{through.name}"
        )
    for hop in (host.jump or "").split(","):
        name = sshconfig.host_of(hop)
        if name not in names and not sshconfig.is_known(name):
            yield (
                f"unknown jump host {name}{suggestion(name, names)}; it is not in "
                "~/.ssh/config either, and has no address here"
            )
