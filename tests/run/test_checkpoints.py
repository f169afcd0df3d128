"""Folders of arrays: what is written comes back, what was altered does not."""

import os

import numpy as np
import pytest

from tskd_jax.errors import WorkdirError
from tskd_jax.run import checkpoints, files
from tskd_jax.run.checkpoints import Damaged

TREE = {"a": {"0": np.arange(6, dtype=np.float32).reshape(2, 3)}, "n": np.zeros((0, 2), np.int8)}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("tree") / "one"
    return path, checkpoints.save(path, TREE)


def files_of(folder):
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.stat().st_size)


def test_round_trip(written):
    path, checksum = written
    tree = checkpoints.load(path, checksum)
    np.testing.assert_array_equal(tree["a"]["0"], TREE["a"]["0"])
    assert tree["n"].shape == (0, 2)
    assert tree["n"].dtype == np.int8
    assert [p.name for p in path.parent.iterdir()] == ["one"]  # nothing aside is left


def test_every_file_counts(written):
    path, checksum = written
    for file in files_of(path):
        content = file.read_bytes()
        for altered in (content[:-1], content + b"x", bytes([255 - content[0]]) + content[1:]):
            file.write_bytes(altered)
            with pytest.raises(Damaged, match="checksum"):
                checkpoints.load(path, checksum)
        file.write_bytes(content)
    checkpoints.load(path, checksum)


def test_a_file_more_or_a_link_is_noticed(written, tmp_path):
    path, checksum = written
    (path / "more").write_text("")
    with pytest.raises(Damaged, match="checksum"):
        checkpoints.load(path, checksum)
    (path / "more").unlink()
    file = files_of(path)[0]
    content = file.read_bytes()
    (tmp_path / "same").write_bytes(content)
    file.unlink()
    os.symlink(tmp_path / "same", file)
    with pytest.raises(Damaged, match="checksum"):
        checkpoints.load(path, checksum)
    file.unlink()
    file.write_bytes(content)


def test_a_missing_folder(tmp_path):
    with pytest.raises(Damaged, match="missing"):
        checkpoints.load(tmp_path / "none", "0")


def test_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkdirError, match="cannot be written") as caught:
        checkpoints.save(tmp_path / "file" / "one", TREE)
    assert "\n" not in str(caught.value)


@pytest.fixture
def flushed(monkeypatch):
    """The inodes of files and folders that are flushed to the disk."""
    found = set()

    def fsync(descriptor):
        found.add(os.fstat(descriptor).st_ino)

    monkeypatch.setattr(os, "fsync", fsync)
    return found


def inodes(*paths):
    return {path.stat().st_ino for path in paths}


def test_all_that_is_written_is_flushed(tmp_path, flushed):
    path = tmp_path / "new" / "stages" / "one"
    checkpoints.save(path, TREE)
    whole = inodes(path, *path.rglob("*"), *path.parents[:3])
    assert whole <= flushed
    flushed.clear()
    files.share(path, tmp_path / "other" / "stages" / "one")
    path = tmp_path / "other" / "stages" / "one"
    assert inodes(path, *path.rglob("*"), *path.parents[:3]) <= flushed
    flushed.clear()
    path = tmp_path / "third" / "folder" / "a.json"
    files.write_json(path, {})
    assert inodes(path, *path.parents[:3]) <= flushed
