# docker build -t tskd_jax .                               for CPUs
# docker build -t tskd_jax --build-arg JAX=cuda13 .        for NVIDIA GPUs: docker run --gpus all …
#
# docker run --rm -v "$PWD/runs:/work/runs" tskd_jax run --config=hopper
ARG PYTHON=3.12
FROM python:${PYTHON}-slim
ARG JAX=
# A compiler, by which `tskd-jax export --format=c` is tried; EGL and a software driver, for films.
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev libegl1 libegl-mesa0 libgl1-mesa-dri \
    && rm -rf /var/lib/apt/lists/*
ENV MUJOCO_GL=egl
COPY . /tskd_jax
RUN pip install --no-cache-dir "/tskd_jax[onnx,stablehlo,parquet${JAX:+,$JAX}]" && rm -rf /tskd_jax
WORKDIR /work
ENTRYPOINT ["tskd-jax"]
CMD ["--help"]
