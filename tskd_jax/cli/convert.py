"""tskd-jax convert IN OUT.hdf5 [--config.dataset.FIELD=VALUE …]

Converts a dataset from any supported format (docs/datasets.md) to an HDF5 file in D4RL's format,
with the names of its columns.
"""

from tskd_jax.cli.flags import needed, parse
from tskd_jax.cli.new_files import new_file
from tskd_jax.errors import ConfigError
from tskd_jax.machine.signals import Request


def main(argv: list[str], request: Request) -> int:
    """Run the command and return its exit status."""
    del request
    words = [word for word in argv[1:] if not word.startswith("-")]
    given = [word for word in argv[1:] if word.startswith("-")]
    _, config, shown = parse([argv[0], "--config=own", *given], lambda _: None, __doc__ or "")
    if shown:
        return 0
    if len(words) != 2:
        raise ConfigError("tskd-jax convert takes two words: IN OUT.hdf5")
    source, out = words[0], new_file(words[1], (".hdf5", ".h5"))
    from tskd_jax.config import finalize
    from tskd_jax.data import DatasetChecks, save_d4rl
    from tskd_jax.data.load import load_named
    from tskd_jax.run import files

    options = finalize(needed(config))[0].dataset
    warnings: list[str] = []
    checks = DatasetChecks(options.drop_invalid, unordered=options.unordered, warn=warnings.append)
    data, names = load_named(source, checks, options.keys)
    for line in warnings:
        print(f"warning: {line}")
    with files.replacing(out) as temporary:
        save_d4rl(temporary, data, {"origin": f"tskd_jax, from {source}"}, names)
    print(f"{out}: {data.size} transitions, {len(data.lengths)} episodes")
    return 0
