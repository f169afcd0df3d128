"""Several processes as one job: one of them keeps the folder, all go on from the same results."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PROCESS = """
import json, pathlib, signal, sys
import numpy as np
from tskd_jax.machine import hosts, signals
from tskd_jax.run.checkpoints import Damaged
from tskd_jax.run.run import Run

address, index, workdir, reuse = sys.argv[1:]
hosts.join(f"{address},2,{index}")
computed = []

def compute(config, *inputs, callbacks):
    # Machines differ in their last bits, here in all of them.
    computed.append(config)
    (part,) = callbacks.cache("part", lambda: (np.full(2, float(index)),))
    return {"x": np.full(3, float(index)) + sum(x.sum() for x in inputs)}, {"of": float(index)}

request = signals.Request()
run = Run(pathlib.Path(workdir), {}, request=request, reuse=[pathlib.Path(reuse)])
a = run.stage("a", compute, "a")["x"]
b = run.stage("b", compute, "b", a)["x"]
run.record("notes", "who", {"index": index})
made = {"a": a.tolist(), "b": b.tolist(), "computed": computed, "metrics": run.metrics("b")}
made |= {"keys": run.used, "notes": run.manifest["notes"], "stages": run.manifest["stages"]}
request.signum = signal.SIGTERM if index == "1" else None
try:
    run.stage("c", compute, "c")
except signals.Interrupted as end:
    made["interrupted"] = str(end)
run.close()
print("MADE " + json.dumps(made), flush=True)
hosts.leave()
"""


def job(workdir, reuse="nothing"):
    """What each of two processes made."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, address, str(index), str(workdir), str(reuse)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in (0, 1)
    ]
    outputs = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    lines = [line for out, _ in outputs for line in out.splitlines() if "MADE " in line]
    return [json.loads(line.partition("MADE ")[2]) for line in lines], [err for _, err in outputs]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    path = tmp_path_factory.mktemp("job") / "run"
    return path, *job(path)


def test_all_processes_go_on_from_the_results_of_the_first(made):
    path, (first, second), (_, silent) = made
    assert first == second
    assert first["a"] == first["b"] == [0.0] * 3
    assert first["computed"] == ["a", "b"]
    assert first["metrics"] == {"of": 0.0}
    assert first["notes"] == {"who": {"index": "0"}}
    assert first["interrupted"] == "before c"  # the signal came to the other one
    assert "a  " not in silent  # only the first prints
    assert len(list((path / "stages").iterdir())) == 2


@pytest.mark.parametrize("damaged", [None, "a"])
def test_a_job_goes_on_and_takes_over(made, tmp_path, damaged):
    path, (before, _), _ = made
    if damaged:
        again = tmp_path / "copy"
        (first, _), _ = job(again, path)
        assert first["computed"] == []
        assert first["metrics"] == {"from": "run", "of": 0.0}
        (folder,) = (again / "stages").glob("a-*")
        largest = max((f for f in folder.rglob("*") if f.is_file()), key=lambda f: f.stat().st_size)
        content = largest.read_bytes()
        largest.unlink()  # its bytes are the other run's, too
        largest.write_bytes(content[:-1])
        path = again
    (first, second), (printed, _) = job(path)
    assert first == second
    assert first["keys"] == before["keys"]
    assert first["computed"] == ([damaged] if damaged else [])
    assert ("its checksum is wrong; a is computed again" in printed) == bool(damaged)
