"""Which Python of a host executes what it is sent, as a command for the shell there."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping

__all__ = ["SENT", "command_line", "is_sent"]

#: What an inventory says for an environment that labkit makes; a path may follow a colon.
SENT = "bundle"

#: What the host's Python executes first: it takes the source, which calls main.
_BOOT = "import json,sys;r=json.loads(sys.stdin.readline());exec(r.pop('agent'))"

#: Where wheels and environments are, by the rules of labkit.cache; in one line, for any shell.
_ROOT = (
    'case "$XDG_CACHE_HOME" in /*) ;; *) XDG_CACHE_HOME=$HOME/.cache ;; esac',
    "root=${LABKIT_CACHE:-$XDG_CACHE_HOME/labkit}",
    'case "$root" in "~/"*) root=$HOME/${root#"~/"} ;; esac',
)

_VERSION = "{}.{}".format(*sys.version_info)
_OTHER = f"say python: {SENT}:/path/to/python{_VERSION}"

#: Any Python understands it, and tells the version before it meets what it does not understand.
_GUARD = (
    f"import sys;v=tuple(sys.version_info[:3]);v[:2]=={sys.version_info[:2]} or sys.exit("
    f"'%s is Python %d.%d.%d, and engines need {_VERSION}, as here: install it there, or "
    f"{_OTHER}'%((sys.executable,)+v));"
)


def is_sent(python: str) -> bool:
    """Test whether an inventory's ``python`` means an environment that labkit makes.

    Examples
    --------
    >>> is_sent("bundle"), is_sent("bundle:~/bin/python3.12"), is_sent("python3")
    (True, True, False)
    """
    return python.partition(":")[0] == SENT


def command_line(
    python: str, token: str, environment: Mapping[str, str], venv: str | None = None
) -> str:
    """Return what a host's shell is to execute.

    Parameters
    ----------
    python : str
        The interpreter, as the inventory says it; a leading ``~/`` is the home there.
    token : str
        The agent's.
    environment : mapping of str to str
        The variables of engines.
    venv : str, optional
        The environment whose interpreter is taken if it is there; else it is another one of
        the same version as here, or none.

    Examples
    --------
    >>> command_line("~/venv/bin/python", "t", {}).split(" -c ")[0]
    'exec "$HOME"/venv/bin/python'
    """
    if not is_sent(python):
        return f"exec {_quoted(python)} -c {shlex.quote(_BOOT)} {token}"
    own = python.partition(":")[2]
    candidates = [own] if own else [f"python{_VERSION}", "python3"]
    none = f"no Python starts there, of {', '.join(candidates)}: {_OTHER}"
    words = [*map(_quoted, candidates)]
    if venv is not None:
        # one for each place at which hosts that share this folder have an interpreter
        words.insert(0, f'"$root"/environments/{venv}-*/bin/python')
    told = [
        f"{name}={shlex.quote(environment[name])}"
        for name in ("LABKIT_CACHE", "XDG_CACHE_HOME")
        if name in environment
    ]
    script = "; ".join(
        [
            *told,
            *_ROOT,
            # it may be there and not start: pyenv's, or one whose own has been removed
            f'for python in {" ".join(words)}; do "$python" -c "" 2>/dev/null '
            '&& exec "$python" -c "$1" "$2" "$root"; done',
            f"echo {shlex.quote(none)} >&2",
            "exit 127",
        ]
    )
    boot = _BOOT if venv is None else _GUARD + _BOOT
    return f"exec sh -c {shlex.quote(script)} labkit {shlex.quote(boot)} {token}"


def _quoted(path: str) -> str:
    home, slash, rest = path.partition("~/")
    return f'"$HOME"/{shlex.quote(rest)}' if slash and not home else shlex.quote(path)
