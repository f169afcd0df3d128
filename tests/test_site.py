"""docs/ becomes a site without a warning: links lead somewhere, docstrings are readable."""

import subprocess
import sys

import pytest
from tiny import ROOT


@pytest.mark.slow
def test_the_site_is_built(tmp_path):
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-E"]
    # test_tutorial.py runs the notebook; half of a build is the navigation of the theme.
    command += ["-D", "nb_execution_mode=off", "-D", "html_theme=basic"]
    done = subprocess.run(
        [*command, "-d", tmp_path / "read", ROOT / "docs", tmp_path / "site"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    site = tmp_path / "site"
    front = (site / "index.html").read_text()
    assert "What has and has not been verified" in front
    assert 'href="api/tskd_jax.methods.tskd.html"' in front  # as README names the file
    method = (site / "api/tskd_jax.methods.tskd.html").read_text()
    assert "Figure 1" in method
    assert (site / "_images/scores.png").exists()
