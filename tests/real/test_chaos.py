"""A short storm of tests/chaos; `make chaos` makes the long one."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.alone]

ROOT = os.path.join(os.path.dirname(__file__), "..", "..")


def test_every_rule_holds_in_a_short_storm():
    """Another seed each time: a failure prints it, and `make chaos SEED=N` repeats what can be repeated."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos", "--seconds", "6"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "every rule held" in done.stdout
