"""Tests of the C header: every compiler that is there takes it, and it acts as NumPy does."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from exported import (
    SHAPES,
    check_acts_alike,
    check_within_bounds,
    contract_of,
    make_policy,
    make_saturated,
)

from tskd_jax.envs.entries import get_task
from tskd_jax.envs.simulator import record
from tskd_jax.errors import ExportError
from tskd_jax.export import c_header, c_text, export
from tskd_jax.export.eight_bits import levels_of, quantised
from tskd_jax.policy import Policy

STRICT = ("-Wall", "-Wextra", "-Werror", "-pedantic", "-Wconversion", "-Wshadow")
COMPILERS = [name for name in ("gcc", "clang") if shutil.which(name)]
pytestmark = pytest.mark.skipif(not COMPILERS, reason="no C compiler")

PROGRAM = """
#include <stdio.h>
#include "policy.h"
int main(void)
{
    float observation[TSKD_POLICY_OBSERVATIONS] = {0}, action[TSKD_POLICY_ACTIONS];
    int i;
    if (tskd_policy_self_test()) {
        return 1;
    }
    if (tskd_policy_act(observation, action)) {
        return 2;
    }
    for (i = 0; i < TSKD_POLICY_ACTIONS; ++i) {
        printf("%.9g ", (double)action[i]);
    }
    return 0;
}
"""


def build(folder: Path, header: bytes, command: list[str]) -> Path:
    (folder / "policy.h").write_bytes(header)
    (folder / "program.c").write_text(PROGRAM)
    out = folder / "program"
    done = subprocess.run(
        [*command, str(folder / "program.c"), "-o", str(out), "-lm"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return out


def check_runs(program: list[str], policy: Policy) -> None:
    done = subprocess.run(program, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    size = len(policy.weights[0])
    expected = policy(np.zeros(size))
    np.testing.assert_allclose([float(word) for word in done.stdout.split()], expected, atol=1e-5)


@pytest.mark.parametrize("int8", [False, True], ids=["float", "int8"])
@pytest.mark.parametrize("sizes", SHAPES.values(), ids=SHAPES)
def test_it_acts_as_numpy_does(sizes, int8):
    policy = make_policy(sizes)
    header = c_header.write(policy, None, int8=int8)
    right = quantised(policy) if int8 else policy
    for compiler in COMPILERS:
        flags = (*c_header.FLAGS, *STRICT)
        check_acts_alike(right, c_header.compiled(header, compiler, flags), compiler)


@pytest.mark.parametrize("flags", [("-O0",), ("-O3",), ("-Ofast",)], ids=str)
@pytest.mark.parametrize("compiler", COMPILERS)
def test_no_warning_as_c99(tmp_path, compiler, flags):
    policy = make_policy()
    header = c_header.write(policy, contract_of(policy, control_hz=125.0))
    program = build(tmp_path, header, [compiler, "-std=c99", *STRICT, *flags])
    check_runs([str(program)], policy)


@pytest.mark.skipif(not shutil.which("g++"), reason="no C++ compiler")
def test_no_warning_as_cplusplus(tmp_path):
    policy = make_policy()
    command = ["g++", "-x", "c++", "-std=c++11", *STRICT, "-O2"]
    check_runs([str(build(tmp_path, c_header.write(policy, None), command))], policy)


@pytest.mark.parametrize("int8", [False, True], ids=["float", "int8"])
def test_sanitizers_find_nothing(tmp_path, int8):
    policy = make_policy((5, 32, 32, 2))
    flags = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g"]
    command = [COMPILERS[0], "-std=c99", *STRICT, *flags]
    program = build(tmp_path, c_header.write(policy, None, int8=int8), command)
    check_runs([str(program)], quantised(policy) if int8 else policy)


@pytest.mark.skipif(not shutil.which("valgrind"), reason="no valgrind")
def test_valgrind_finds_nothing(tmp_path):
    policy = make_policy((5, 32, 32, 2))
    program = build(tmp_path, c_header.write(policy, None), [COMPILERS[0], "-std=c99", "-g"])
    check_runs(["valgrind", "--quiet", "--error-exitcode=9", str(program)], policy)


def test_two_policies_in_one_file_are_refused(tmp_path):
    """The second would be skipped, and the first act in its place."""
    walk, stand = make_policy(), make_policy(seed=1)
    for name, header in (
        ("walk.h", c_header.write(walk, None)),
        ("copy.h", c_header.write(walk, contract_of(walk, method="bc"))),
        ("stand.h", c_header.write(stand, None)),
    ):
        (tmp_path / name).write_bytes(header)

    def compiled(compiler: str, *names: str) -> subprocess.CompletedProcess:
        includes = "".join(f'#include "{name}"\n' for name in names)
        (tmp_path / "both.c").write_text(includes + PROGRAM.replace('#include "policy.h"', ""))
        command = [compiler, "-std=c99", *STRICT, "-c", "both.c", "-o", "both.o"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    for compiler in COMPILERS:
        done = compiled(compiler, "walk.h", "walk.h", "copy.h")
        assert (done.returncode, done.stderr) == (0, "")
        done = compiled(compiler, "walk.h", "stand.h")
        assert done.returncode != 0
        (line,) = [line for line in done.stderr.splitlines() if "error:" in line]
        assert "another policy is included already" in line


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(bad):
    """The action is left as it was: the header's own test looks at that."""
    # Not with -Ofast: a library of it would change the arithmetic of this whole process.
    act = c_header.compiled(c_header.write(make_policy(), None), COMPILERS[0])
    observations = np.zeros((3, 4), np.float32)
    observations[1, 3] = bad
    with pytest.raises(ExportError, match="refuses observation 1"):
        act(observations)


def test_a_sum_that_overflows_is_no_action():
    policy = make_policy((4, 16, 16, 2))
    act = c_header.compiled(c_header.write(policy, None), COMPILERS[0])
    with pytest.raises(ExportError, match="refuses observation 0"):
        act(np.full((1, 4), 3e38, np.float32) * np.array([1, -1, 1, -1], np.float32))


def test_actions_stay_within_the_bounds():
    policy = make_saturated()
    header = c_header.write(policy, None)
    check_within_bounds(policy, c_header.compiled(header, COMPILERS[0]))
    check_within_bounds(policy, c_text.read_back(header.decode()))


def test_its_own_test_notices_another_weight():
    text = c_header.write(make_policy(), None).decode()
    place = text.index("weight_1[")
    number = re.compile(r"-?\d\.\d+").search(text, place)
    changed = text[: number.start()] + "0.9" + text[number.end() :]
    with pytest.raises(ExportError, match=r"its own test \d fails"):
        c_header.compiled(changed.encode(), COMPILERS[0])


def test_it_does_not_compile():
    with pytest.raises(ExportError, match=r"does not compile it: .*error") as caught:
        c_header.compiled(b"nonsense", COMPILERS[0])
    assert len(str(caught.value).splitlines()) == 1


def test_eight_bits():
    policy = make_policy((11, 256, 256, 3))
    # Inputs of very different size, as where the first layer holds the normalisation.
    weights = (policy.weights[0] * np.geomspace(0.01, 100, 11)[:, None], *policy.weights[1:])
    policy = Policy(tuple(one.astype(np.float32) for one in weights), policy.biases, policy.bounds)
    levels, inputs, outputs = levels_of(policy.weights[0])
    assert levels.dtype == np.int8
    assert np.abs(levels.astype(int)).max() == 127
    held = levels * outputs * inputs[:, None]
    # Within half a level, by hand: |w - q·s| ≤ s / 2.
    steps = outputs * inputs[:, None]
    assert (np.abs(held - policy.weights[0]) <= steps / 2 * (1 + 1e-5)).all()
    made = export("c", policy, None, int8=True)
    assert "8 bits change the action by" in made.lines[-1]
    found = re.findall(rb"int8_t \w+\[(\d+)\]", made.files[".h"])
    assert sum(map(int, found)) == 11 * 256 + 256 * 256 + 256 * 3


@pytest.mark.parametrize("weight", [np.zeros((3, 2)), np.full((3, 2), 1e-45)])
def test_eight_bits_of_nothing(weight):
    levels, inputs, outputs = levels_of(weight.astype(np.float32))
    held = levels * outputs * inputs[:, None]
    np.testing.assert_allclose(held, weight, atol=2e-45)


def test_a_student_too_large_for_a_text(monkeypatch):
    monkeypatch.setattr(c_header, "LARGEST", 100)
    with pytest.raises(ExportError, match="c: 131 parameters; a header has at most 100"):
        c_header.write(make_policy(), None)


def test_literals_are_exact():
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, 20_000, np.uint64).astype(np.uint32)
    values = bits.view(np.float32)
    for value in values[np.isfinite(values)]:
        text = c_text.number(value)
        assert re.fullmatch(r"-?(\d+\.\d*|\d+(\.\d+)?e[+-]\d+)f", text), text
        assert np.float32(text[:-1]) == value
    assert c_text.number(3.0) == "3.0f"


def test_a_contract_cannot_end_its_comment(tmp_path):
    policy = make_policy()
    names = ("*/ int x = 0; /*", "// \\", "??/", "φ\n*/")
    contract = contract_of(policy, observation_names=names, method="/* nested")
    header = c_header.write(policy, contract)
    assert header.isascii()
    program = build(tmp_path, header, [COMPILERS[0], "-std=c99", *STRICT])
    check_runs([str(program)], policy)
    # What stands there is still the contract.
    lines = re.search(r"\* \{\n(.*?)\n \* \}", header.decode(), re.DOTALL)[1].splitlines()
    text = "{" + "\n".join(line.removeprefix(" * ") for line in lines) + "}"
    assert type(contract).from_json(text) == contract


def test_macros():
    policy = make_policy((5, 7, 2))
    text = c_header.write(policy, contract_of(policy, control_hz=12.5)).decode()
    for line in ("OBSERVATIONS 5", "ACTIONS 2", "WIDEST 7", "CONTROL_HZ 12.5f", "PARAMETERS 58"):
        assert f"#define TSKD_POLICY_{line}\n" in text


@pytest.mark.parametrize("hz", [1e39, 1e300, 1e-46, -5.0])
def test_a_rate_that_is_no_float_is_in_the_comment_alone(hz):
    policy = make_policy((5, 7, 2))
    text = c_header.write(policy, contract_of(policy, control_hz=hz)).decode()
    assert "CONTROL_HZ" not in text
    assert f'"control_hz": {hz}' in text


@pytest.mark.parametrize("int8", [False, True], ids=["float", "int8"])
def test_without_a_compiler_it_says_so(monkeypatch, int8):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)
    made = export("c", make_policy(), None, int8=int8)
    assert "it was not compiled, as there is no C compiler" in made.lines[0]


def test_the_compiler_that_is_asked_for(monkeypatch):
    monkeypatch.setenv("CC", COMPILERS[-1])
    assert c_header.find_compiler().endswith(COMPILERS[-1])


def test_the_same_returns_in_the_simulator():
    """Episode by episode, of a small student that falls."""
    policy = make_policy((11, 16, 16, 3))
    task = get_task("hopper")
    act = c_header.compiled(c_header.write(policy, None), COMPILERS[0])
    played = [
        record(lambda states, *_, one=one: one(states.astype(np.float32)), task, range(8))
        for one in (policy, act)
    ]
    assert played[0].lengths.tolist() == played[1].lengths.tolist()
    np.testing.assert_allclose(played[0].returns(), played[1].returns(), rtol=1e-5)
