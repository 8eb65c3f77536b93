"""How long does a sender wait for an acknowledgement? RFC 6298."""

from __future__ import annotations

RTO_FIRST_S = 1.0
RTO_MAX_S = 64.0


class Patience:
    """The time-out of one connection.

    Args:
        least_s: it is never shorter.
    """

    __slots__ = ("_least_s", "_srtt_s", "_var_s", "rto_s")

    def __init__(self, least_s: float) -> None:
        self._least_s = least_s
        self._srtt_s = 0.0
        self._var_s = 0.0
        self.rto_s = RTO_FIRST_S

    def sample(self, rtt_s: float) -> None:
        """A segment that was sent once was acknowledged after this time."""
        if self._srtt_s:
            self._var_s += (abs(self._srtt_s - rtt_s) - self._var_s) / 4
            self._srtt_s += (rtt_s - self._srtt_s) / 8
        else:
            self._srtt_s = rtt_s
            self._var_s = rtt_s / 2
        self.recover()

    def back_off(self) -> None:
        """It has run out: twice as long next time."""
        self.rto_s = min(2 * self.rto_s, RTO_MAX_S)

    def recover(self) -> None:
        """Something was acknowledged: as long as was measured again."""
        if self._srtt_s:
            self.rto_s = max(self._least_s, self._srtt_s + 4 * self._var_s)
