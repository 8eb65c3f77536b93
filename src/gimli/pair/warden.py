"""Are the guard's rules still there, and who mends them?

A look is a run of the ``nft`` program, and so is a repair: each takes longer than a lease in the fast mode
when the host is busy. So the daemon has them done aside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gimli.pair import guard, nft, readback
from gimli.pair.nft import GuardRefused

if TYPE_CHECKING:
    from gimli.pair.guard import Guard


@dataclass(frozen=True, slots=True)
class Look:
    """What was found at one look.

    Args:
        altered: in which respects the rules were not those that were set up.
        wrong: in which they still are not.
    """

    altered: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()


def look_and_mend(wanted: Guard) -> Look:
    """Compare the kernel's rules with those that are wanted, and write them anew where they differ."""
    try:
        altered = readback.verify(nft.read(), wanted)
        if not altered:
            return Look()
        nft.apply(guard.ruleset(wanted, fresh=False))
        return Look(altered, readback.verify(nft.read(), wanted))
    except GuardRefused as refused:
        return Look((), (str(refused),))
