"""How Sphinx builds the pages of docs/; scripts/docs.sh runs it."""

from __future__ import annotations

import re

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

import als_spark

project = "als_spark"
author = "the authors of als_spark"
project_copyright = author
version = release = als_spark.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

# Markdown. Anchors of headings are those of a code host, so that a link works in both places.
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb"}
# The notebook comes with what it shows; tests/jobs/test_tutorial.py runs it anew.
nb_execution_mode = "off"
nb_output_stderr = "remove"
myst_heading_anchors = 4

# Docstrings in NumPy's style.
napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_class_signature = "mixed"
autodoc_default_options = {"members": True}
python_maximum_signature_line_length = 90

# The pages need no network: the theme brings its styles and scripts, and formulas are plain text.
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_title = "als_spark"
html_copy_source = False
html_show_sphinx = False


def one_attribute_an_entry(
    _app: Sphinx, _what: str, _name: str, _object: object, _options: object, lines: list[str]
) -> None:
    """Repeat an entry ``a, b : type`` of the section "Attributes" for each of its names.

    Napoleon does so for parameters, but takes the later names of attributes for a type.
    """
    head, underline, attributes = "\n".join(lines).partition("\nAttributes\n----------\n")
    entry = re.compile(r"^(\w+(?:, \w+)+)( : .*\n(?:[ ].*\n|\n(?=[ ]))*)", re.MULTILINE)
    spread = entry.sub(
        lambda found: "".join(name + found[2] for name in found[1].split(", ")), f"{attributes}\n"
    )
    lines[:] = (head + underline + spread).splitlines()


def find_public_name(
    app: Sphinx, env: BuildEnvironment, reference: pending_xref, _content: nodes.Element
) -> nodes.Element | None:
    """Lead a docstring's reference to a module's function or class to its public name."""
    name = reference.get("reftarget", "").rpartition(".")[2]
    if reference.get("refdomain") != "py" or name not in als_spark.__all__:
        return None
    text = f"{name}()" if reference["reftype"] == "func" else name
    return env.domains.python_domain.resolve_xref(
        env,
        reference["refdoc"],
        app.builder,
        reference["reftype"],
        f"{als_spark.__name__}.{name}",
        reference,
        nodes.literal(text, text),
    )


def setup(app: Sphinx) -> None:
    """Register the hooks, that of the attributes before Napoleon's."""
    app.connect("autodoc-process-docstring", one_attribute_an_entry, priority=100)
    app.connect("missing-reference", find_public_name)


# A property of one name on two classes (`rank`) is ambiguous only as a bare word of a docstring.
suppress_warnings = ["ref.python"]
