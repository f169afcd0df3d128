"""Stages: computed once for what they are given, believed by checksum, taken over from others.

Over 300 lines: the stages, functions and folders that the cases work on are shared by all.
"""

import io
import json
from dataclasses import dataclass

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from run_helpers import Chain, Killed, begin, flip, largest_file, place

from tskd_jax.data.trajectories import Trajectories
from tskd_jax.errors import WorkdirError
from tskd_jax.policy import Bounds, Policy
from tskd_jax.run import serialization
from tskd_jax.run.run import Stopped


@dataclass(frozen=True)
class Config:
    scale: float = 1.0
    hidden: tuple[int, ...] = (8, 8)


def scaled(config, data, *, callbacks):
    return {"x": np.float32(config.scale) * np.asarray(data)}, {"scale": config.scale}


def drawn(config, *, keys, callbacks):
    numbers = jax.vmap(lambda key: jax.random.normal(key, (3,)))(keys)
    return numbers, [{"mean": float(row.mean())} for row in numbers]


def must_not_run(_config, *_inputs, callbacks):
    pytest.fail("it was computed again")


def test_a_stage_is_computed_once(tmp_path):
    calls, printed = [], []

    def compute(_config, callbacks):
        calls.append(1)
        result = {"a": np.arange(6.0).reshape(2, 3), "empty": np.zeros((0, 4), np.float32)}
        return result, {"number": np.float32(2.5), "array": np.arange(2)}

    for _ in range(2):
        out = io.StringIO()
        run = begin(tmp_path / "run", out=out)
        result = run.stage("part.one", compute, None)
        np.testing.assert_array_equal(result["a"], np.arange(6.0).reshape(2, 3))
        assert result["a"].dtype == np.float64
        assert result["empty"].shape == (0, 4)
        assert result["empty"].dtype == np.float32
        (key,) = run.used
        assert run.metrics("part.one") == run.metrics(key) == {"number": 2.5, "array": [0, 1]}
        printed.append(out.getvalue())
    assert len(calls) == 1
    assert printed[0].startswith("part.one ")
    assert "number 2.5" in printed[0]
    assert printed[1] == ""  # what was done before is not announced again
    (record,) = json.loads((tmp_path / "run" / "manifest.json").read_text())["stages"].values()
    assert record["name"] == "part.one"


def test_a_failed_stage_is_not_done(tmp_path):
    def compute(_config, callbacks):
        if fails:
            raise Killed
        return {"a": np.ones(2)}, {}

    fails = True
    with pytest.raises(Killed):
        begin(tmp_path / "run").stage("part", compute, None)
    fails = False
    assert begin(tmp_path / "run").stage("part", compute, None)["a"].sum() == 2


@pytest.mark.parametrize("again", [False, True])
def test_results_without_arrays_are_kept_too(tmp_path, again):
    def compute(_config, callbacks):
        return {"none": None, "all": (1, 2.5, "three", [True])}, {}

    run = begin(tmp_path)
    for _ in range(1 + again):
        result = run.stage("plain", compute, None)
    assert result == {"none": None, "all": (1, 2.5, "three", [True])}


def test_a_result_is_on_the_host_and_cannot_be_changed(tmp_path):
    def compute(_config, callbacks):
        return {"x": jnp.arange(3.0)}, {}

    for run in (begin(tmp_path), begin(tmp_path)):
        x = run.stage("numbers", compute, None)["x"]
        assert type(x) is np.ndarray
        with pytest.raises(ValueError, match="read-only"):
            x[0] = 1


def test_trajectories_survive(tmp_path, tiny_trajectories):
    def select(_config, data, callbacks):
        return [data.select(np.arange(3)), data], {}

    for _ in range(2):
        kept = begin(tmp_path).stage("select", select, None, tiny_trajectories)
        expected = [tiny_trajectories.select(np.arange(3)), tiny_trajectories]
        assert [type(data) for data in kept] == [Trajectories, Trajectories]
        chex.assert_trees_all_equal_shapes_and_dtypes(kept, expected)
        chex.assert_trees_all_equal(kept, expected)


def test_types_survive(tmp_path):
    names = ("bool", "int8", "uint16", "int64", "float16", "float32", "float64", "complex64")
    arrays = [np.ones(shape, name) for name in names for shape in ((), (2,), (0, 3))]
    arrays += [jnp.ones(2, jnp.bfloat16), np.broadcast_to(np.float32(2), (3, 2)), np.eye(3).T[::2]]

    def compute(_config, callbacks):
        return (arrays, jax.random.split(jax.random.key(0), 2)), {}

    for _ in range(2):
        kept, keys = begin(tmp_path).stage("types", compute, None)
        chex.assert_trees_all_equal_shapes_and_dtypes(kept, arrays)
        assert all(np.array_equal(a, b) for a, b in zip(kept, arrays, strict=True))
        np.testing.assert_array_equal(
            jax.random.normal(keys[1]), jax.random.normal(jax.random.split(jax.random.key(0), 2)[1])
        )


# What a key covers


def test_equal_arguments_are_computed_once_under_any_name(tmp_path):
    calls = []

    def compute(_config, data, callbacks):
        calls.append(1)
        return 2 * np.asarray(data), {"n": len(data)}

    run = begin(tmp_path)
    first = run.stage("tskd.double", compute, Config(), np.arange(3, dtype=np.int32))
    second = run.stage("bc.double", compute, Config(), jnp.arange(3))
    third = run.stage("bc.double", compute, Config(), np.arange(3.0))
    assert len(calls) == 2  # the third is of another type
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first, third)
    assert run.used[0] == run.used[1] != run.used[2]
    assert run.metrics("bc.double") == run.metrics("tskd.double") == {"n": 3}
    assert len(list((tmp_path / "stages").iterdir())) == 2


def test_whatever_is_given_counts(tmp_path, tiny_task):
    run, x, keys = begin(tmp_path), np.arange(3.0), jax.random.split(jax.random.key(0), 2)
    given = [
        (scaled, Config(), x),
        (scaled, Config(2.0), x),
        (scaled, Config(hidden=(8,)), x),
        (scaled, Config(), x + 1),
        (scaled, Config(), x, tiny_task),
        (must_not_run, Config(), x),
        (drawn, Config()),
    ]
    made = [run.key(*arguments, keys=keys) for arguments in given]
    made.append(run.key(drawn, Config(), keys=keys[:1]))
    assert len(set(made)) == len(made)
    # A function that takes no keys is the same whatever they are.
    assert made[0] == run.key(scaled, Config(), x) == run.key(scaled, Config(), x.copy())


def test_the_version_of_the_package_counts(tmp_path, monkeypatch):
    run = begin(tmp_path)
    before = run.key(scaled, Config())
    monkeypatch.setattr("tskd_jax.run.stages.__version__", "0.0")
    assert run.key(scaled, Config()) != before


def test_keys_are_given_to_those_that_take_them(tmp_path):
    run = begin(tmp_path, seeds=(3, 5))
    keys = jax.random.split(jax.random.key(0), 2)
    run.stage("scaled", scaled, Config(2.0), np.ones(2), keys=keys)
    numbers = run.stage("drawn", drawn, Config(), keys=keys)
    metrics = run.metrics("drawn")
    assert metrics["of_seed"]["3"]["mean"] == pytest.approx(numbers[0].mean(), 1e-6)
    assert metrics["of_seed"]["5"]["mean"] == pytest.approx(numbers[1].mean(), 1e-6)
    assert metrics["mean"] == pytest.approx(numbers.mean(), 1e-6)
    run.stage("other", drawn, Config(2.0), keys=keys, seeds=(7, 8))
    assert set(run.metrics("other")["of_seed"]) == {"7", "8"}


def test_large_inputs_are_hashed_once(tmp_path, monkeypatch):
    hashed = []
    digest = serialization.array_digest

    def counted(array):
        hashed.append(np.size(array))
        return digest(array)

    monkeypatch.setattr(serialization, "array_digest", counted)
    for computed in (True, False):
        run = begin(tmp_path)
        data = run.freeze(np.arange(1000.0))
        result = run.stage("one", scaled, Config(5.0), data)
        for scale in (2.0, 3.0):
            run.stage("two", scaled, Config(scale), data)
            run.stage("three", scaled, Config(scale), result["x"])
        # The input, and the result as input; of what is made here also the results' content.
        assert hashed.count(1000) == (6 if computed else 2)
        hashed.clear()


def test_what_may_change_is_hashed_again(tmp_path):
    run, x = begin(tmp_path), np.zeros(3)
    before = run.key(scaled, Config(), x)
    x[0] = 1
    assert run.key(scaled, Config(), x) != before


# Damage


def test_a_damaged_stage_is_computed_again_and_what_was_made_of_it_kept(tmp_path):
    chain = Chain()
    first, _ = chain.run(tmp_path)
    flip(largest_file(place(tmp_path, "b")))
    again, printed = chain.run(tmp_path)
    assert chain.computed == ["a", "b", "c", "b"]  # c was made of the same b
    assert f"{place(tmp_path, 'b').name}: its checksum is wrong; b is computed again" in printed
    assert "another result" not in printed
    np.testing.assert_array_equal(first, again)
    chain.run(tmp_path)
    assert len(chain.computed) == 4


def test_who_asks_for_some_stages_only_gets_them_as_they_are(tmp_path):
    # As the scripts of experiments/ do in the folder of a finished run.
    x = np.ones(2)
    run = begin(tmp_path)
    for name, scale in zip("abc", (1.0, 2.0, 3.0), strict=True):
        run.stage(name, scaled, Config(scale), x)
    run.close()
    out = io.StringIO()
    run = begin(tmp_path, out=out)
    kept = run.stage("c", scaled, Config(3.0), x)
    assert out.getvalue() == ""  # it was not computed
    new = run.stage("d", scaled, Config(8.0), x)
    run.close()
    np.testing.assert_array_equal(kept["x"], [3, 3])
    np.testing.assert_array_equal(new["x"], [8, 8])
    out = io.StringIO()
    run = begin(tmp_path, out=out)
    for scale in (1.0, 2.0, 3.0, 8.0):
        run.stage("any", scaled, Config(scale), x)
    assert out.getvalue() == ""
    with pytest.raises(KeyError, match="no stage nobody"):
        run.metrics("nobody")


def test_what_was_made_of_another_result_is_made_again(tmp_path):
    Chain().run(tmp_path)
    flip(largest_file(place(tmp_path, "b")))
    chain = Chain((1.0, 2.5, 3.0))  # as if another machine computed b
    total, printed = chain.run(tmp_path)
    assert chain.computed == ["b", "c"]
    assert "b: another result than before; what was made of it is computed again" in printed
    # a = 1; b = 1 + 2.5; c = 4.5 + 3; their sum.
    assert total.tolist() == [12.0] * 3


def test_a_stage_without_its_folder_is_computed_again(tmp_path):
    chain = Chain()
    chain.run(tmp_path)
    place(tmp_path, "c").rename(tmp_path / "elsewhere")
    _, printed = chain.run(tmp_path)
    assert chain.computed == ["a", "b", "c", "c"]
    assert f"{place(tmp_path, 'c').name}: it is missing" in printed


def test_a_result_whose_class_has_changed_is_computed_again(tmp_path, monkeypatch):
    calls = []

    def compute(_config, data, callbacks):
        calls.append(1)
        return data, {}

    data = Policy(
        (np.ones((2, 1), np.float32),), (np.ones(1, np.float32),), Bounds.symmetric(1.0, 1)
    )
    begin(tmp_path).stage("data", compute, None, data)
    monkeypatch.setattr("tskd_jax.policy.Policy", None)
    out = io.StringIO()
    run = begin(tmp_path, out=out)
    key = run.key(compute, None, data)
    with pytest.raises(TypeError, match="Policy cannot be stored"):
        run.stage("data", compute, None, data)
    assert len(calls) == 2
    assert key in run.manifest["stages"]
    assert "it has another form" in out.getvalue()


# Other runs


def test_another_runs_stages_are_taken_over(tmp_path):
    first, _ = Chain().run(tmp_path / "one")
    chain = Chain()
    total, printed = chain.run(tmp_path / "two", config={"seed": 1}, reuse=[tmp_path / "one"])
    assert chain.computed == []
    np.testing.assert_array_equal(first, total)
    assert [line.split() for line in printed.splitlines()] == [[n, "from", "one"] for n in "abc"]
    run = begin(tmp_path / "two", {"seed": 1})
    assert run.metrics("b") == {"from": "one", "first": 1.0}
    # From there it is taken over with the name of where it was made.
    run.close()
    Chain().run(tmp_path / "three", reuse=[tmp_path / "none", tmp_path / "two"])
    assert begin(tmp_path / "three").metrics("b")["from"] == "one"


def test_what_is_damaged_in_the_other_run_is_computed(tmp_path):
    first, _ = Chain().run(tmp_path / "one")
    flip(largest_file(place(tmp_path / "one", "b")))
    chain = Chain()
    total, printed = chain.run(tmp_path / "two", reuse=[tmp_path / "one"])
    assert chain.computed == ["b"]
    assert "its checksum is wrong; b is computed again" in printed
    np.testing.assert_array_equal(first, total)
    assert "from" not in begin(tmp_path / "two").metrics("b")


def test_only_what_is_made_of_the_same_is_taken_over(tmp_path):
    run = begin(tmp_path / "one")
    run.stage("x", scaled, Config(1.0), np.ones(2))
    run.stage("y", scaled, Config(2.0), np.ones(2))
    run.close()
    run = begin(tmp_path / "two", reuse=[tmp_path / "one"])
    run.stage("x", scaled, Config(3.0), np.ones(2))
    run.stage("other.y", scaled, Config(2.0), np.ones(2))
    assert "from" not in run.metrics("x")
    assert run.metrics("other.y") == {"from": "one", "scale": 2.0}
    assert place(tmp_path / "two", "other.y").is_dir()


def test_what_is_taken_over_is_no_longer_under_way(tmp_path):
    def compute(_config, callbacks):
        (part,) = callbacks.cache("first", lambda: (np.ones(1),))
        if not whole:
            raise Killed
        return part, {}

    whole = False
    with pytest.raises(Killed):
        begin(tmp_path / "two").stage("parts", compute, None)
    whole = True
    begin(tmp_path / "one").stage("parts", compute, None)
    run = begin(tmp_path / "two", reuse=[tmp_path / "one"])
    assert run.manifest["parts"]
    run.stage("parts", compute, None)
    assert run.metrics("parts") == {"from": "one"}
    manifest = json.loads((tmp_path / "two" / "manifest.json").read_text())
    assert manifest["parts"] == {}
    assert not (tmp_path / "two" / "parts").exists()


def test_nothing_is_taken_from_a_folder_whose_manifest_is_damaged(tmp_path):
    Chain().run(tmp_path / "one")
    for path in (tmp_path / "one").glob("manifest*.json"):
        flip(path)
    chain = Chain()
    chain.run(tmp_path / "two", reuse=[tmp_path / "one"])
    assert chain.computed == ["a", "b", "c"]


def test_a_refusing_disk_is_told_in_a_line(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    Chain().run(tmp_path / "one")
    monkeypatch.setattr("tskd_jax.run.files.share", full)
    with pytest.raises(WorkdirError, match="No space left on device") as caught:
        Chain().run(tmp_path / "two", reuse=[tmp_path / "one"])
    assert "\n" not in str(caught.value)


# The end, and notes


@pytest.mark.parametrize("stop_after", ["student", "student.bc"])
def test_stop_after_names_a_stage_or_its_group(tmp_path, stop_after):
    x = np.ones(2)
    for _ in range(2):  # when it is done, and when it is found done
        run = begin(tmp_path / "run", stop_after=stop_after)
        run.stage("dynamics", scaled, Config(), x)
        run.stage("students", scaled, Config(2.0), x)
        with pytest.raises(Stopped, match=r"student\.bc"):
            run.stage("student.bc", scaled, Config(3.0), x)
        run.close()
    names = [record["name"] for record in begin(tmp_path / "run").manifest["stages"].values()]
    assert names == ["dynamics", "students", "student.bc"]


def test_stop_after_what_is_no_stage(tmp_path):
    run = begin(tmp_path / "run", stop_after="dataset")
    run.stop_if_requested("datasets")
    with pytest.raises(Stopped, match="dataset"):
        run.stop_if_requested("dataset")


def test_notes_survive(tmp_path):
    run = begin(tmp_path)
    run.record("methods", "bc", {"stages": ["k"], "score": np.float32(2.0)})
    run.record("methods", "tskd", {"stages": []})
    run.close()
    before = (tmp_path / "manifest.json").stat()
    run = begin(tmp_path)
    assert run.manifest["methods"]["bc"] == {"stages": ["k"], "score": 2.0}
    assert list(run.manifest["methods"]) == ["bc", "tskd"]
    run.record("methods", "tskd", {"stages": []})
    assert (tmp_path / "manifest.json").stat().st_mtime_ns == before.st_mtime_ns
    with pytest.raises(ValueError, match="stages"):
        run.record("stages", "bc", {})
