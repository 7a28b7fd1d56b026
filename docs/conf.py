"""Sphinx configuration: ``make docs``."""

from skimprint import __version__

project = "skimprint"
author = "The skimprint developers"
copyright = "2026, The skimprint developers"  # noqa: A001 (Sphinx's name for it)
release = __version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
]
exclude_patterns = ["_build"]
autosummary_generate = True
numpydoc_show_class_members = False
numpydoc_xref_param_type = False
default_role = "literal"
# Docstrings inherited from scikit-learn refer to its own user guide and glossary.
suppress_warnings = ["ref.ref", "ref.term"]
html_theme = "pydata_sphinx_theme"
html_title = "skimprint"
html_show_sourcelink = False
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 2
