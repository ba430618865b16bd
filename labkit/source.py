"""What code an experiment is: as it was written, and as it was loaded."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import inspect
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import epyc

from labkit.point import KEY_BYTES

__all__ = ["code_digest", "innermost", "source_digest", "users_classes"]


def source_digest(e: epyc.Experiment) -> str:
    """Return a hash of the source of an experiment's class and of its own bases.

    Comments and layout do not count. A combinator's digest is that of the experiment
    inside.

    Returns
    -------
    str
        32 hexadecimal digits; empty when there is no source, or none but labkit's,
        epyc's and Python's own.

    Examples
    --------
    >>> from labkit import Experiment
    >>> source_digest(Experiment())
    ''
    """
    texts = [ast.unparse(tree) for cls in users_classes(e) for tree in _trees(cls)]
    if not texts:
        return ""
    source = "\n".join(texts).encode(errors="surrogatepass")
    return hashlib.blake2b(source, digest_size=KEY_BYTES).hexdigest()


def code_digest(e: epyc.Experiment) -> str:
    """Return a hash of the compiled code of an experiment's class and of its own bases.

    It tells whether two processes have loaded the same code, which a file that was
    edited in between does not.

    Returns
    -------
    str
        The version of Python, which decides what the code looks like, and 32 hexadecimal
        digits.
    """
    digest = hashlib.blake2b(digest_size=KEY_BYTES)
    for cls in users_classes(e):
        members = sorted(vars(cls).items())
        for function in _functions(member for _, member in members):
            for part in _code(function.__code__):
                digest.update(part)
    return f"{sys.version_info.major}.{sys.version_info.minor}:{digest.hexdigest()}"


def innermost(e: epyc.Experiment) -> epyc.Experiment:
    """Return the experiment inside all combinators, or the experiment itself."""
    while isinstance(e, epyc.ExperimentCombinator):
        e = e.experiment()
    return e


def users_classes(e: epyc.Experiment) -> list[type]:
    """Return the class of an experiment and those of its bases that are nobody else's.

    Of a combinator, those of the experiment inside.
    """
    return [cls for cls in type(innermost(e)).__mro__ if _is_users(cls)]


def _code(code: types.CodeType) -> Iterator[bytes]:
    yield code.co_code
    yield repr(code.co_names).encode(errors="surrogatepass")
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _code(constant)
        else:
            # the order of a set is another in each process
            plain = sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant
            yield repr(plain).encode(errors="surrogatepass")


def _is_users(cls: type) -> bool:
    package = cls.__module__.split(".")[0]
    return cls.__module__ != "labkit.experiment" and package not in {
        "epyc",
        *sys.stdlib_module_names,
    }


def _trees(cls: type) -> Iterator[ast.stmt]:
    try:
        tree = _tree(inspect.getsource(cls))
    except (OSError, TypeError, SyntaxError):
        tree = None
    if isinstance(tree, ast.ClassDef) and tree.name == cls.__name__:
        yield tree
        return
    # a class of a notebook's cell has no file; its functions know their cell
    for function in _functions(vars(cls).values()):
        # one that a decorator made, such as a dataclass's, has no source
        with contextlib.suppress(OSError, TypeError, SyntaxError):
            yield _tree(inspect.getsource(function))


def _tree(text: str) -> ast.stmt:
    # dedenting would change text that spans lines
    block = ast.parse("if 1:\n" + text if text[:1].isspace() else text).body[0]
    return block.body[0] if isinstance(block, ast.If) else block


def _functions(members: Iterable[Any]) -> Iterator[Callable[..., Any]]:
    for member in members:
        inside = getattr(member, "__func__", None) or getattr(member, "fget", None) or member
        if isinstance(inside, types.FunctionType):
            yield inside
