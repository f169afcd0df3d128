"""The machine: devices, processes, memory, throughput, signals. No RL, no files of a run."""
