"""What an inventory may say, key by key; the models check it, and editors get them as a schema."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Any, Literal

from packaging.requirements import InvalidRequirement, Requirement
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from labkit.cluster.interpreters import SENT

__all__ = ["ControllerSettings", "HostSettings", "InventorySettings", "SSHSettings", "name_mistake"]

#: ipyparallel's controller binds this many: 9 for engines, 6 for clients, 3 of its own.
PORTS_NEEDED = 18

_ENGINES = r"cores(-[1-9][0-9]*)?"
_PORTS = r"[0-9]+-[0-9]+"
_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _engines(value: Any) -> Any:
    if _whole(value) and value >= 1:
        return value
    if isinstance(value, str) and re.fullmatch(_ENGINES, value):
        return value
    if _whole(value) and value == 0:
        raise ValueError("0 starts none: leave the host out instead")
    raise ValueError(f"{value!r} is no number of engines: write 1 or more, cores, or cores-1")


def _ports(value: Any) -> Any:
    if not isinstance(value, str) or not re.fullmatch(_PORTS, value):
        raise ValueError(f"{value!r} is no range of ports: write it as 10000-10099")
    first, last = map(int, value.split("-"))
    if not 1 <= first <= last <= 65535:
        raise ValueError(f"{value}: ports go from 1 to 65535, the smaller one first")
    if last - first + 1 < PORTS_NEEDED:
        raise ValueError(f"{value} has {last - first + 1} ports: a controller needs {PORTS_NEEDED}")
    return value


def _interface(value: Any) -> Any:
    if value == "*":
        return value
    try:
        return str(ipaddress.IPv4Address(value))
    except ValueError:
        raise ValueError(
            f"{value!r} is no IPv4 address of the controller's machine; * means all it has"
        ) from None


def _shared(value: Any) -> Any:
    words = {"yes": True, "no": False, True: True, False: False, "auto": "auto"}
    if not isinstance(value, str | bool) or value not in words:
        raise ValueError(f"{value!r} should be yes, no or auto")
    return words[value]


def _flag(value: Any) -> Any:
    if value in ("yes", "no"):
        return value == "yes"
    if not isinstance(value, bool):
        raise ValueError(f"{value!r} should be yes or no")
    return value


def _word(value: Any) -> Any:
    """Check what becomes a word of an ssh command, so that it is no option or path."""
    if not isinstance(value, str) or not _WORD.fullmatch(value):
        raise ValueError(
            f"{value!r} should be a name: letters, digits, dots, dashes and underscores, "
            "and a letter or digit first"
        )
    return value


def _jump(value: Any) -> Any:
    if not isinstance(value, str) or not all(
        re.fullmatch(r"(?:[\w.]+@)?[\w][\w.-]*(?::[0-9]+)?", hop, re.ASCII)
        for hop in value.split(",")
    ):
        raise ValueError(f"{value!r} is no jump host: write gate, or alice@gate:2222")
    return value


def _line(value: Any) -> Any:
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ValueError(f"{value!r} should be one line of text; quote it")
    if value.startswith("-"):
        raise ValueError(f"{value!r} begins with a dash, as an option does")
    return value


def _python(value: Any) -> Any:
    value = _line(value)
    if value.startswith(f"{SENT}:") and not value.partition(":")[2].strip():
        raise ValueError(f"{value!r} has no path: write {SENT}, or {SENT}:/path/to/python3")
    return value


def _packages(value: Any) -> Any:
    value = [value] if isinstance(value, str) else value
    if not isinstance(value, list):
        raise ValueError(f"{value!r} should be a list of packages: [scikit-learn]")
    for package in value:
        try:
            Requirement(package)
        except (InvalidRequirement, TypeError):
            raise ValueError(f"{package!r} is no package, as pip install takes it") from None
    return value


def _environment(value: Any) -> Any:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"{value!r} should be a mapping: {{NAME: value}}")
    for name, text in value.items():
        if not _VARIABLE.fullmatch(name):
            raise ValueError(f"{name!r} is no name of an environment variable")
        if isinstance(text, bool) or not isinstance(text, str | int | float):
            raise ValueError(f"{name}: {text!r} is no text; quote it")
        if "\0" in str(text) or "\n" in str(text):
            raise ValueError(f"{name} has more than one line")
    return {name: str(text) for name, text in value.items()}


def _tags(value: Any) -> Any:
    value = [value] if isinstance(value, str) else value
    if not isinstance(value, list):
        raise ValueError(f"{value!r} should be a list of tags: [big, gpu]")
    return [_word(tag) for tag in value]


def _empty(value: Any) -> Any:
    """Take ``cl-1:`` with nothing behind it for ``cl-1: {}``."""
    return {} if value is None else value


def name_mistake(name: str) -> str | None:
    """Return what is wrong with the name of a host, or None."""
    if _WORD.fullmatch(name):
        return None
    user, at, rest = name.rpartition("@")
    if at:
        return f"{name}: write the user as a setting: {rest}: {{user: {user}}}"
    host, colon, port = name.partition(":")
    if colon and port.isdecimal():
        return f"{name}: write the port as a setting: {host}: {{ssh: {{port: {port}}}}}"
    return f"{name!r} is no name of a host"


_Text = {"type": "string"}
_Texts = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
Word = Annotated[str, BeforeValidator(_word), WithJsonSchema(_Text)]
Line = Annotated[str, BeforeValidator(_line), WithJsonSchema(_Text)]
Jump = Annotated[str, BeforeValidator(_jump), WithJsonSchema(_Text)]
Interface = Annotated[str, BeforeValidator(_interface), WithJsonSchema(_Text)]
Ports = Annotated[
    str, BeforeValidator(_ports), WithJsonSchema({"type": "string", "pattern": f"^{_PORTS}$"})
]
Engines = Annotated[
    int | str,
    BeforeValidator(_engines),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1},
                {"type": "string", "pattern": f"^{_ENGINES}$"},
            ]
        }
    ),
]
Shared = Annotated[
    bool | Literal["auto"],
    BeforeValidator(_shared),
    WithJsonSchema({"enum": [True, False, "yes", "no", "auto"]}),
]
Flag = Annotated[bool, BeforeValidator(_flag), WithJsonSchema({"enum": [True, False, "yes", "no"]})]
Environment = Annotated[
    dict[str, str],
    BeforeValidator(_environment),
    WithJsonSchema(
        {"type": "object", "additionalProperties": {"type": ["string", "integer", "number"]}}
    ),
]
Tags = Annotated[list[str], BeforeValidator(_tags), WithJsonSchema(_Texts)]
Packages = Annotated[list[str], BeforeValidator(_packages), WithJsonSchema(_Texts)]
# editors offer the word
Python = Annotated[
    str, BeforeValidator(_python), WithJsonSchema({"anyOf": [{"const": SENT}, {"type": "string"}]})
]


class _Settings(BaseModel):
    """Refuses what it does not know, and converts nothing."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class SSHSettings(_Settings):
    """How ssh reaches a host. What is not said here, ~/.ssh/config says."""

    port: int | None = Field(default=None, ge=1, le=65535, description="The port of its sshd.")
    identity: Line | None = Field(default=None, description="The file of the private key.")
    jump: Jump | None = Field(
        default=None,
        description="The host through which it is reached: another one of the inventory, "
        "or as ssh -J takes it, `alice@gate:2222`.",
    )


class HostSettings(_Settings):
    """One host, or what holds for all of them."""

    address: Word | None = Field(
        default=None,
        description="The name or address that ssh connects to; by default the host's name.",
    )
    user: Word | None = Field(default=None, description="The user there.")
    python: Python | None = Field(
        default=None,
        description="The Python there that has labkit; by default `python3`, and on the "
        "controller's machine the one that starts the cluster. With `bundle`, labkit makes an "
        "environment there, of wheels that it sends; `bundle:/path/to/python3` says by which "
        "Python.",
    )
    directory: Line | None = Field(
        default=None, description="Where engines work; by default the user's home."
    )
    env: Environment = Field(default_factory=dict, description="Environment variables of engines.")
    engines: Engines | None = Field(
        default=None,
        description="How many engines: a number, `cores` (one for each `threads_per_engine` "
        "cores, the default), or `cores-1`, to leave some cores alone.",
    )
    threads_per_engine: int | None = Field(
        default=None,
        ge=1,
        le=4096,
        description="How many threads numerical libraries may use in each; by default 1.",
    )
    tags: Tags = Field(default_factory=list, description="Words by which to tell kinds of hosts.")
    local: Flag | None = Field(
        default=None,
        description="Whether this is the controller's own machine, which needs no ssh; by "
        "default it is, when it is called `localhost` or as the controller's host.",
    )
    ssh: Annotated[SSHSettings, BeforeValidator(_empty)] = Field(
        default_factory=SSHSettings, description="How ssh reaches it."
    )


class ControllerSettings(_Settings):
    """The machine from which engines get their work, and where `ipcluster` is run."""

    host: Word = Field(default="localhost", description="Its name.")
    interface: Interface | None = Field(
        default=None,
        description="Its IPv4 address at which engines and clients reach it; `*` means all "
        "addresses. Needed as soon as a host is not local.",
    )
    ports: Ports | None = Field(
        default=None,
        description=f"The ports that it may use, at least {PORTS_NEEDED}, as in `10000-10099`; "
        "by default any that are free.",
    )


class InventorySettings(_Settings):
    """An inventory: the machines of a cluster."""

    profile: Word = Field(default="cluster", description="The IPython profile to generate.")
    controller: Annotated[ControllerSettings, BeforeValidator(_empty)] = Field(
        default_factory=ControllerSettings,
        description="Where the controller runs.",
    )
    shared_filesystem: Shared = Field(
        default="auto",
        description="Whether all hosts see the profile's folder at the same path; `auto` looks.",
    )
    encryption: Flag = Field(
        default=False,
        description="Whether connections are encrypted by CurveZMQ; they always have a key.",
    )
    restarts: int = Field(
        default=5, ge=0, le=1000, description="How often an engine that dies is started again."
    )
    packages: Packages = Field(
        default_factory=list,
        description="What hosts with `python: bundle` get beside labkit and what it requires: "
        "packages that are installed where the cluster is started.",
    )
    defaults: Annotated[HostSettings, BeforeValidator(_empty)] = Field(
        default_factory=HostSettings, description="What holds for hosts that say nothing."
    )
    hosts: dict[str, Annotated[HostSettings, BeforeValidator(_empty)]] = Field(
        min_length=1,
        description="The hosts, by name; `cl-[1-4]` and `n[01-16,20]` are several of them.",
    )
