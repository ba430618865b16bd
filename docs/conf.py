"""Sphinx configuration: `make docs` builds with warnings as errors."""

import importlib
import inspect
import re
from typing import Any

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

import labkit
import labkit.matrixprofile

logger = logging.getLogger(__name__)

project = "labkit"
author = "the labkit contributors"
project_copyright = "the labkit contributors, GPL-3.0-or-later"
version = release = labkit.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_click",
]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"labkit {release}"
# "--engines" is to be copied
smartquotes_action = "qe"

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "substitution"]
myst_heading_anchors = 3

napoleon_google_docstring = False
napoleon_use_ivar = True
# what is returned is described in words, which are no references
napoleon_use_rtype = False

# What is inherited from epyc is described by epyc: only labkit's own members
# are listed, and no docstring is taken over.
autodoc_default_options = {"members": True, "show-inheritance": True, "member-order": "bysource"}
autodoc_inherit_docstrings = False
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 88


def is_ours(value: Any) -> bool:
    """Tell whether a class or function is defined in labkit, not re-exported by it."""
    return str(getattr(value, "__module__", "")).partition(".")[0] == "labkit"


def skip_foreign(
    app: Sphinx, what: str, name: str, value: Any, skip: bool, options: Any
) -> bool | None:
    """Leave what labkit re-exports to its own documentation."""
    if (inspect.isclass(value) or inspect.isroutine(value)) and not is_ours(value):
        return True
    return None


def table_of_names() -> str:
    """Return the public names as a Markdown table: name and first line of its docstring."""
    rows = ["| name | what it is |", "|---|---|"]
    for name in labkit.__all__:
        value = getattr(labkit, name)
        described = inspect.isclass(value) or inspect.isroutine(value)
        summary = (inspect.getdoc(value) or "").partition("\n")[0] if described else ""
        if not is_ours(value):
            home = str(getattr(value, "__module__", "epyc")).partition(".")[0]
            rows.append(f"| `{name}` | as in {'epyc' if home == 'typing' else home} |")
        else:
            rows.append(f"| {{py:obj}}`{name} <{value.__module__}.{name}>` | {summary} |")
    return "\n".join(rows)


myst_substitutions = {"public_names": table_of_names()}


def require_public_names(app: Sphinx, env: BuildEnvironment) -> None:
    """Warn of each public name that no page describes."""
    described = {name.rpartition(".")[2] for name in env.get_domain("py").objects}
    for package in (labkit, labkit.matrixprofile):
        for name in package.__all__:
            if is_ours(getattr(package, name)) and name not in described:
                full = f"{package.__name__}.{name}"
                logger.warning("%s is public and on no page of docs/reference", full)


def examples_as_code(app: Sphinx, context: Any, lines: list[str]) -> None:
    """Show the examples of a command as code: a heading, then indented lines."""
    if not any(line.startswith("|   ") for line in lines):
        return
    plain = [line.removeprefix("| ") for line in lines]
    code = ["    " + line.strip() for line in plain if line.startswith(" ")]
    words = [line for line in plain if not line.startswith(" ") and line.strip()]
    lines[:] = [*words, "", ".. code-block:: console", "", *code, ""]


def paths_as_text(app: Sphinx, context: Any, lines: list[str]) -> None:
    """Show a default that is a path as it is typed."""
    lines[:] = [re.sub(r"PosixPath\('(.*?)'\)", r"\1", line) for line in lines]


def setup(app: Sphinx) -> None:
    """Connect the checks above."""
    # A section may be empty while its pages are being written; Sphinx gives
    # this warning no type, so suppress_warnings cannot name it.
    directives = logging.getLogger("sphinx.directives.other").logger
    directives.addFilter(lambda record: getattr(record, "subtype", "") != "empty_glob")
    for room in ("labs", "notebook", "matrixprofile"):
        importlib.import_module(f"labkit.{room}")
    app.connect("autodoc-skip-member", skip_foreign)
    app.connect("env-check-consistency", require_public_names)
    app.connect("sphinx-click-process-epilog", examples_as_code)
    app.connect("sphinx-click-process-options", paths_as_text)
