"""How Sphinx makes a site of docs/: `make docs`, then open build/site/index.html."""

import os
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tskd_jax import __version__  # noqa: E402

project, author = "tskd_jax", "the tskd_jax authors"
version = release = __version__
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
templates_path = ["_templates"]
html_theme, html_title = "furo", f"tskd_jax {__version__}"
html_static_path: list[str] = []
html_show_copyright = html_show_sphinx = False
myst_heading_anchors = 4
nb_execution_mode, nb_execution_in_temp, nb_execution_timeout = "force", True, 600
nb_execution_raise_on_error = nb_merge_streams = True
nb_output_stderr = "remove"  # warnings of libraries, with this machine's paths
# The notebook's cells call the command that is installed beside this Python.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
nb_render_markdown_format = "myst"

# Docstrings are plain English: `x` is code, and a lone * or | is itself.
default_role = "code"
autosummary_generate = True
# What a package shows of its modules is described where it is defined, once.
autodoc_default_options = {"members": True, "member-order": "bysource", "ignore-module-all": True}
autodoc_typehints = "none"  # shapes stand in the docstrings, and with full names fill a screen
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
napoleon_use_param = False
suppress_warnings = ["ref.python"]  # types of attributes, which are not all documented names

# Pages whose text stands in the root of the repository; what the page itself holds follows it.
FROM_ROOT = {"index": "README.md", "changelog": "CHANGELOG.md", "contributing": "CONTRIBUTING.md"}
PAGES = {file: page for page, file in FROM_ROOT.items()}
LINK = re.compile(r"(?<!!)\[(?P<label>[^\]]*)\]\((?P<target>[^)#\s]+)(?P<anchor>#[^)]*)?\)")
IMAGE = re.compile(r"(!\[[^\]]*\]\()docs/")


def with_links_of_the_site(text: str, folder: Path) -> str:
    """Markdown whose relative links are the site's: code is its API page, a folder is no link."""

    def replaced(match: re.Match) -> str:
        label, target, anchor = match["label"], match["target"], match["anchor"] or ""
        path = (folder / target).resolve()
        if "://" in target or not path.is_relative_to(ROOT) or not path.exists():
            return match[0]
        inside = path.relative_to(ROOT)
        if inside.parts[0] == "tskd_jax" and (path.is_dir() or path.suffix == ".py"):
            module = ".".join(inside.with_suffix("").parts).removesuffix(".__init__")
            return f"[{label}](api/{module}.rst)"
        if path.is_dir():
            return label
        if str(inside) in PAGES:
            return f"[{label}]({PAGES[str(inside)]}.md{anchor})"
        if inside.parts[0] == "docs":
            return f"[{label}]({inside.relative_to('docs')}{anchor})"
        return f"[{label}](../{inside})"  # the site keeps a copy to download

    return IMAGE.sub(r"\1", LINK.sub(replaced, text))


def read(_app, page: str, content: list[str]) -> None:
    """What Sphinx reads of a page."""
    if page in FROM_ROOT:
        content[0] = with_links_of_the_site((ROOT / FROM_ROOT[page]).read_text(), ROOT) + content[0]
    elif "/" not in page:
        content[0] = with_links_of_the_site(content[0], ROOT / "docs")


def plain(_app, _what, _name, _object, _options, lines: list[str]) -> None:
    """Docstrings as they are meant: indented blocks are code, a lone * or | is itself."""
    made, before, inside = [], "", False
    for line in lines:
        if line.strip():
            behind_a_gap = not (made and made[-1].strip())
            inside = line.startswith("    ") and (inside or behind_a_gap)
            if inside and not before.startswith(" ") and made and made[-1] == "":
                made += ["::", ""]
            before = line
        made.append(line if inside else CODE_OR_MARK.sub(escaped, line))
    lines[:] = made


CODE_OR_MARK = re.compile(r"`[^`]*`|[*|]|(?<=\w)_(?=\W|$)")


def escaped(match: re.Match) -> str:
    """Code as it is, a mark with a backslash."""
    return match[0] if match[0].startswith("`") else f"\\{match[0]}"


def setup(app) -> None:
    """Connect what is above to Sphinx."""
    app.connect("source-read", read)
    app.connect("autodoc-process-docstring", plain, priority=400)  # before Google's sections
