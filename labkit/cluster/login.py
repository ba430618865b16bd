"""How this machine logs in to another one by the system's ssh, and why it was not let in."""

from __future__ import annotations

import re

from labkit.errors import HostUnreachableError, ParameterError

__all__ = ["CONNECT_S", "NO_FORWARDS", "UNASKED", "checked", "refusal", "ssh"]

#: How long ssh may take to reach a machine, in seconds.
CONNECT_S = 5

#: Nobody is there to type a password. Where ``~/.ssh/config`` has a connection shared or a
#: command executed, this is for people at a terminal; a connection that is shared already is used.
_SSH = (
    "ssh",
    "-T",
    *("-o", "BatchMode=yes"),
    *("-o", "ControlMaster=no"),
    *("-o", "RemoteCommand=none"),
    *("-o", "LogLevel=ERROR"),
)

#: So are ports that it has forwarded, which may be in use. A tunnel has some of its own.
NO_FORWARDS = ("-o", "ClearAllForwardings=yes")

#: Jump hosts are reached by an ssh of their own, to which no option says that nobody is there.
UNASKED = {"SSH_ASKPASS_REQUIRE": "never"}

_BY_HAND = "log in by hand once ({command}), "

#: What ssh says, and what is to be done about it, unless it passes by itself.
_REMEDIES = (
    (r"REMOTE HOST IDENTIFICATION HAS CHANGED", "ask who keeps the machine why its key changed"),
    (r"Host key verification failed", _BY_HAND + "and compare the key that ssh shows"),
    (
        r"Permission denied|Too many authentication failures",
        "is the user right? A key is needed, as there is nobody to type a password: "
        "ssh-copy-id {destination}, and for a key with a passphrase ssh-add",
    ),
    (r"Bad configuration option|[Bb]ad owner or permissions|keyword .* extra", "mend that file"),
)


def ssh(*options: str, connect_s: float = CONNECT_S) -> list[str]:
    """Return how a command begins that logs in, and asks nobody.

    Parameters
    ----------
    *options : str
        What else ssh is told.
    connect_s : float, optional
        How long it may take to reach the machine, in seconds.
    """
    return [*_SSH, "-o", f"ConnectTimeout={max(1, round(connect_s))}", *options]


def checked(destination: str) -> str:
    """Return where ssh is to log in, if it can be nothing else than that.

    Raises
    ------
    ParameterError
        When ssh would take it for an option.

    Examples
    --------
    >>> checked("alice@cl-0")
    'alice@cl-0'
    """
    if not re.fullmatch(r"[^-\s][^\s]*", destination) or not destination.isprintable():
        raise ParameterError(
            f"{destination!r} is no machine to log in to: write alice@cl-0, "
            "or a name that ~/.ssh/config has"
        )
    return destination


def refusal(destination: str, told: str) -> HostUnreachableError:
    """Return the error that ssh's last words mean.

    Parameters
    ----------
    destination : str
        Where it was to log in.
    told : str
        What it has said.
    """
    lines = told.strip().splitlines()
    said = lines[-1].removeprefix("ssh: ").strip().rstrip(".") if lines else "no connection"
    for pattern, remedy in _REMEDIES:
        if re.search(pattern, told):
            what = remedy.format(destination=destination, command=f"ssh {destination}")
            return HostUnreachableError(
                f"{destination} does not let ssh in: {said}; {what}", may_pass=False
            )
    return HostUnreachableError(
        f"{destination} cannot be reached: {said}. Does ssh {destination} work? "
        "Is this machine in the network, and that one up?"
    )
