"""A long run needs no more room than a short one. ``make soak`` lets it go on for ten minutes."""

from __future__ import annotations

import gc
import os
import resource
from dataclasses import replace

import pytest

from tests.lab.network.designs import PFSYNC_MULTICAST, traffic, world

SETTLED_S = 120.0
"""Until then it grows: closed states are kept for a minute and a half."""
LASTS_S = float(os.environ.get("GIMLI_LAB_SOAK_S", "240"))
PER_S = 3 if "GIMLI_LAB_SOAK_S" in os.environ else 1


def objects():
    gc.collect()
    return len(gc.get_objects())


def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@pytest.mark.slow
def test_a_long_run_needs_no_more_room_than_a_short_one():
    """Counted in objects, and in megabytes: connections come and go at a rate, and some of them freeze."""
    lasts_s = LASTS_S + 40.0
    topology = traffic(
        replace(PFSYNC_MULTICAST, lasts_s=lasts_s), connections=int(PER_S * lasts_s), over_s=lasts_s
    )
    played = world(topology)
    found = []
    for part in range(5):
        at_s = SETTLED_S + (LASTS_S - SETTLED_S) * part / 4
        played.play(at_s)
        found.append((objects(), peak_mb()))
        print(f"\n{at_s:5.0f} s  {found[-1][0]:9,} objects  {found[-1][1]:6.1f} MB at most", end="")
    assert played.recorder.answered > PER_S * LASTS_S
    assert played.recorder.counts["bad_state"]["fw1"] > 0
    (before, before_mb), (after, after_mb) = found[0], found[-1]
    assert after < 1.1 * before
    assert after_mb < before_mb + 5.0
