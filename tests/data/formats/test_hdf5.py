"""What an array claims of its size, against what the file holds of it."""

import h5py
import numpy as np
import pytest

from tskd_jax.data.formats.hdf5 import SMALL, Reader
from tskd_jax.errors import DatasetError

ROWS = SMALL // 4 + 1000  # of single precision: more than is taken without a look


def test_what_is_large_and_packs_well_is_read(tmp_path):
    """gzip makes a thousandth of it, which no honest array is below."""
    path = tmp_path / "packed.hdf5"
    constant = np.full(ROWS, 1.5, np.float32)
    with h5py.File(path, "w") as file:
        file.create_dataset("rewards", data=constant, chunks=(ROWS,), compression="gzip")
        stored = file["rewards"].id.get_storage_size()
        assert 500 * stored < constant.nbytes  # it is a case that matters
        np.testing.assert_array_equal(Reader(path, file).array("rewards", 1), constant)


@pytest.mark.parametrize(("rows", "read"), [(ROWS, False), (SMALL // 4 - 1000, True)])
def test_what_was_never_written_is_read_only_where_it_is_small(tmp_path, rows, read):
    path = tmp_path / "hollow.hdf5"
    with h5py.File(path, "w") as file:
        file.create_dataset("rewards", (rows,), np.float32, chunks=(1000,))
        reader = Reader(path, file)
        if read:
            assert reader.array("rewards", 1).shape == (rows,)
        else:
            with pytest.raises(DatasetError, match=r"'rewards' claims shape .* is it complete\?"):
                reader.array("rewards", 1)
