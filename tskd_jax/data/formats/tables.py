"""Tables: CSV, read with NumPy; Parquet and Arrow, read with pyarrow (extra `parquet`)."""

import contextlib
import csv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tskd_jax.data.arrays import RANKS, Columns
from tskd_jax.data.formats.budget import COPIES, Budget
from tskd_jax.data.formats.gather import side_by_side
from tskd_jax.data.keys import COLUMNS, Keys, ends_of, find
from tskd_jax.errors import DatasetError, first_line

CSV, PARQUET = (".csv", ".tsv", ".txt"), ".parquet"
DELIMITERS = ",;\t"
WORDS = {"true": 1.0, "false": 0.0}
WIDTHS = {"INT32": 4, "FLOAT": 4, "INT64": 8, "DOUBLE": 8}  # bytes of Parquet's numbers


def read_csv(
    path: Path, keys: Keys, warn: Callable[[str], None], optional: Sequence[str] = ()
) -> Columns:
    """Read the columns of a CSV file whose first line names them.

    Common names: `episode`, `observation_0 …`, `action_0 …`, `reward`, `terminal`, `timeout`.
    Numbers are decimal, flags are 0 and 1 or true and false, episodes are numbers or names. Roles
    in `optional` may be missing.

    Raises:
      DatasetError: a column is missing, lines differ in length, or a value is not a number.
    """
    available, read = csv_columns(path, Budget())
    return _gather(str(path), available, read, keys, warn, optional)


def csv_columns(path: Path, budget: Budget) -> tuple[list[str], Callable[..., np.ndarray]]:
    """(the names in a file's first line; a function that reads named columns as (N, count))."""
    budget.spend(COPIES * path.stat().st_size, str(path))
    with _rows_of_text(path):
        with path.open(newline="", encoding="utf-8-sig") as file:
            line = file.readline()
        delimiter = max(DELIMITERS, key=line.count)
        header = [one.strip() for one in next(csv.reader([line], delimiter=delimiter), [])]
    twice = [one for one in header if header.count(one) > 1]
    problem = ""
    if not header:
        problem = "the file is empty"
    elif all(map(_is_number, header)):
        problem = "the first line holds numbers"
    elif twice:
        problem = f"the column {twice[0]!r} stands twice"
    if problem:
        raise DatasetError(f"{path}: {problem}; the first line names the columns")

    def read(names: Sequence[str], text: bool = False) -> np.ndarray:
        with _rows_of_text(path):
            has_words = not text and _has_words(path, header, names, delimiter)
            return np.loadtxt(
                path,
                dtype=str if text else np.float64,
                delimiter=delimiter,
                skiprows=1,
                usecols=[header.index(one) for one in names],
                ndmin=2,
                comments=None,
                quotechar='"',
                encoding="utf-8-sig",
                converters=_number if has_words else None,
            )

    return header, read


@contextlib.contextmanager
def _rows_of_text(path: Path) -> Iterator[None]:
    """Errors of reading a CSV file inside the block become a DatasetError."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: not a text file in UTF-8; is it a CSV file?") from error
    except csv.Error as error:
        raise DatasetError(
            f"{path}: {first_line(error)}; is a quote not closed, or is it no CSV file?"
        ) from error
    except (ValueError, IndexError) as error:
        raise DatasetError(
            f"{path}: {first_line(error)} (rows are counted from the one below the names); "
            "every row needs a number in each column that is read"
        ) from error


def _has_words(path: Path, header: Sequence[str], names: Sequence[str], delimiter: str) -> bool:
    """Whether the first row has true or false in a numeric column: NumPy then needs a converter."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.reader(file, delimiter=delimiter)
        next(rows, None)
        first = next(filter(None, rows), [])  # NumPy passes over empty lines, too
    return any(
        first[header.index(one)].strip().lower() in WORDS
        for one in names
        if header.index(one) < len(first)
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _number(text: str) -> float:
    known = WORDS.get(text.strip().lower())
    return float(text) if known is None else known


def read_parquet(
    path: Path, keys: Keys, warn: Callable[[str], None], optional: Sequence[str] = ()
) -> Columns:
    """Read the columns of a Parquet file; a vector may be one column of lists of equal length.

    Roles in `optional` may be missing.

    Raises:
      DatasetError: pyarrow is not installed, the file is damaged, or a column is missing or holds
        anything but numbers.
    """
    table = open_table(path, Budget())

    def read(names: Sequence[str], text: bool = False) -> Any:
        columns = {one: vectors(path, one, table[one], text) for one in names}
        if len(columns) == 1:
            return next(iter(columns.values()))
        return side_by_side(str(path), columns)[0]

    return _gather(str(path), table.column_names, read, keys, warn, optional)


def open_table(path: Path, budget: Budget) -> Any:
    """Open a Parquet or Arrow file as a pyarrow table.

    Raises:
      DatasetError: pyarrow is not installed, or the file is damaged or larger than the free memory.
    """
    try:
        import pyarrow  # pyright: ignore[reportMissingImports]
        import pyarrow.dataset  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise DatasetError(
            f"{path}: needs the package pyarrow; pip install 'tskd_jax[parquet]'"
        ) from error
    kind = "parquet" if path.suffix.lower() == PARQUET else "arrow"
    try:
        size = _unpacked(path) if kind == "parquet" else path.stat().st_size
        budget.spend(COPIES * size, str(path))
        return pyarrow.dataset.dataset(path, format=kind).to_table().combine_chunks()
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise DatasetError(
            f"{path}: not a readable {kind} file ({first_line(error)}); is it complete?"
        ) from error


def _unpacked(path: Path) -> int:
    """Bytes of a Parquet file's columns in memory, by its metadata: repeated numbers take none."""
    import pyarrow.parquet  # pyright: ignore[reportMissingImports]

    known = pyarrow.parquet.read_metadata(path)
    groups = (known.row_group(index) for index in range(known.num_row_groups))
    columns = [group.column(index) for group in groups for index in range(group.num_columns)]
    return sum(
        max(one.total_uncompressed_size, one.num_values * WIDTHS.get(one.physical_type, 1))
        for one in columns
    )


def vector_tree(path: Path, name: str, column: Any) -> Any:
    """Convert a column as `vectors` does, or a struct to a dict of its fields, possibly nested.

    Raises:
      DatasetError: see `vectors`.
    """
    import pyarrow as pa  # pyright: ignore[reportMissingImports]

    if not pa.types.is_struct(column.type):
        return vectors(path, name, column)
    chunk = _whole(path, name, column)
    return {
        field.name: vector_tree(path, f"{name}/{field.name}", chunk.field(field.name))
        for field in chunk.type
    }


def vectors(path: Path, name: str, column: Any, text: bool = False) -> np.ndarray:
    """Convert a column: numbers to (N,), lists of equal length to (N, m).

    Raises:
      DatasetError: the column holds anything else, or no value in some row.
    """
    import pyarrow as pa  # pyright: ignore[reportMissingImports]

    chunk = _whole(path, name, column)
    kind, is_a = chunk.type, pa.types
    if is_a.is_nested(kind):
        is_list = is_a.is_fixed_size_list(kind) or is_a.is_list(kind) or is_a.is_large_list(kind)
        if not is_list or is_a.is_nested(kind.value_type):
            raise DatasetError(
                f"{path}: column {name!r} holds {kind}; each row needs a number or one list of "
                "numbers: write them so, or name other columns"
            )
        lengths = np.asarray(pa.compute.list_value_length(chunk))
        if len(set(lengths.tolist())) > 1:
            raise DatasetError(
                f"{path}: column {name!r} holds lists of {lengths.min()} to {lengths.max()} "
                "numbers; vectors of one length are needed"
            )
        inner = vectors(path, name, chunk.flatten())
        return inner.reshape(len(chunk), lengths[0] if len(lengths) else 0)
    if text:
        return np.asarray(chunk.to_pylist())
    if not (is_a.is_integer(kind) or is_a.is_floating(kind) or is_a.is_boolean(kind)):
        raise DatasetError(f"{path}: column {name!r} holds {kind}, not numbers")
    return chunk.to_numpy(zero_copy_only=False)


def _whole(path: Path, name: str, column: Any) -> Any:
    """A column as one array, without chunks; an error if a row has no value."""
    import pyarrow as pa  # pyright: ignore[reportMissingImports]

    if column.null_count:
        raise DatasetError(f"{path}: column {name!r} has no value in {column.null_count} rows")
    chunk = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(chunk, pa.ChunkedArray):
        chunk = pa.concat_arrays(chunk.chunks) if chunk.num_chunks else pa.array([], column.type)
    return chunk


def _gather(
    name: str,
    available: Sequence[str],
    read: Callable[..., Any],
    keys: Keys,
    warn: Callable[[str], None],
    optional: Sequence[str] = (),
) -> Columns:
    """Gather the columns of each role: one, or several side by side.

    Args:
      name: name of the file, for messages.
      available: the names of its columns.
      read: (names, whether they are text) -> (N,), or (N, count).
      keys: the user's choice of columns for roles.
      warn: called with each deviation from the expected format.
      optional: required roles that may be missing.
    """
    by_episode = bool(keys.episode) or any(one in available for one in COLUMNS["episode"])
    known = find(
        name, available, keys, COLUMNS, (*optional, "terminals") if by_episode else optional
    )
    arrays: dict[str, np.ndarray] = {}
    for role, chosen in known.items():
        if RANKS.get(role, 1) == 1 and len(chosen) > 1:
            raise DatasetError(f"{name}: {role} must be one column, not {', '.join(chosen)}")
        column = read(chosen, text=True) if role == "episode" else read(chosen)
        column = column if column.ndim == 2 else column[:, None]
        if RANKS.get(role, 1) == 1 and column.shape[1] != 1:
            raise DatasetError(
                f"{name}: column {', '.join(chosen)!r} holds lists of {column.shape[1]} values; "
                f"{role} must be one in each row"
            )
        arrays[role] = column[:, 0] if RANKS.get(role, 1) == 1 else column
    ends = ends_of(available, known)
    if ends and "episode" not in known:
        warn(f"{name}: column {ends!r} is taken for the ends of all episodes, terminal or cut")
        arrays["ends"] = read((ends,)).reshape(-1)
    names = {role: one for role, one in known.items() if RANKS.get(role, 1) == 2}
    return Columns(
        arrays,
        {role: one for role, one in names.items() if len(one) == arrays[role].shape[1]},
    )
