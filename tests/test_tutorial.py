"""docs/tutorial.md is a notebook: its cells run, and print what they should."""

import os
import shutil
import sys
from pathlib import Path

import jupytext
import nbclient
import pytest
from tiny import ROOT

pytestmark = pytest.mark.slow


def test_the_notebook_runs(tmp_path, monkeypatch):
    # Its cells call the command, as it is installed beside this Python.
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    notebook = jupytext.read(ROOT / "docs/tutorial.md")
    monkeypatch.chdir(tmp_path)
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    printed = [
        "".join(output.get("text", "") for output in cell.outputs if output.get("name") == "stdout")
        for cell in cells
    ]
    assert "633 episodes, 120162 transitions" in printed[0]
    assert "normalised score" in printed[1]
    assert "filtered_bc" in printed[2]
    assert printed[3].splitlines()[0] == "69635 parameters"
    assert float(printed[4].split()[1]) > 100
    assert "8 bits change the action" in printed[5]
    if shutil.which("cc"):
        assert printed[6].startswith("its own test: 0\nreturn ")
