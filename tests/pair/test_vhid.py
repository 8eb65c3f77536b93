"""The times that follow from a vhid's settings, and the settings that are refused."""

from dataclasses import replace

import pytest

from gimli.pair.vhid import advertise_interval_s, announce_again_s, master_down_interval_s
from tests.pair.virtual_link import vhid


@pytest.mark.parametrize(
    ("advbase", "advskew", "interval_s", "dead_s"),
    [
        (1, 0, 1.0, 3.0),
        (1, 100, 1.390625, 3.390625),  # the 3.39 s that was measured as ucarp's theory
        (3, 254, 3 + 254 / 256, 9 + 254 / 256),
        (255, 0, 255.0, 765.0),
        (0, 2, 2 / 256, 6 / 256),
        (0, 254, 254 / 256, 762 / 256),
        (0, 0, 1 / 256, 3 / 256),  # not 0: OpenBSD takes it for the fastest there is
    ],
)
def test_intervals(advbase: int, advskew: int, interval_s: float, dead_s: float):
    assert advertise_interval_s(advbase, advskew) == interval_s
    assert master_down_interval_s(advbase, advskew) == dead_s


def test_a_backup_in_the_fast_mode_is_master_within_100_ms():
    """The budget, with a MASTER at 2/256 s: every handicap up to 8/256 s keeps it."""
    assert master_down_interval_s(0, 8) < 0.1


def test_the_second_announcement_comes_after_two_advertisements_and_not_too_soon():
    assert announce_again_s(1, 100) == 2 * 1.390625
    assert announce_again_s(0, 2) == 1.0


@pytest.mark.parametrize(
    ("name", "number"),
    [("vhid", 0), ("vhid", 256), ("advbase", -1), ("advbase", 256), ("advskew", 255), ("demotion", 256)],
)
def test_what_fits_no_byte_is_refused(name: str, number: int):
    """An advskew of 255 as well: with advbase 255 it would be a bow-out."""
    with pytest.raises(ValueError, match=rf"{name} is {number}, \d to \d+ fit"):
        replace(vhid(), **{name: number})
