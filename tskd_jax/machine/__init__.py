"""The machine: devices, processes, memory, throughput, signals. Nothing about RL or run folders."""
