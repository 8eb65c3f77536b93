"""Which advertisements does a group believe?

Those with the digest of its password. Not in it, so that whoever is on the link can change them: TTL,
demotion, advbase, advskew. Nothing here draws a number: the counter comes in.

Source: OpenBSD sys/netinet/ip_carp.c, carp_hmac_prepare_ctx() and carp_prepare_ad(); ucarp src/carp.c.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gimli.pair.packet import ADVERTISEMENT, BOW_OUT, VERSION, Advertisement, PacketRefused, Refusal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gimli.pair.packet import Address, Heard

PASSWORD_BYTES_MAX = 20


class Authenticator:
    """Signs and verifies advertisements of one vhid.

    Args:
        password: shared by all of the group, at most 20 bytes.
        vhid: the group, 1-255.
        addresses: the group's addresses, in any order. A peer must have the same ones.
        lladdr: the MAC of the group where that is neither 00:00:5e:00:01:VHID nor the interface's own.

    Raises:
        ValueError: an argument does not fit.
    """

    def __init__(self, password: bytes, vhid: int, addresses: Iterable[Address], lladdr: bytes = b"") -> None:
        if len(password) > PASSWORD_BYTES_MAX:
            raise ValueError(f"password has {len(password)} bytes, at most {PASSWORD_BYTES_MAX} fit")
        if not 1 <= vhid <= 255:
            raise ValueError(f"vhid is {vhid}, 1 to 255 fit")
        if len(lladdr) not in {0, 6}:
            raise ValueError(f"lladdr has {len(lladdr)} bytes, not 6")
        self.vhid = vhid
        chosen = set(addresses)
        # OpenBSD's carp interface has an IPv6 link-local address by itself. It sends the digest without such
        # addresses, and also accepts the one with them, which older releases sent.
        plain = {address for address in chosen if not address.is_link_local or address.version == 4}
        head = bytes((VERSION, ADVERTISEMENT)) + lladdr + bytes((vhid,))
        self._message = head + _packed(plain)
        self._accepted = (self._message,) if plain == chosen else (self._message, head + _packed(chosen))
        self._key = password.ljust(PASSWORD_BYTES_MAX, b"\0")

    def sign(self, advbase: int, advskew: int, demotion: int, counter: int) -> Advertisement:
        """An advertisement that peers believe.

        Raises:
            ValueError: a number does not fit its byte, or the counter its eight.
        """
        for name, number in (("advbase", advbase), ("advskew", advskew), ("demotion", demotion)):
            if not 0 <= number <= 255:
                raise ValueError(f"{name} is {number}, 0 to 255 fit")
        if not 0 <= counter < 1 << 64:
            raise ValueError(f"counter is {counter}, 64 bits fit")
        return Advertisement(
            self.vhid, advbase, advskew, demotion, counter, self._digest(self._message, counter)
        )

    def bow_out(self, counter: int) -> Advertisement:
        """The advertisement of a MASTER that goes.

        Its demotion is the highest one as well: by that an OpenBSD BACKUP takes over in the fast mode too,
        and an OpenBSD MASTER does not yield to it.
        """
        return self.sign(BOW_OUT, BOW_OUT, BOW_OUT, counter)

    def verify(self, advertisement: Advertisement, own_counters: range = range(0)) -> None:
        """Let only a peer's advertisement pass.

        Args:
            advertisement: as heard.
            own_counters: the counters that this node has sent: they come back from a loop in the network,
                or from somebody who plays them to us.

        Raises:
            PacketRefused: it is of another group, of another password, or our own.
        """
        if advertisement.vhid != self.vhid:
            raise PacketRefused(
                Refusal.WRONG_VHID,
                "advertisement of another group",
                why=f"vhid {advertisement.vhid}, expected {self.vhid}",
            )
        counter, digest = advertisement.counter, advertisement.digest
        if not any(hmac.compare_digest(digest, self._digest(message, counter)) for message in self._accepted):
            raise PacketRefused(
                Refusal.DIGEST,
                f"digest of vhid {self.vhid} is wrong",
                why="the sender has another password or other addresses",
                fix="give both hosts the same password and the same addresses for this vhid",
            )
        if counter in own_counters:
            raise PacketRefused(
                Refusal.OWN_COOKIE,
                f"own advertisement of vhid {self.vhid} came back",
                why="a loop in the network, or a replay",
            )

    def _digest(self, message: bytes, counter: int) -> bytes:
        return hmac.digest(self._key, message + counter.to_bytes(8, "big"), "sha1")


@dataclass(frozen=True, slots=True)
class Replay:
    """The highest counter that each sender has shown: stricter than the protocol, for nodes of ours only.

    ucarp's counters start anywhere and follow its peer's, OpenBSD's never change: against them it refuses
    everything. An advertisement that comes by two paths is no replay: each path has a ``Replay``.
    """

    highest: Mapping[Address, int]

    def accept(self, heard: Heard) -> Replay:
        """The window after an advertisement that was verified.

        Raises:
            PacketRefused: its counter has not risen.
        """
        counter = heard.advertisement.counter
        highest = self.highest.get(heard.source, -1)
        if counter <= highest:
            raise PacketRefused(
                Refusal.REPLAYED,
                f"advertisement of {heard.source} was sent before",
                why=f"counter {counter}, expected more than {highest}",
            )
        return Replay({**self.highest, heard.source: counter})


def _packed(addresses: Iterable[Address]) -> bytes:
    """The IPv4 addresses ascending, then the IPv6 addresses ascending; each once, whatever its prefix."""
    return b"".join(
        packed for _, packed in sorted({(address.version, address.packed) for address in addresses})
    )
