"""The rule between the rooms of the package: an import goes down only (CONTRIBUTING.md)."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "tskd_jax"
# From the bottom up; rooms on a line do not know each other.
LEVELS = (
    ("errors",),
    ("fields", "contract"),
    ("machine", "policy"),
    ("nn",),
    ("training", "diffusion", "data", "export"),
    ("run", "envs"),
    ("models",),
    ("teacher", "stitching"),
    ("evaluation", "methods"),
    ("presets",),
    ("config",),
    ("report", "costs"),
    ("cli",),
    ("main", "__main__"),
)
KNOW_THE_FOLDER = ("methods", "report", "costs", "cli")
LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}
# Within methods/ only these may be imported by a method.
SHARED_BY_METHODS = ("base", "parts", "checks", "__init__")


def room(module: str) -> str:
    """The room of a dotted name below the package, or of its own file."""
    return module.split(".")[0]


def imports(path: Path, package: Path = PACKAGE) -> list[tuple[int, str]]:
    """(line, dotted name below the package) of what a file imports, wherever it does."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(package.name):
            inside = (node.module or "").removeprefix(package.name).lstrip(".")
            for alias in node.names:
                name = f"{inside}.{alias.name}" if inside else alias.name
                found.append((node.lineno, name))
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith(f"{package.name}."):
                    found.append((node.lineno, alias.name.removeprefix(f"{package.name}.")))
    return found


def refused(package: Path = PACKAGE) -> list[str]:
    """Every import that the rule refuses, in words."""
    arrows = []
    for path in sorted(package.rglob("*.py")):
        source = ".".join(path.relative_to(package).with_suffix("").parts)
        if source == "__init__":  # loads names lazily, for users
            continue
        for line, target in imports(path, package):
            if room(target) not in LEVEL:  # a name of the package itself, such as __version__
                continue
            arrow = f"{path.name}:{line}: {source} imports {target}"
            if room(source) == room(target):
                siblings = (
                    room(source) == "methods" and source.split(".")[1] not in SHARED_BY_METHODS
                )
                if siblings and target.split(".")[1] not in SHARED_BY_METHODS:
                    arrows.append(f"{arrow}: no method imports another")
            elif LEVEL[room(source)] <= LEVEL[room(target)]:
                arrows.append(f"{arrow}: {room(target)} is not below {room(source)}")
            elif room(target) == "run" and room(source) not in KNOW_THE_FOLDER:
                arrows.append(f"{arrow}: {room(source)} does not know that there is a folder")
    return arrows


def test_imports_go_down():
    assert refused() == []


def test_every_file_has_a_room():
    rooms = {path.relative_to(PACKAGE).with_suffix("").parts[0] for path in PACKAGE.rglob("*.py")}
    assert rooms - {"__init__"} <= set(LEVEL)


def test_the_house_is_drawn_whole():
    """Every module stands in CONTRIBUTING's tree; of methods and formats the rooms are enough."""
    text = (PACKAGE.parent / "CONTRIBUTING.md").read_text()
    tree = text.partition("    tskd_jax/\n")[2].partition("    configs/")[0]
    drawn = set(re.findall(r"\w+", tree))
    crowds = {"methods", "formats", "parts"}
    named = {
        path.stem
        for path in PACKAGE.rglob("*.py")
        if not path.stem.startswith("__") and path.parent.name not in crowds
    }
    assert sorted(named - drawn) == []


def test_a_long_file_says_why():
    root, long = PACKAGE.parent, []
    for folder in ("tskd_jax", "configs", "experiments", "tests"):
        for path in sorted((root / folder).rglob("*.py")):
            text = path.read_text()
            reason = "300 lines:" in (ast.get_docstring(ast.parse(text)) or "")
            if len(text.splitlines()) > 300 and not reason:
                long.append(path.relative_to(root).as_posix())
    assert long == []


@pytest.mark.parametrize(
    ("file", "line", "reason"),
    [
        ("machine/planted.py", "from tskd_jax.models import value", "models is not below machine"),
        ("teacher/planted.py", "import tskd_jax.stitching.stitch", "not below teacher"),
        ("methods/planted.py", "from tskd_jax.methods.bc import train", "no method imports"),
        ("models/planted.py", "from tskd_jax.run import checkpoints", "there is a folder"),
        ("evaluation/planted.py", "import tskd_jax.run.files", "there is a folder"),
    ],
)
def test_a_planted_import_is_refused(tmp_path, file, line, reason):
    package = tmp_path / "tskd_jax"
    (package / file).parent.mkdir(parents=True)
    (package / file).write_text(f"def f():\n    {line}\n")
    (arrow,) = refused(package)
    assert "planted.py:2" in arrow
    assert reason in arrow
