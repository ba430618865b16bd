"""The three files of a profile, as text that one may read and change."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from labkit.cluster import sshconfig
from labkit.cluster.interpreters import SENT, is_sent
from labkit.engine.threads import THREADS, limited
from labkit.errors import InventoryError

if TYPE_CHECKING:
    from labkit.cluster.inventory import Host, Inventory

    _Describe = Callable[[Inventory, Host], Any]

__all__ = ["CONTROLLER", "ENGINE", "STARTER", "configs"]

#: The files' names.
STARTER, CONTROLLER, ENGINE = (
    f"{program}_config.py" for program in ("ipcluster", "ipcontroller", "ipengine")
)

#: Ports for engines, and for clients; the rest is the controller's own.
_ENGINE_PORTS, _CLIENT_PORTS = 9, 6

_WIDTH = 96


def configs(inventory: Inventory, *, stock: bool = False) -> dict[str, str]:
    """Return the text of each file of a profile.

    Parameters
    ----------
    inventory : Inventory
        The machines.
    stock : bool, optional
        Use ipyparallel's own launcher, so that the controller's machine needs no labkit.

    Raises
    ------
    InventoryError
        When that launcher cannot do what the inventory asks for.
    """
    starter = _stock_starter(inventory) if stock else _starter(inventory)
    controller = _controller(inventory) if stock else _own_controller(inventory)
    texts = {STARTER: starter, CONTROLLER: controller, ENGINE: _engine()}
    return {name: "\n".join([*lines, ""]) for name, lines in texts.items()}


def _head(what: str) -> Iterator[str]:
    yield f'"""{what}"""'
    yield ""
    yield "c = get_config()  # noqa: F821  # IPython defines it where it loads this file"
    yield ""


# ---------- the controller and the engines ----------


def _controller(inventory: Inventory) -> Iterator[str]:
    yield from _head(f"The controller, on {inventory.controller}.")
    yield "# where it listens, and nowhere else"
    yield f"c.IPController.ip = {_literal(inventory.interface)}"
    if inventory.interface == "*":
        yield "# the name by which engines and clients find it"
        yield f"c.IPController.location = {_literal(inventory.controller)}"
    if inventory.ports is not None:
        yield from _ports(*inventory.ports)
    if inventory.encryption:
        yield "# connections are encrypted by CurveZMQ; they are authenticated in any case"
        yield "c.IPController.enable_curve = True"
    yield "# in milliseconds; engines register on a heartbeat, and are lost after 20 missed ones"
    yield "c.HeartMonitor.period = 500"
    yield "c.HeartMonitor.max_heartmonitor_misses = 20"
    yield "# one message waits at an engine while another one runs"
    yield "c.TaskScheduler.hwm = 2"


def _own_controller(inventory: Inventory) -> Iterator[str]:
    yield from _controller(inventory)
    yield "# tasks and their results are still there when the controller was started again"
    yield 'c.IPController.db_class = "labkit.cluster.taskdatabase.TaskDatabase"'


def _ports(first: int, last: int) -> Iterator[str]:
    clients = first + _ENGINE_PORTS
    own = clients + _CLIENT_PORTS
    yield f"# ports {first} to {last}: for engines, for clients, for itself"
    yield f"c.IPController.engine_ports = list(range({first}, {clients}))"
    yield f"c.IPController.client_ports = list(range({clients}, {own}))"
    yield f"c.IPController.ports = list(range({own}, {last + 1}))"


def _engine() -> Iterator[str]:
    yield from _head("Engines, wherever they run.")
    yield "# in seconds; with many engines, the controller needs a while to answer all of them"
    yield "c.IPEngine.timeout = 60"


# ---------- what starts them ----------


def _starter(inventory: Inventory) -> Iterator[str]:
    yield from _head(f"Engines on {_count(inventory)}, started all at once over ssh.")
    yield "# labkit's launcher: a host that cannot be reached does not stop the others"
    yield 'c.Cluster.engine_launcher_class = "labkit"'
    yield "# the controller here, which is stopped with its schedulers"
    yield 'c.Cluster.controller_launcher_class = "labkit"'
    yield "# engines are told where the controller is; they need not wait for it"
    yield "c.Cluster.delay = 0"
    yield "# whether all hosts see this folder at the same path; auto looks"
    yield f"c.HostsLauncher.shared_filesystem = {_literal(inventory.shared_filesystem)}"
    yield "# how often an engine that dies is started again"
    yield f"c.HostsLauncher.restarts = {inventory.restarts}"
    if inventory.packages:
        yield "# what hosts with python: bundle get beside labkit"
        yield f"c.HostsLauncher.packages = {_literal(inventory.packages)}"
    yield f"c.HostsLauncher.engines = {_mapping(_entries(inventory, _settings))}"


def _count(inventory: Inventory) -> str:
    count = len(inventory.hosts)
    return f"{count} host{'s' * (count != 1)}"


def _entries(inventory: Inventory, describe: _Describe) -> Iterator[tuple[str, Any]]:
    """Yield hosts with their settings; those of one pattern together where these are the same."""
    for pattern, group in groupby(inventory.hosts, key=lambda host: host.pattern):
        hosts = list(group)
        described = [describe(inventory, host) for host in hosts]
        if all(each == described[0] for each in described):
            yield pattern, described[0]
        else:
            yield from zip((host.name for host in hosts), described, strict=True)


def _settings(inventory: Inventory, host: Host) -> Any:
    """Return what differs from what the launcher does by itself."""
    said: dict[str, Any] = {"n": host.engines}
    if host.local:
        said["local"] = True
    else:
        # the address comes last
        *words, address = sshconfig.arguments(host, inventory.host(host.jump or ""))
        if address != host.name:
            said["address"] = address
        if words:
            said["ssh_args"] = words
    if host.python != "python3":
        said["python"] = host.python
    if host.directory is not None:
        said["directory"] = host.directory
    if host.threads_per_engine != 1:
        said["threads"] = host.threads_per_engine
    if host.env:
        said["environment"] = host.env
    return said if len(said) > 1 else said["n"]


# ---------- ipyparallel's own launcher ----------


def _stock_starter(inventory: Inventory) -> Iterator[str]:
    _assert_numbers(inventory)
    _assert_own_pythons(inventory)
    yield from _head(f"Engines on {_count(inventory)}, started by ipyparallel's own launcher.")
    yield ""
    yield from _engine_function()
    yield "# an upper limit, which is otherwise the number of this machine's cores"
    yield f"c.Cluster.n = {inventory.engines}"
    if all(host.local for host in inventory.hosts):
        host = inventory.hosts[0]
        yield 'c.Cluster.engine_launcher_class = "local"'
        yield f"c.LocalEngineSetLauncher.engine_cmd = {_command(host)}"
        return
    yield 'c.Cluster.engine_launcher_class = "ssh"'
    yield "# the engines' environment has what is in the connection files"
    yield "c.SSHLauncher.to_send = []"
    if inventory.shared_filesystem is False:
        folder = f".ipython/profile_{inventory.profile}"
        yield f"c.SSHLauncher.remote_profile_dir = {_literal(folder)}"
    yield "# in seconds; how long it takes until an end is noticed, and to stop"
    yield "c.SSHLauncher.poll_seconds = 2"
    yield f"c.SSHEngineSetLauncher.engines = {_mapping(_stock_entries(inventory))}"


def _assert_numbers(inventory: Inventory) -> None:
    uncounted = [host for host in inventory.hosts if not isinstance(host.engines, int)]
    _refuse(inventory, "counts no cores: write engines: 8, or another number, for", uncounted)


def _assert_own_pythons(inventory: Inventory) -> None:
    bare = [host for host in inventory.hosts if is_sent(host.python)]
    what = f"sends no environment, as python: {SENT} asks for: write the path of a Python with"
    _refuse(inventory, f"{what} ipyparallel for", bare)


def _refuse(inventory: Inventory, what: str, hosts: Sequence[Host]) -> None:
    if hosts:
        names = ", ".join(host.name for host in hosts[:5])
        said = f"{inventory.file}: ipyparallel's own launcher {what} {names}"
        raise InventoryError(inventory.file, [said + " and others" * (len(hosts) > 5)])


def _stock_entries(inventory: Inventory) -> Iterator[tuple[str, Any]]:
    for host in inventory.hosts:
        said: dict[str, Any] = {"n": host.engines}
        if host.python != "python3":
            said["remote_python"] = host.python
        if options := _stock_options(inventory, host):
            said |= {"ssh_args": options, "scp_args": options}
        if host.directory is not None:
            said["engine_args"] = [f"--work-dir={host.directory}"]
        yield host.name, {**said, "engine_cmd": _Code(_command(host))}


def _stock_options(inventory: Inventory, host: Host) -> list[str]:
    """Return ssh's arguments in the form that scp takes, too."""
    *words, address = sshconfig.arguments(host, inventory.host(host.jump or ""))
    names = {"-p": "Port", "-l": "User", "-J": "ProxyJump"}
    options = [] if address == host.name else ["-o", f"HostName={address}"]
    for flag, value in zip(words[::2], words[1::2], strict=True):
        options += ["-o", f"{names[flag]}={value}" if flag in names else value]
    return options


def _command(host: Host) -> str:
    """Return the call of the function that the file defines."""
    said = [] if host.python == "python3" else [f"python={_literal(host.python)}"]
    if host.threads_per_engine != 1:
        said.append(f"threads={host.threads_per_engine}")
    if host.env:
        said.append(f"**{_literal(host.env)}")
    return f"engine({', '.join(said)})"


def _engine_function() -> Iterator[str]:
    names = _literal(sorted(limited({THREADS: "1"})))
    yield 'def engine(python="python3", threads=1, **variables):'
    yield '    """Return what starts an engine."""'
    yield "    # not by ipyparallel's environment, in which the connection would be lost"
    yield f"    libraries = {names}"
    yield "    environment = {**dict.fromkeys(libraries, threads), **variables}"
    yield '    variables = [f"{name}={value}" for name, value in environment.items()]'
    yield '    return ["env", *variables, python, "-m", "ipyparallel.engine"]'
    yield ""
    yield ""


# ---------- Python literals ----------


def _mapping(entries: Iterator[tuple[str, Any]]) -> str:
    lines = (f"    {_literal(key)}: {_value(value, 4)}," for key, value in entries)
    return "\n".join(["{", *lines, "}"])


def _value(value: Any, indent: int) -> str:
    """Return a literal in one line, or with a line for each key where that is too long."""
    short = _literal(value)
    if not isinstance(value, Mapping) or len(short) + indent < _WIDTH - 20:
        return short
    margin = " " * (indent + 4)
    lines = (f"{margin}{_literal(key)}: {_literal(each)}," for key, each in value.items())
    return "\n".join(["{", *lines, f"{' ' * indent}}}"])


class _Code(str):
    """What is Python already."""

    __slots__ = ()


def _literal(value: Any) -> str:
    if isinstance(value, _Code):
        return value
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, Mapping):
        return (
            "{" + ", ".join(f"{_literal(k)}: {_literal(each)}" for k, each in value.items()) + "}"
        )
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_literal, value))}]"
    return repr(value)
