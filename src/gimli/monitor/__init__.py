"""The monitor: one small process that holds services. Pure machines decide, the runtime does."""
