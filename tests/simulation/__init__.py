"""A deterministic simulation of the monitor: docs/simulation.md."""
