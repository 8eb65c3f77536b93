"""A pair of hosts on a network that does not exist, and what goes wrong there (docs/pair-simulation.md)."""
