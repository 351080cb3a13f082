"""How Sphinx builds the pages of docs/; scripts/docs.sh runs it."""

from __future__ import annotations

import als_spark

project = "als_spark"
author = "the authors of als_spark"
project_copyright = author
version = release = als_spark.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

# Markdown. A heading's anchor is the one that it has on a code host, so a link works in both places.
source_suffix = {".md": "markdown"}
myst_heading_anchors = 4

# Docstrings in NumPy's style.
napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_class_signature = "mixed"
autodoc_default_options = {"members": True, "show-inheritance": False}
python_maximum_signature_line_length = 90

# The pages need no network: the theme brings its styles and scripts, and formulas are plain text.
html_theme = "furo"
html_title = "als_spark"
html_copy_source = False
html_show_sphinx = False
