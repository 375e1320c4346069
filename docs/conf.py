"""The documentation site: `sphinx-build -W -n docs docs/_build`."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent)]

import generate
from docstrings import to_rst

import dynprune_env

project = "dynprune"
author = copyright = "The dynprune developers"
version = release = dynprune_env.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
nb_execution_mode = "off"  # the tests execute the notebooks; pages show the outputs that they hold
exclude_patterns = ["_build", "jupyter_execute"]  # what builds leave
html_theme = "furo"
html_title = f"dynprune {version}"
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 4
suppress_warnings = ["myst.header"]  # tables of results begin at any level

default_role = "code"  # docstrings write `name`, as Markdown does
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
napoleon_use_ivar = True
# Types of other libraries, and those of ours that only annotate: nothing is fetched to build this.
nitpick_ignore_regex = [("py:.*", r"(?!dynprune).*"), ("py:class", r"dynprune_env\.\w+\.\w+\..*")]


def setup(app):  # noqa: D103 - Sphinx calls it
    generate.write_pages()
    app.connect("autodoc-process-docstring", to_rst, priority=1)  # before napoleon
    app.connect("source-read", local_links)


def local_links(app, name, source):
    """Points links to files of the repository at their pages, where they have one."""
    if not name.startswith("generated/"):
        folder = Path(app.srcdir, name).parent
        source[0] = generate.with_local_links(source[0], folder, folder)
