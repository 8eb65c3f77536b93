"""Which scenarios are there?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gimli.errors import UsageError
from gimli.lab.network.incident import NetworkScenario
from gimli.lab.network.scenarios import PFSYNC_MULTICAST
from gimli.lab.two_hups.scenario import TwoHups

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gimli.lab.scenario import Scenario

SCENARIOS: Mapping[str, Scenario] = {
    made.name: made for made in (TwoHups(), NetworkScenario(PFSYNC_MULTICAST))
}


def find(name: str) -> Scenario:
    """The scenario of that name.

    Raises:
        UsageError: there is none.
    """
    try:
        return SCENARIOS[name]
    except KeyError:
        raise UsageError(f"there is no scenario {name!r}", fix=f"there are: {', '.join(SCENARIOS)}") from None
