"""tskd-jax report RUN

Makes the table, the figures and report.html of a finished run again, from its folder alone.
"""

import os
from pathlib import Path

from tskd_jax.cli.flags import parse_words
from tskd_jax.errors import ConfigError
from tskd_jax.machine.signals import Request


def main(argv: list[str], request: Request) -> int:
    """Run the command and return its exit status."""
    del request
    _, words, shown = parse_words(argv, lambda _values: None, __doc__ or "")
    if shown:
        return 0
    if len(words) != 1:
        raise ConfigError("tskd-jax report takes the folder of one run")
    from tskd_jax.report import figures, html, summary, table

    folder = Path(os.path.expanduser(words[0]))
    found = summary.read(folder)
    print(table.table(found))
    drawn = figures.draw(folder, found)
    print(f"\ndrawn: {', '.join(str(folder / name) for name in drawn)}")
    print(f"report: {html.write(folder, found)}")
    return 0
