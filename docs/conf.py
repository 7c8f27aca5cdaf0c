"""The documentation site: the pages of this folder and a reference made from the docstrings.

make docs builds it, strictly: a link or a reference that leads nowhere ends the build.
"""

import os
import re
import sys
from importlib import metadata

from sphinx.util.nodes import make_refnode

# torch and the models' libraries are imported for their signatures alone
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
sys.path.insert(0, os.path.abspath(".."))

project = "mmdiff-video"
author = "The mmdiff-video developers"
release = metadata.version("mmdiff-video")

extensions = [
    "myst_parser",
    "sphinx.ext.apidoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"mmdiff-video {release}"
myst_heading_anchors = 4
suppress_warnings: list[str] = []

_pages = {
    "separate_modules": True,
    "include_private": False,
    "implicit_namespaces": False,
    "automodule_options": {"members", "show-inheritance", "ignore-module-all"},
}
apidoc_modules = [
    {"path": "../mmdiff_video", "destination": "reference/mmdiff_video", **_pages},
    {"path": "../recon", "destination": "reference/recon", **_pages},
]

autodoc_default_options = {"ignore-module-all": True}
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_class_signature = "separated"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_use_unqualified_type_names = True

# A reference into this project must lead somewhere. What other projects document is not looked up,
# so that the build needs no network.
_OTHERS = (
    "abc accelerate argparse av collections concurrent ctypes dataclasses device diffusers dict"
    " enum float int io logging np numpy os pathlib PIL random str torch transformers tuple types"
    " typing viser"
)
nitpicky = True
nitpick_ignore_regex = [
    (r"py:.*", rf"({'|'.join(_OTHERS.split())})\b.*"),
    (r"py:.*", r".*\.(_?T|Config|Model|Module|Stage|Run|Shard)"),  # type variables
    (r"py:class", r"[A-Za-z]|.*[^\w.].*"),  # of a sentence that napoleon takes for a type
    (r"py:class", r".*\._\w+"),  # what a module keeps to itself
]

_set_aside: dict[str, list[str]] = {}


def _before_napoleon(app, what, name, obj, options, lines):
    """Napoleon takes what stands before a colon in an attribute's docstring for its type."""
    if what in ("attribute", "data", "property"):
        _set_aside[name] = lines[:]
        lines[:] = []


def _after_napoleon(app, what, name, obj, options, lines):
    lines[:] = _set_aside.pop(name, lines)
    for number, line in enumerate(lines):
        if named := re.match(r":ivar [\w, ]+:", line):  # in "near, far" no type comes first
            lines[number] = named[0].replace(", ", ",") + line[named.end() :]


def _resolve_short_name(app, env, node, contnode):
    """``:class:`Task``` means the only Task there is, in whichever module it is documented."""
    domain = env.get_domain("py")
    wanted = node.get("reftarget", "")
    found = {
        name
        for name, entry in domain.objects.items()
        if name.endswith(f".{wanted}") and not entry.aliased
    }
    if not wanted or len(found) != 1:
        return None
    (name,) = found
    entry = domain.objects[name]
    return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, contnode, name)


def setup(app):
    """Connect the above."""
    app.connect("autodoc-process-docstring", _before_napoleon, priority=400)
    app.connect("autodoc-process-docstring", _after_napoleon, priority=600)
    app.connect("missing-reference", _resolve_short_name)
