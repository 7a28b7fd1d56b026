"""Sphinx configuration: ``make docs``."""

import importlib
import inspect
import os
import re
import warnings
import zlib
from functools import cache
from pathlib import Path

from numpydoc.docscrape import NumpyDocString
from sphinx_gallery.sorting import ExplicitOrder

from skimprint import __version__

DOCS = Path(__file__).parent

project = "skimprint"
author = "The skimprint developers"
copyright = "2026, The skimprint developers"  # noqa: A001 (Sphinx's name for it)
release = __version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "**/GALLERY_HEADER.rst", "sg_execution_times.rst"]
templates_path = ["_templates"]
nitpicky = True
default_role = "py:obj"
smartquotes = False  # default="auto" is code, in types too
# Docstrings inherited from scikit-learn refer to its own user guide and glossary; and
# `autosummary_context` has a function, which cannot be kept between builds.
suppress_warnings = ["ref.ref", "ref.term", "config.cache"]
toc_object_entries_show_parents = "hide"

html_theme = "pydata_sphinx_theme"
html_title = "skimprint"
html_static_path = ["_static"]
html_css_files = ["skimprint.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "navigation_with_keys": False,
    "navbar_align": "left",
    "secondary_sidebar_items": ["page-toc"],
    "show_prev_next": True,
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_sidebars = {"index": [], "install": []}

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 2
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

# Reports that examples save become pages of the site as they are.
reports = DOCS.parent / "examples" / "gallery" / "reports"
reports.mkdir(exist_ok=True)
html_extra_path = [str(reports)]

# API pages: one for each class and function; see also _templates/autosummary.
autosummary_generate = True
autodoc_typehints = "none"  # docstrings say what parameters are
autodoc_preserve_defaults = True  # np.float64, not <class 'numpy.float64'>
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

# Links to other projects need no network: the names that we use, and where they are,
# are listed in _inventories.
intersphinx_mapping = {}
for listing in sorted((DOCS / "_inventories").glob("*.txt")):
    address, *lines = listing.read_text("utf-8").splitlines()
    inventory = DOCS / "_build" / "inventories" / f"{listing.stem}.inv"
    inventory.parent.mkdir(parents=True, exist_ok=True)
    head = f"# Sphinx inventory version 2\n# Project: {listing.stem}\n# Version: \n"
    head += "# The remainder of this file is compressed using zlib.\n"
    inventory.write_bytes(head.encode() + zlib.compress("\n".join(lines).encode()))
    intersphinx_mapping[listing.stem] = (address, str(inventory))

# Examples run while the documentation is built. Models come with packages, and threads
# and libraries that look for a network are told that there is none.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["TQDM_DISABLE"] = "1"
sphinx_gallery_conf = {
    "examples_dirs": "../examples/gallery",
    "gallery_dirs": "gallery",
    "filename_pattern": r"plot_",
    "backreferences_dir": "reference/examples",
    "doc_module": ("skimprint",),
    "reference_url": {"skimprint": None},
    "within_subsection_order": ExplicitOrder(
        [
            f"plot_{name}.py"
            for name in (
                "sort_photos",
                "route_tickets",
                "paint_photo",
                "how_many_shots",
                "zero_to_few_shot",
                "unknown_and_cost",
                "probabilities",
                "network_head",
                "compare_methods",
                "whole_framework",
                "own_parts",
                "explain_and_report",
                "find_wrong_labels",
                "neural_collapse",
                "larger_than_memory",
                "deploy",
                "palettes",
            )
        ]
        + ["*"]
    ),
    "download_all_examples": False,
    "remove_config_comments": True,
    "capture_repr": (),
    "show_memory": False,
    "show_signature": False,
    "min_reported_time": 1e9,
    "write_computation_times": False,
    "image_scrapers": ("matplotlib",),
    "abort_on_example_error": True,
}
warnings.filterwarnings("ignore", message=".*non-interactive.*")


def attributes_in(name):
    """List the attributes that the docstring of a class describes, or a base of it."""
    module, _, cls = name.rpartition(".")
    cls = getattr(__import__(module, fromlist=[cls]), cls)
    entries = NumpyDocString(inspect.getdoc(cls) or "")["Attributes"]
    described = {part.strip() for entry in entries for part in entry.name.split(",")}
    bases = [
        base for base in cls.__mro__[1:] if base.__module__.startswith("skimprint")
    ]
    constants = {
        name
        for base in bases
        for name in vars(base)
        if not isinstance(inspect.getattr_static(cls, name), property)
    }
    return described | constants


@cache
def guide():
    """Read the pages of the guide, in their order: a dict of texts."""
    order = (DOCS / "guide" / "index.md").read_text(encoding="utf-8").split()
    paths = {page: DOCS / "guide" / f"{page}.md" for page in order}
    return {
        page: path.read_text(encoding="utf-8")
        for page, path in paths.items()
        if path.is_file()
    }


def guide_links(name):
    """Write links to the pages of the guide that link to an object, if there are."""
    link = re.compile(rf"\{{py:\w+\}}`[^`]*\b{re.escape(name)}>?`")
    pages = [
        f":doc:`/guide/{page}`" for page, text in guide().items() if link.search(text)
    ]
    return f"*In the guide:* {' | '.join(pages)}\n" if pages else ""


autosummary_context = {"attributes_in": attributes_in, "guide_links": guide_links}


def anchor_attributes(app, what, name, obj, options, lines):
    """Turn numpydoc's list of attributes into objects with an address of their own."""
    if what != "class" or ":Attributes:" not in lines:
        return
    start = lines.index(":Attributes:")
    rest = range(start + 1, len(lines))
    end = next((i for i in rest if lines[i][:1].strip()), len(lines))
    described = [".. rubric:: Attributes", ""]
    for entry in NumpyDocString(inspect.getdoc(obj))["Attributes"]:
        first, *more = (name.strip() for name in entry.name.split(","))
        described += [f".. py:attribute:: {first}", *(f"   {name}" for name in more)]
        described += ["", f"   *{entry.type}*" if entry.type else "", ""]
        described += [f"   {line}" for line in entry.desc] + [""]
    lines[start:end] = described


def describe_fields(app, what, name, obj, options, lines):
    """Say of a field what the docstring of its class says of the parameter."""
    if what != "attribute" or (lines and not lines[0].startswith("Alias for field")):
        return
    of_class, _, field = name.rpartition(".")
    module, _, cls = of_class.rpartition(".")
    cls = getattr(importlib.import_module(module), cls)
    for entry in NumpyDocString(inspect.getdoc(cls))["Parameters"]:
        if entry.name == field:
            lines[:] = [f"*{entry.type}*", "", *entry.desc]


def keep_code(app, env, node, contnode):
    """Leave words in single backticks that name no object as they are: code.

    Modules of skimprint name its classes without it: `ImprintClassifier.fit`.
    """
    if not node.rawsource.startswith("`"):
        return None
    name = f"skimprint.{node['reftarget']}"
    python = env.domains["py"]
    where = (node["refdoc"], app.builder, "obj", name)
    return python.resolve_xref(env, *where, node, contnode) or contnode


def setup(app):
    """Connect what is above."""
    app.connect("autodoc-process-docstring", anchor_attributes, priority=900)
    app.connect("autodoc-process-docstring", describe_fields, priority=100)
    app.connect("missing-reference", keep_code, priority=900)
