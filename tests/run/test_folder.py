"""Whose folder it is: claimed, refused, swept, and removed where nothing was done in it."""

import json

import pytest
from run_helpers import CONFIG, Chain, Killed, begin, flip, largest_file, place, truncate, unlink

from tskd_jax.errors import WorkdirError
from tskd_jax.run import files, folder
from tskd_jax.run.folder import check, differences


def test_another_config_is_refused_and_named(tmp_path):
    begin(tmp_path / "run")
    other = {"seed": 7, "student": CONFIG["student"] | {"steps": 11}, "new": 1}
    with pytest.raises(WorkdirError, match=r"differs in new, seed, student\.steps;"):
        begin(tmp_path / "run", other)


def test_differences_name_fields_below_sections():
    left = {"a": 1, "b": {"c": [1, 2], "d": {"e": 2}}, "f": 0}
    assert differences(left, json.loads(json.dumps(left))) == []
    right = {"a": 2, "b": {"c": [1, 3], "d": {"e": 3}}}
    assert differences(left, right) == ["a", "b.c", "b.d.e", "f"]


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "run").write_text("a file")
    with pytest.raises(WorkdirError, match="--workdir"):
        begin(tmp_path / "run")


def test_what_is_no_run_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("all of it")
    with pytest.raises(WorkdirError, match="is not empty and holds no run"):
        begin(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_folder_of_an_earlier_version_is_refused_in_a_line(tmp_path):
    files.write_json(tmp_path / "config.json", CONFIG)
    manifest = {"config": files.json_digest(CONFIG), "stages": {"dynamics": {"seconds": 1.0}}}
    files.write_sealed(tmp_path / "manifest.json", manifest)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(WorkdirError, match=r"earlier version .*choose another --workdir") as caught:
        begin(tmp_path)
    assert "\n" not in str(caught.value)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("damage", [flip, truncate, lambda path: path.write_text("{}")])
def test_a_damaged_manifest_has_a_copy(tmp_path, damage):
    chain = Chain()
    chain.run(tmp_path)
    damage(tmp_path / "manifest.json")
    _, printed = chain.run(tmp_path)
    assert chain.computed == ["a", "b", "c"]
    assert "manifest.json is damaged; its copy" in printed


def test_without_a_manifest_that_can_be_believed_all_is_done_again(tmp_path):
    chain = Chain()
    chain.run(tmp_path)
    for path in tmp_path.glob("manifest*.json"):
        flip(path)
    _, printed = chain.run(tmp_path)
    assert chain.computed == 2 * ["a", "b", "c"]
    assert "all is done again" in printed


@pytest.mark.parametrize("damage", [flip, truncate, unlink])
def test_a_damaged_config_is_known_by_the_manifest(tmp_path, damage):
    chain = Chain()
    chain.run(tmp_path)
    written = (tmp_path / "config.json").read_text()
    damage(tmp_path / "config.json")
    _, printed = chain.run(tmp_path)
    assert chain.computed == ["a", "b", "c"]
    assert "config.json: damaged" in printed
    assert (tmp_path / "config.json").read_text() == written
    truncate(tmp_path / "config.json")
    with pytest.raises(WorkdirError, match="damaged, and was not this config"):
        begin(tmp_path, {"seed": 3})


def test_a_run_that_came_to_nothing_leaves_nothing(tmp_path):
    begin(tmp_path / "runs" / "new").close()
    assert not (tmp_path / "runs").exists()


def test_a_run_in_which_something_was_noted_stays(tmp_path):
    run = begin(tmp_path / "run")
    run.record("dataset", "name", {"transitions": 3})
    run.close()
    assert begin(tmp_path / "run").manifest["dataset"] == {"name": {"transitions": 3}}


def test_a_run_that_ends_before_its_first_stage_is_done_can_go_on(tmp_path):
    run = begin(tmp_path / "run")

    def fails(_config, callbacks):
        callbacks.on_progress(1, 2, {"loss": 1.0})
        raise Killed

    with pytest.raises(Killed):
        run.stage("part", fails, None)
    run.close()
    assert (tmp_path / "run" / "metrics.csv").exists()
    begin(tmp_path / "run").close()


def test_a_refused_folder_is_as_before(tmp_path):
    begin(tmp_path)
    (tmp_path / "lock").unlink()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(WorkdirError, match="another config"):
        begin(tmp_path, {"seed": 1})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_check_writes_nothing_and_refuses_what_a_run_would_refuse(tmp_path):
    check(tmp_path / "new", CONFIG)
    assert not (tmp_path / "new").exists()
    begin(tmp_path / "run")
    run = tmp_path / "run"
    (run / "config.json").unlink()
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    check(run, CONFIG)
    files.write_json(run / "config.json", CONFIG | {"seed": 1})
    with pytest.raises(WorkdirError, match="another config; it differs in seed"):
        check(run, CONFIG)
    (run / "config.json").unlink()
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkdirError, match="cannot be used"):
        check(tmp_path / "file", CONFIG)
    with pytest.raises(WorkdirError, match="holds no run"):
        check(tmp_path, CONFIG)


def test_the_machines_are_those_that_have_saved_something(tmp_path, monkeypatch):
    def machines(device):
        made = {"versions": {"jax": "1"}, "device": device}
        monkeypatch.setattr(folder, "this_machine", lambda: made)
        Chain().run(tmp_path)
        manifest, _ = files.read_sealed(tmp_path / "manifest.json")
        assert manifest
        return [one["device"] for one in manifest["machines"]]

    assert machines("a") == ["a"]
    assert machines("b") == ["a"]  # only asked what is there
    flip(largest_file(place(tmp_path, "b")))
    assert machines("b") == ["a", "b"]
    flip(largest_file(place(tmp_path, "b")))
    assert machines("a") == ["b", "a"]


def test_replacing_leaves_the_old_file_on_an_error(tmp_path):
    run = begin(tmp_path / "run")
    run.write_json("notes.json", {"a": 1})

    def write_half():
        with run.replacing("notes.json") as path:
            path.write_text("half")
            raise Killed

    with pytest.raises(Killed):
        write_half()
    assert json.loads((tmp_path / "run" / "notes.json").read_text()) == {"a": 1}


def test_two_processes_that_write_one_file_do_not_mix(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    with files.replacing(path) as mine:
        mine.write_text("of the first")
        monkeypatch.setattr("os.getpid", lambda: -1)  # of no process
        with files.replacing(path) as theirs:
            theirs.write_text("of the second")
        assert path.read_text() == "of the second"
    assert path.read_text() == "of the first"
    assert [one.name for one in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("name", [".config.json.partial", ".config.json.123.partial"])
def test_a_run_that_was_killed_at_its_start_can_begin(tmp_path, name):
    (tmp_path / name).write_text("{")
    run = begin(tmp_path)
    run.close()
    assert not list(tmp_path.glob(".*"))


def test_what_a_killed_process_left_is_swept_up(tmp_path):
    Chain().run(tmp_path)
    left = ("training/a-0123456789ab/7", "parts/b-0123456789ab/0-8", "stages/.c-01.partial")
    for name in left:
        (tmp_path / name).mkdir(parents=True)
    half = (".student.npz.12.partial", "students/bc/.seed_0.npz.12.partial")
    for name in half:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("half")
    chain = Chain()
    chain.run(tmp_path)
    assert not chain.computed
    assert not list(tmp_path.rglob(".*.partial"))
    there = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_dir()}
    assert {"training", "parts", "stages"} <= there
    assert len(list(tmp_path.glob("stages/[abc]-*"))) == 3
    assert not there & {"training/a-0123456789ab", "parts/b-0123456789ab", left[2]}
