"""How the scripts here keep what they draw."""

from pathlib import Path
from typing import Any


def save(figure: Any, path: Path) -> None:
    """Write PATH.png and PATH.svg, and close the figure; the same figure gives the same bytes."""
    import matplotlib
    from matplotlib import pyplot as plt

    with matplotlib.rc_context({"svg.hashsalt": path.name}):
        figure.savefig(path.with_name(f"{path.name}.svg"), metadata={"Date": None})
    figure.savefig(path.with_name(f"{path.name}.png"), dpi=130)
    plt.close(figure)
