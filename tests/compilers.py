"""Install XLA's compilers for a GPU and a TPU beside the environment, for the tests of `compile`.

    python tests/compilers.py

They need no such device, and are no dependency: within the environment itself JAX would look for a
GPU at every start. Each has two minutes; where that is not enough, or the machine is another than
Linux on x86, it says so, and the tests that need it are skipped.
"""

import platform
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "build/compilers"
SECONDS = 120


def packages() -> dict[str, list[str]]:
    """Platform -> what its compiler is made of, as fits the JAX that is installed."""
    jax = metadata.version("jax")
    needed = [one for one in metadata.requires("jax") or [] if re.match(r"libtpu\b", one)]
    cuda = [f"jax-cuda12-plugin=={jax}", f"jax-cuda12-pjrt=={jax}"]
    return {
        "gpu": [*cuda, "nvidia-cuda-nvcc-cu12", "nvidia-cuda-nvrtc-cu12"],
        "tpu": [needed[0].partition(";")[0].strip()] if needed else [],
    }


def place(name: str) -> Path:
    """The folder of the compiler for a platform, such as fits the JAX that is installed."""
    return FOLDER / f"{name}-{metadata.version('jax')}"


def install(name: str, required: list[str]) -> str:
    """Install one; gives what went wrong, or ""."""
    if place(name).is_dir():
        return ""
    if not required or (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        return "there is none for this machine"
    unfinished = place(name).with_suffix(".unfinished")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-cache-dir"]
    command += ["--disable-pip-version-check", f"--target={unfinished}", *required]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return f"not installed in {SECONDS} seconds"
    except subprocess.CalledProcessError as error:
        return (error.stderr.strip().splitlines() or ["pip failed"])[-1]
    else:
        unfinished.rename(place(name))
        return ""
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


if __name__ == "__main__":
    for name, required in packages().items():
        if problem := install(name, required):
            print(f"no compiler for a {name}: its tests are skipped ({problem})")
