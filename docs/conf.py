"""Configuration of the documentation site: ``make docs`` writes it to ``docs/_build``."""

from __future__ import annotations

import os
import sys
from importlib import metadata
from pathlib import Path

os.environ["COLUMNS"] = "100"  # the width of usage lines
# nnU-Net names the variables that are not set each time it is imported
for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
    os.environ.setdefault(variable, "/not/used/here")
sys.path.insert(0, str(Path(__file__).parent))

import catalogue  # noqa: E402

project = "nnunetv2-sam2-3dmed"
author = "The nnunetv2-sam2-3dmed contributors"
copyright = author
release = metadata.version("nnunetv2-sam2-3dmed")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"{project} {release}"
html_copy_source = False

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4
# pages also read well on GitHub, where links to files of the repository work as they are
myst_url_schemes = {"http": None, "https": None}

autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False


def setup(app) -> None:
    """Fill the placeholders of pages that are generated from the code."""
    app.connect("source-read", lambda _app, _page, source: source.__setitem__(0, catalogue.filled(source[0])))
