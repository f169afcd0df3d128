"""How often intervals hold the truth, of a few samples."""

import csv

from tiny import run_script


def test_a_row_for_each_kind_of_samples(tmp_path):
    run_script("studies.interval_coverage", "--samples=4", f"--results={tmp_path}", "--name=few")
    with (tmp_path / "few.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    for row in rows:
        for kind in ("nested", "pooled"):
            assert float(row[f"{kind}_coverage"]) in (0, 0.25, 0.5, 0.75, 1)
        if float(row["between"]) > 0:
            assert float(row["nested_width"]) > float(row["pooled_width"])
