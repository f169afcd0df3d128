"""Which cores and devices each of several processes of one machine has."""

import json
import subprocess
import sys

import pytest

from tskd_jax.errors import DeviceError
from tskd_jax.machine import shares


def test_shares_of_cores_are_disjoint_and_all():
    assert [shares.share(range(7), place, 3) for place in range(3)] == [[0, 1], [2, 3], [4, 5, 6]]
    assert [shares.share([4, 5], place, 3) for place in range(3)] == [[4], [5], [4]]


def test_each_process_has_its_own_devices(monkeypatch):
    for name in ("CUDA_VISIBLE_DEVICES", "TPU_VISIBLE_CHIPS", "XLA_PYTHON_CLIENT_MEM_FRACTION"):
        monkeypatch.delenv(name, raising=False)
    assert shares.device_variables("cpu", 1, 1, 2) == {}
    assert shares.device_variables("gpu", 4, 1, 2) == {"CUDA_VISIBLE_DEVICES": "2,3"}
    assert shares.device_variables("gpu", 1, 1, 2) == {
        "CUDA_VISIBLE_DEVICES": "0",
        "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.38",
    }
    assert shares.device_variables("tpu", 4, 3, 4)["TPU_VISIBLE_CHIPS"] == "3"
    with pytest.raises(DeviceError, match="at most 1 are allowed"):
        shares.device_variables("tpu", 1, 0, 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "6,7")
    assert shares.device_variables("gpu", 2, 1, 2) == {"CUDA_VISIBLE_DEVICES": "7"}


def test_a_process_is_pinned_with_its_threads():
    program = (
        "import os, threading, time\n"
        "from tskd_jax.machine import shares\n"
        "threading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n"
        "shares.pin(shares.cores()[:1])\n"
        "print([len(os.sched_getaffinity(int(t))) for t in os.listdir('/proc/self/task')])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert set(json.loads(done.stdout)) == {1}
