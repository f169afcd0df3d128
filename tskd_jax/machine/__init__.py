"""The machine: devices, processes, memory, throughput, signals. Knows no RL and no files."""
