"""Feeds the loaders thousands of damaged files: each must be loaded right or refused in one line.

python -m experiments.hardening.fuzz --datasets=2000 --students=500 --seed=0

A dataset goes through the command (`--stop_after=dataset`), a student through `load_policy`, one
after the other in a process of their own, so that a crash and a hang (10 s) are seen. What is
loaded must be finite, and stay so in what is computed of it first. Exit status 1 if one file is
neither; the files are made again from the seed and their number: --only=dataset:17.

One file over 300 lines: a list of ways to damage a file, and nothing else.
"""

import contextlib
import io
import multiprocessing
import sys
import tempfile
import zipfile
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
from absl import app, flags

ROOT = Path(__file__).parents[2]
DATASETS = flags.DEFINE_integer("datasets", 2000, "Mutated HDF5 files.")
STUDENTS = flags.DEFINE_integer("students", 500, "Mutated student files.")
SEED = flags.DEFINE_integer("seed", 0, "Of the mutations.")
ONLY = flags.DEFINE_string("only", None, "KIND:NUMBER: this file alone, and keep it.")
PATIENCE = 10.0  # seconds a file
STATES, ACTIONS = 11, 3
DATASET_KINDS = ("bytes", "bytes", "truncated", "keys", "shape", "type", "values", "odd")
POISONS = (np.nan, np.inf, -np.inf, 1e38, -1e300, 1e16, 1e-40, -1, 0.5, 2**31)


def dataset(rng: np.random.Generator, path: Path) -> str:
    """Write a mutated dataset; gives the mutation's name."""
    columns = _columns(rng)
    options = [{}, {"compression": "gzip"}, {"chunks": True, "fletcher32": True}][rng.integers(3)]
    kind = str(rng.choice(DATASET_KINDS))
    key = str(rng.choice(list(columns)))
    column = columns[key]
    if kind == "keys":
        for name in rng.choice(list(columns), rng.integers(1, 4), replace=False):
            del columns[str(name)]
    elif kind == "shape":
        columns[key] = _other_shape(rng, column)
    elif kind == "type":
        columns[key] = _other_type(rng, column)
    elif kind == "values":
        columns[key] = column = np.array(column, np.float64)
        rows = rng.choice(len(column), rng.integers(1, len(column)), replace=False)
        column[rows] = rng.choice(POISONS)
    minari = rng.random() < 0.3
    with h5py.File(path, "w") as file:
        (_write_minari if minari else _write_d4rl)(file, columns, options)
        if kind == "odd":
            _make_odd(rng, file)
    if kind in ("bytes", "truncated"):
        _damage(rng, path, kind)
    return f"{'Minari' if minari else 'D4RL'}, {kind}"


def _columns(rng: np.random.Generator) -> dict[str, np.ndarray]:
    rows = int(rng.integers(2, 60))
    ends = rng.random(rows) < 0.2
    ends[-1] = True
    terminals = ends & (rng.random(rows) < 0.5)
    return {
        "observations": rng.normal(size=(rows, STATES)).astype(np.float32),
        "actions": rng.uniform(-1, 1, (rows, ACTIONS)).astype(np.float32),
        "rewards": rng.normal(size=rows).astype(np.float32),
        "terminals": terminals,
        "timeouts": ends & ~terminals,
        "next_observations": rng.normal(size=(rows, STATES)).astype(np.float32),
    }


def _write_d4rl(file, columns, options) -> None:
    for key, column in columns.items():
        file.create_dataset(key, data=column, **(options if np.ndim(column) else {}))


def _write_minari(file, columns, options) -> None:
    """Two episodes of the same arrays; mutated ones where a name fits."""
    for number in range(2):
        group = file.create_group(f"episode_{number}")
        for key, column in columns.items():
            name = {"terminals": "terminations", "timeouts": "truncations"}.get(key, key)
            if key == "next_observations":
                continue
            if key == "observations" and np.ndim(column):
                column = np.concatenate([column, column[-1:]])
            group.create_dataset(name, data=column, **(options if np.ndim(column) else {}))


def _other_shape(rng, column):
    rows = len(column)
    return [
        lambda: column[: rng.integers(0, rows)],
        lambda: column.reshape(rows, -1, 1),
        lambda: column.reshape(-1),
        lambda: column[:0],
        lambda: column[0],
        lambda: np.float32(1.0),
        lambda: np.repeat(column, 2, 0),
        lambda: column.reshape(rows, -1)[:, :0],
        lambda: column.reshape(rows, -1)[:, :1],
        lambda: column.T,
    ][rng.integers(10)]()


def _other_type(rng, column):
    kinds = ("f2", "f8", ">f4", "i1", "u8", "i8", "S3", "c8", "bool", "f4")
    with np.errstate(all="ignore"):
        return column.astype(kinds[rng.integers(len(kinds))])


def _make_odd(rng, file) -> None:
    """What the format allows and nobody expects."""
    group = file.get("episode_0", file)
    key = str(rng.choice(list(group)))
    shape = group[key].shape
    del group[key]
    [
        lambda: group.__setitem__(key, h5py.SoftLink("/nowhere")),
        lambda: group.__setitem__(key, h5py.SoftLink("/")),
        lambda: group.__setitem__(key, h5py.ExternalLink("/etc/passwd", "/x")),
        lambda: group.create_group(key),
        lambda: group.create_dataset(key, (10**12, *shape[1:]), "f4", chunks=True),
        lambda: group.create_dataset(key, (10**7, 10**6), "f8", chunks=(1, 1000)),
        lambda: group.create_dataset(key, data=h5py.Empty("f4")),
        lambda: group.create_dataset(key, shape, h5py.string_dtype()),
        lambda: group.create_dataset(key, shape, h5py.vlen_dtype(np.float32)),
        lambda: group.create_dataset(key, shape, np.dtype([("a", "f4"), ("b", "i4")])),
        lambda: group.create_dataset(key, shape, "f8", external=[("/etc/passwd", 0, 10**4)]),
        lambda: file.__setitem__("episode_00000000000000000000001", 1.0),
        lambda: file.create_group("episode_" + 5000 * "9"),
    ][rng.integers(13)]()


def _damage(rng, path: Path, kind: str) -> None:
    content = bytearray(path.read_bytes())
    if kind == "truncated":
        del content[int(rng.integers(len(content))) :]
    else:
        # Half of the flips where the structures are, at the beginning.
        end = len(content) if rng.random() < 0.5 else min(len(content), 4096)
        for at in rng.integers(end, size=rng.integers(1, 20)):
            content[at] = rng.integers(256)
    path.write_bytes(content)


def student(rng: np.random.Generator, path: Path) -> str:
    """Write a mutated student; gives the mutation's name."""
    sizes = (STATES, 8, 8, ACTIONS)
    ends = -np.ones(ACTIONS, np.float32), np.ones(ACTIONS, np.float32)
    arrays = dict(zip(("action_low", "action_high"), ends, strict=True))
    for i in range(3):
        arrays[f"weight_{i}"] = rng.normal(size=sizes[i : i + 2]).astype(np.float32)
        arrays[f"bias_{i}"] = rng.normal(size=sizes[i + 1]).astype(np.float32)
    kind = str(rng.choice(["bytes", "truncated", "keys", "shape", "type", "values", "header"]))
    key = str(rng.choice(list(arrays)))
    if kind == "keys":
        arrays[str(rng.choice(["weight_9", "bias_x", key]))] = arrays.pop(key)
    elif kind == "shape":
        arrays[key] = _other_shape(rng, np.atleast_1d(arrays[key]))
    elif kind == "type":
        arrays[key] = _other_type(rng, arrays[key])
        if rng.random() < 0.3:
            arrays[key] = np.array([arrays[key], None], object)
    elif kind == "values":
        column = np.array(arrays[key])
        with np.errstate(all="ignore"):
            column.reshape(-1)[rng.integers(column.size)] = rng.choice(POISONS)
        arrays[key] = column
    with path.open("wb") as file:
        np.savez(file, **arrays)
    if kind == "header":
        _lie(rng, path)
    if kind in ("bytes", "truncated"):
        _damage(rng, path, kind)
    return kind


def _lie(rng, path: Path) -> None:
    """Change an array's header, inside an archive that is whole."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = str(rng.choice(list(members)))
    content = members[name]
    lies = [
        (b"(11, 8)", b"(10**9,8)"),
        (b"'shape': (", b"'shape': (1000000000000, "),
        (b"'<f4'", b"'|O'"),
        (b"'<f4'", b"'<f8'"),
        (b"False", b"True "),
        (b"\x93NUMPY\x01", b"\x93NUMPY\x03"),
        (b"{", b"__import__('os')"),
    ]
    before, after = lies[rng.integers(len(lies))]
    members[name] = content.replace(before, after, 1)
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in members.items():
            archive.writestr(member, data)


def try_dataset(path: Path) -> str:
    """What the command makes of a file: `loaded`, `refused`, or what is wrong."""
    from tskd_jax.data import fit_normalizer, load_dataset
    from tskd_jax.data.normalizer import KINDS
    from tskd_jax.main import main

    with tempfile.TemporaryDirectory() as folder:
        argv = ["tskd-jax", f"--config={ROOT}/configs/hopper.py", "--stop_after=dataset"]
        argv += [f"--config.dataset.path={path}", f"--workdir={folder}/run"]
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main(argv)
        if status == 2:
            lines = err.getvalue().strip().splitlines()
            one = len(lines) == 1 and lines[0].startswith("tskd-jax: ") and str(path) in lines[0]
            left = list(Path(folder).iterdir())
            return "refused" if one and not left else f"refused, but with {lines} and {left}"
        if status:
            return f"ended with status {status}"
    data = load_dataset(path)
    fields = (data.observations, data.actions, data.rewards, data.next_observations)
    fine = data.lengths.sum() == data.size and (data.lengths > 0).all()
    fine &= all(len(field) == data.size and np.isfinite(field).all() for field in fields)
    fine &= bool(np.isfinite(data.returns()).all() and np.isfinite(data.returns_to_go(0.99)).all())
    for kind in KINDS:
        states = np.asarray(fit_normalizer(kind, data.observations).normalize(data.observations))
        fine &= bool(np.isfinite(states).all())
    return "loaded" if fine else "loaded, but not finite or not whole"


def try_student(path: Path) -> str:
    """What `load_policy` makes of a file."""
    from tskd_jax import PolicyError, load_policy

    try:
        policy = load_policy(path)
    except PolicyError as error:
        one = "\n" not in str(error) and str(path) in str(error)
        return "refused" if one else f"refused, but with {error}"
    states = np.random.default_rng(0).normal(size=(100, len(policy.weights[0])))
    for scale in (0.0, 1.0, 1e5):
        actions = policy(scale * states)
        low, high = np.array(policy.bounds.low), np.array(policy.bounds.high)
        slack = 1e-4 * (high - low)
        if not ((actions >= low - slack) & (actions <= high + slack)).all():
            return "loaded, but its actions are not finite or out of bounds"
    return "loaded"


KINDS = {"dataset": (dataset, try_dataset), "student": (student, try_student)}


def work(kind: str, seed: int, numbers: list[int], connection) -> None:
    """Make and try the files of those numbers; sends (number, mutation, outcome) of each."""
    make, attempt = KINDS[kind]
    with tempfile.TemporaryDirectory() as folder:
        for number in numbers:
            path = Path(folder) / f"{number}.file"
            mutation = make(np.random.default_rng([seed, number]), path)
            connection.send((number, mutation, None))
            try:
                outcome = attempt(path)
            except BaseException as error:
                outcome = f"{type(error).__name__}: {error}"
            connection.send((number, mutation, outcome))
            path.unlink()


def fuzz(kind: str, seed: int, count: int) -> tuple[Counter, list[str]]:
    """(outcomes by mutation, what went wrong) of so many files."""
    outcomes, failures, done = Counter(), [], 0
    context = multiprocessing.get_context("spawn")
    while done < count:
        mine, theirs = context.Pipe()
        arguments = (kind, seed, list(range(done, count)), theirs)
        process = context.Process(target=work, args=arguments, daemon=True)
        process.start()
        theirs.close()
        mutation, patience = "", 120.0  # for the imports
        while done < count:
            try:
                ended = None if mine.poll(patience) else "hangs"
                number, mutation, outcome = (done, mutation, ended) if ended else mine.recv()
            except EOFError:
                process.join()
                number, outcome = done, f"the process died ({process.exitcode})"
            patience = PATIENCE
            if outcome is None:
                continue
            done = number + 1
            outcomes[f"{mutation}: {outcome if outcome in ('loaded', 'refused') else 'WRONG'}"] += 1
            if outcome not in ("loaded", "refused"):
                failures.append(f"{kind}:{number} ({mutation}): {outcome}")
                print(failures[-1], flush=True)
            if outcome == "hangs" or outcome.startswith("the process died"):
                break
        process.join(1.0)
        process.kill()
    return outcomes, failures


def main(_argv) -> None:
    if ONLY.value:
        kind, _, number = ONLY.value.partition(":")
        path = Path(f"{kind}-{number}.file").absolute()
        mutation = KINDS[kind][0](np.random.default_rng([SEED.value, int(number)]), path)
        print(f"{path}: {mutation}: {KINDS[kind][1](path)}")
        return
    wrong = []
    for kind, count in (("dataset", DATASETS.value), ("student", STUDENTS.value)):
        outcomes, failures = fuzz(kind, SEED.value, count)
        wrong += failures
        print(f"{count} files of kind {kind}, seed {SEED.value}: {len(failures)} wrong")
        for name, number in sorted(outcomes.items()):
            print(f"  {number:>5}  {name}")
    if wrong:
        sys.exit(1)


if __name__ == "__main__":
    app.run(main)
