"""Table 3: the paper's figures where it has them, of networks that nobody trains."""

import csv

from tiny import import_script

from tskd_jax.config import finalize, make_config
from tskd_jax.envs.entries import get_task

table3 = import_script("paper.table3_parameters")
OWN_COUNT = {"decision_transformer"}  # 0.73 M, where docs/paper-results.md says why


def test_what_the_paper_has_is_what_is_built():
    for environment in ("hopper", "halfcheetah", "walker2d"):
        config, _ = finalize(make_config(environment, "paper"))
        rows = table3.rows_of(environment, config, get_task(environment))
        known = [row for row in rows if row["paper_millions"] != ""]
        assert {row["method"] for row in known} == {
            *("decision_diffuser", "decision_transformer", "trajectory_transformer", "tskd")
        }
        for row in known:
            same = round(row["parameters"] / 1e6, 2) == row["paper_millions"]
            assert same != (row["method"] in OWN_COUNT), row
        (teacher,) = (row for row in rows if row["method"] == "teacher")
        assert teacher["parameters"] > teacher["f"] > 250_000


def test_the_table_that_is_kept_is_that_of_today():
    with open("experiments/results/table3/paper.csv", newline="") as file:
        kept = {(row["environment"], row["method"]): row for row in csv.DictReader(file)}
    config, _ = finalize(make_config("hopper", "paper"))
    for row in table3.rows_of("hopper", config, get_task("hopper")):
        assert int(kept["hopper", row["method"]]["parameters"]) == row["parameters"]


def test_columns_are_methods():
    row = {"environment": "hopper", "paper_millions": "", "f": ""}
    rows = [
        row | {"method": "tskd", "title": "TSKD", "parameters": 69_635, "paper_millions": 0.07},
        row | {"method": "diffuser", "title": "Diffuser", "parameters": 3_956_302},
    ]
    lines = table3.markdown(rows).splitlines()
    assert lines[0] == "| environment | TSKD | Diffuser |"
    assert lines[2] == "| hopper | 0.07 (0.07) | 3.96 |"
