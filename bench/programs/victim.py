"""A Python program that knows nothing of gimli, and crashes when told to: ``victim.py TRIGGER RECORD``.

The same records as victim.c: "main" before anything else is imported, "crash" right before the fault.
"""

import time

MAIN_NS = time.monotonic_ns()

import ctypes  # noqa: E402 - what comes before MAIN_NS is the interpreter's own start
import os  # noqa: E402
import sys  # noqa: E402


def main(trigger: str, record: str) -> None:
    """Wait for a byte, then read address 0."""
    with open(trigger, "r+b", buffering=0) as fifo, open(record, "ab", buffering=0) as file:
        file.write(b"main %d\n" % MAIN_NS)
        os.read(fifo.fileno(), 1)
        file.write(b"crash %d\n" % time.monotonic_ns())
        ctypes.string_at(0)


main(*sys.argv[1:3])
