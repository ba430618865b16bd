"""What the system's ssh would do, as it says itself; ``~/.ssh/config`` is read by nobody else."""

from __future__ import annotations

import functools
import shlex
import shutil
import socket
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from labkit.cluster.inventory import Host

__all__ = ["arguments", "effective", "effective_for_all", "host_of", "is_known"]

_LIMIT_S = 10.0

#: How many ssh run at once.
_TOGETHER = 16


def arguments(host: Host, through: Host | None = None) -> list[str]:
    """Return the arguments with which ssh reaches a host, its address last.

    Parameters
    ----------
    host : Host
        The host.
    through : Host, optional
        The host before it, when that is one of the inventory with settings of its own.

    Examples
    --------
    >>> from labkit.cluster.inventory import Host
    >>> arguments(Host("cl-1", "cl-1", "10.0.0.7", user="alice", port=2222, jump="gate"))
    ['-p', '2222', '-l', 'alice', '-J', 'gate', '10.0.0.7']
    """
    said = _options(host)
    if through is not None and through.name != host.name:
        proxy = ["ssh", "-o", "BatchMode=yes", *_options(through), "-W", "[%h]:%p", through.address]
        said += ["-o", f"ProxyCommand={shlex.join(proxy)}"]
    elif host.jump is not None and host.jump != host.name:
        said += ["-J", host.jump]
    return [*said, host.address]


def _options(host: Host) -> list[str]:
    said = []
    if host.port is not None:
        said += ["-p", str(host.port)]
    if host.user is not None:
        said += ["-l", host.user]
    if host.identity is not None:
        # -i would not know what ~ is; ssh reads this as a line of its configuration
        file = f'"{host.identity}"' if " " in host.identity else host.identity
        said += ["-o", f"IdentityFile={file}", "-o", "IdentitiesOnly=yes"]
    return said


def effective(words: Sequence[str]) -> Mapping[str, str]:
    """Return the settings that ssh would use, by name in small letters.

    Parameters
    ----------
    words : sequence of str
        The arguments, the address last. Empty where ssh is not installed or refuses them.
    """
    if shutil.which("ssh") is None:
        return {}
    done = subprocess.run(
        ["ssh", "-G", *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_LIMIT_S,
        check=False,
    )
    settings: dict[str, str] = {}
    for line in done.stdout.splitlines():
        name, _, value = line.partition(" ")
        # the first identity is the one that is tried first
        settings.setdefault(name, value)
    return settings


def effective_for_all(hosts: Sequence[Host]) -> list[Mapping[str, str]]:
    """Return the effective settings of each host."""
    with ThreadPoolExecutor(_TOGETHER) as pool:
        return list(pool.map(lambda host: effective(arguments(host)), hosts))


def host_of(hop: str) -> str:
    """Return the host in ``user@host:port``.

    Examples
    --------
    >>> host_of("alice@gate:2222")
    'gate'
    """
    return hop.rpartition("@")[2].partition(":")[0]


@functools.cache
def is_known(name: str) -> bool:
    """Test whether ssh has another address for a name, or the name has one itself."""
    address = effective([name]).get("hostname", name)
    if address != name:
        return True
    try:
        socket.getaddrinfo(name, None)
    except OSError:
        return False
    return True
