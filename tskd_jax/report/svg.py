"""Embeds Matplotlib figures as SVG in an HTML page, in the page's own colours and font."""

import io
import re
from typing import Any

LARGEST_SCALE = 1.6  # relative to a figure's own size, on a wide screen
INK = "#0a0b0c"  # stands for the page's text colour
STYLE = {
    "svg.fonttype": "none",  # text stays text
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
}


def to_svg(figure: Any, name: str, alt: str) -> str:
    """Convert a figure to an `svg` element, and close it; equal figures give equal text.

    Args:
      figure: drawn with `STYLE`.
      name: the figure's name, unique in its page; prefix of its identifiers.
      alt: what the figure shows, for readers who cannot see it.
    """
    import matplotlib
    from markupsafe import escape
    from matplotlib import pyplot as plt

    buffer = io.StringIO()
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata={"Date": None}, dpi=150)
    plt.close(figure)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # Several figures share one page: identifiers must be unique, and the font is the page's.
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", text)
    text = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1; font-family: inherit", text)
    text = text.replace(INK, "currentColor")
    head, _, body = text.partition(">")
    box = re.search(r'viewBox="[^"]* ([\d.]+) [\d.]+"', head)
    assert box is not None
    widest = f"{LARGEST_SCALE * float(box[1]):.0f}px"
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'{box[0]} style="max-width: {widest}" role="img" aria-label="{escape(alt)}">'
    )
    return opening + body
