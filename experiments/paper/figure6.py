"""The paper's Figure 6: Figure 3 on HalfCheetah and Walker2d.

    python -m experiments.paper.figure6 --datasets=walker2d:FILE,… [--scale=quick] [--name=NAME]

Everything else is as of `experiments.paper.figure3`.
"""

import sys

from absl import app

from experiments.paper.figure3 import main
from tskd_jax.cli.outcome import run_to_exit_status

if __name__ == "__main__":
    robots = ("halfcheetah", "walker2d")
    app.run(
        lambda _argv: sys.exit(
            run_to_exit_status(lambda request: main(request, "figure6", robots))
        ),
        argv=sys.argv,
    )
