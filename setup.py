"""Packaging: dependencies with bounds (the tests run on the newest of each), extras, command."""

from pathlib import Path

from setuptools import find_packages, setup

DOCS = [
    "furo>=2024.8",
    "ipykernel>=6.29,<8",
    "jupytext>=1.16,<2",
    "myst-nb>=1.1,<2",
    "nbclient>=0.10,<1",
    "sphinx>=7.4,<10",
]

setup(
    name="tskd_jax",
    version="0.1.0",
    description="Trajectory stitching knowledge distilling (TSKD) for offline RL, in JAX/Flax",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    author="The tskd_jax authors",
    project_urls={"Paper": "https://arxiv.org/abs/2402.00807"},
    keywords="offline reinforcement learning, diffusion, distillation, robotics, JAX, Flax",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    python_requires=">=3.11",
    # configs/ stands beside the package and is installed inside it, so that `--config=hopper` needs
    # no checkout.
    packages=[*find_packages(include=["tskd_jax", "tskd_jax.*"]), "tskd_jax.configs"],
    package_dir={"tskd_jax.configs": "configs"},
    package_data={"tskd_jax": ["py.typed", "data/bundled/*.hdf5", "report/templates/*.html"]},
    install_requires=[
        "absl-py>=2.1,<3",
        "chex>=0.1.90,<0.2",
        "flax>=0.12,<0.13",
        "gymnasium[mujoco]>=1.2,<1.5",
        "h5py>=3.12,<4",
        "jax>=0.9,<0.12",
        "jaxtyping>=0.3,<0.4",
        "jinja2>=3.1,<4",
        "matplotlib>=3.9,<4",
        "ml-collections>=1.0,<2",
        "mujoco>=3.5,<5",  # in earlier ones Hopper moves otherwise than in the embedded data
        "numpy>=2.0,<3",
        "optax>=0.2.5,<0.3",
        "orbax-checkpoint>=0.11.30,<0.13",
        "psutil>=5.9,<8",
        "scipy>=1.14,<2",
        "tensorboardX>=2.6,<3",
        "tqdm>=4.66,<5",
    ],
    extras_require={
        "test": [
            *DOCS,  # which are built and run
            "basedpyright>=1.31,<2",
            "beartype>=0.20,<0.24",
            "hypothesis>=6.100,<7",
            "minari[hdf5]>=0.5.3,<0.6",  # writes what the tests read
            "onnx>=1.16,<2",
            "onnxruntime>=1.19,<2",  # of NumPy 2; brings flatbuffers, which jax.export needs
            "pyarrow>=18",
            "pytest>=8.3,<10",
            "pytest-cov>=6,<8",
            "pytest-xdist>=3.6,<4",
            "ruff>=0.14,<0.18",
            "setuptools>=77",  # builds the wheel that the tests install
            "submitit>=1.5,<2",
        ],
        "docs": DOCS,
        # Compilers for chips that are not here (Linux, x86): `tskd-jax compile`.
        "aot-cuda": ["jax-cuda12-plugin", "nvidia-cuda-nvcc-cu12", "nvidia-cuda-nvrtc-cu12"],
        "aot-tpu": ["jax[tpu]"],
        "collect": ["sbx-rl>=0.20,<1"],
        "mp4": ["imageio-ffmpeg>=0.5,<1"],  # films in other than WebP
        "mlflow": ["mlflow-skinny>=2.16,<4"],
        "wandb": ["wandb>=0.18,<1"],
        "minari": ["minari[hdf5,hf]>=0.5.3,<0.6"],  # only to download
        "ogbench": ["ogbench>=1.1,<2"],
        "onnx": ["onnx>=1.16,<2", "onnxruntime>=1.19,<2"],
        "parquet": ["pyarrow>=18"],
        # Kitchen does not work with newer MuJoCo.
        "robotics": ["gymnasium-robotics>=1.4.2,<1.5", "mujoco>=3.5,<3.12"],
        "slurm": ["submitit>=1.5,<2"],
        "stablehlo": ["flatbuffers>=24.3"],
        "tflite": ["ai-edge-litert>=2,<3", "flatbuffers>=24.3"],  # no TensorFlow
        "torch": ["torch>=2.4"],  # only to read released weights
        "cuda12": ["jax[cuda12]"],
        "cuda13": ["jax[cuda13]"],
        "tpu": ["jax[tpu]"],
    },
    entry_points={"console_scripts": ["tskd-jax=tskd_jax.cli:console"]},
)
