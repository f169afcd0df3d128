"""Values in documents are those of the code."""

import re

import pytest
from tiny import ROOT, run_script

from experiments.paper.defaults import fields_of, fill
from tskd_jax.cli.fields import preset_value
from tskd_jax.config import FIELDS, Options
from tskd_jax.errors import ConfigError
from tskd_jax.presets import PRESETS

TABLE = """
| what | field | `paper` | `quick` | why |
|---|---|---|---|---|
| both | `trajectory_generator.features`, `reward_generator.features` | 1 | 2 | `none` stays |
| none | none: `apply` | | | |
| two | `dynamics.elites`, `dynamics.members`; `models/dynamics.py` | | | |

| field | other |
|---|---|
| `seed` | 5 |
"""


def test_the_values_of_the_paper_s_table_are_those_of_the_fields():
    text = (ROOT / "docs/paper-to-code.md").read_text()
    assert fill(text) == text


def test_the_table_of_what_presets_change_is_complete():
    text = (ROOT / "docs/paper-to-code.md").read_text()
    section = text[text.index("## 4. ") : text.index("## 5. ")]
    rows = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    listed = {name for row in rows for name in fields_of(row)}
    changed = {
        name
        for name in set(FIELDS) - set(vars(Options()))
        if len({str(preset_value(preset, name)) for preset in PRESETS.values()}) > 1
    }
    assert listed == changed


def test_only_the_columns_of_presets_are_filled():
    lines = fill(TABLE).splitlines()
    assert lines[3].endswith("| 128 | 128, 32 | `none` stays |")
    assert lines[4] == "| none | none: `apply` | – | – | |"
    assert lines[5].split(" | ")[2:4] == ["3; 7", "3; 7"]
    assert lines[6:] == TABLE.splitlines()[6:]


def test_a_field_that_does_not_exist_is_refused():
    with pytest.raises(ConfigError, match=r"dynamics\.memmbers"):
        fields_of("`dynamics.memmbers`")


def test_the_script_writes_the_file(tmp_path):
    file = tmp_path / "table.md"
    file.write_text(TABLE)
    run_script("paper.defaults", str(file))
    assert file.read_text() == fill(TABLE)
