"""A Python program that feels its pauses: ``sampler.py GAP THREADS MEGABYTES``; see sampler.c."""

import contextlib
import mmap
import os
import struct
import sys
import threading
import time

SAMPLE_EVERY_S = 50e-6


def main(gap: str, threads: int, megabytes: int) -> None:
    """Sample in this thread, while the others wait on an event."""
    # Many small objects, as a program's heap has: they share its arenas with the interpreter's own.
    heap = [bytes(1000) for _ in range(megabytes * 1000)]
    never = threading.Event()
    for _ in range(threads - 1):
        threading.Thread(target=never.wait, daemon=True).start()
    with open(gap, "r+b") as file, mmap.mmap(file.fileno(), 8) as shared:
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        sample(shared)
    del heap


def sample(shared: mmap.mmap) -> None:
    """Keep the longest gap between two readings of the clock."""
    before = time.monotonic_ns()
    while True:
        time.sleep(SAMPLE_EVERY_S)
        now = time.monotonic_ns()
        if now - before > struct.unpack_from("<q", shared)[0]:
            struct.pack_into("<q", shared, 0, now - before)
        before = now


main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
