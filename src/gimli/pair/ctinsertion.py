"""Which message puts a connection into a kernel that does not have it, and what if the kernel refuses?"""

from __future__ import annotations

import errno

from gimli.errors import PeerError
from gimli.pair import ctmessage, netlink
from gimli.pair.ctmessage import BODY, CANONICAL_ORDER, Change
from gimli.pair.cttuple import Tuple

_SRC_NAT, _DST_NAT = 0x10, 0x20  # IPS_SRC_NAT, IPS_DST_NAT
_NAT = _SRC_NAT | _DST_NAT

_ORDER = (*CANONICAL_ORDER, ctmessage.NAT_SRC, ctmessage.NAT_DST)

# A canonical message about a protocol with ports over IPv4 has these at fixed places; see ctintake.py.
_REPLY_AT, _STATUS_AT, _TIMEOUT_AT = 72, 124, 132
_STATUS_HEADER = netlink.ATTRIBUTE.pack(8, ctmessage.STATUS)


def insertion(message: bytes) -> bytes:
    """The form in which a kernel takes a connection that it does not have.

    With NAT the reply tuple is given as if there was none, and what to translate to: the kernel derives the
    translated tuple from the two, and only then marks the connection as one whose packets it must change. An
    entry that is there refuses these attributes, so its updates are canonical messages.

    Args:
        message: a canonical message that says all there is to say.

    Raises:
        PeerError: it is not well formed.
    """
    if _is_usual(message) and not message[_STATUS_AT + 7] & _NAT:
        return message
    found = ctmessage.parts(message)
    status = found.get(ctmessage.STATUS, b"")
    if len(status) != 8 or not status[7] & _NAT:
        return message
    if ctmessage.TUPLE_ORIG not in found or ctmessage.TUPLE_REPLY not in found:
        raise PeerError("a connection without its tuples")
    original, reply = Tuple(found[ctmessage.TUPLE_ORIG]), Tuple(found[ctmessage.TUPLE_REPLY])
    if status[7] & _SRC_NAT:
        found[ctmessage.NAT_SRC] = _translation(
            ctmessage.NAT_SRC, reply.destination, reply.destination_port or reply.icmp_id
        )
    if status[7] & _DST_NAT:
        found[ctmessage.NAT_DST] = _translation(ctmessage.NAT_DST, reply.source, reply.source_port)
    found[ctmessage.TUPLE_REPLY] = netlink.nest(ctmessage.TUPLE_REPLY, reply.answer_to(original))
    return ctmessage.assembled(Change.WHOLE, ctmessage.family_of(message), found, _ORDER)


def with_timeout_of_at_least(message: bytes, least_s: int) -> bytes:
    """A canonical message that gives its connection at least so much time.

    Raises:
        PeerError: it is not well formed.
    """
    least = least_s.to_bytes(4, "big")
    if _is_usual(message) and message[_TIMEOUT_AT : _TIMEOUT_AT + 4] == ctmessage.TIMEOUT_HEADER:
        value_at = _TIMEOUT_AT + 4
        if message[value_at : value_at + 4] >= least:
            return message
        return message[:value_at] + least + message[value_at + 4 :]
    if ctmessage.timeout_s(message) >= least_s:
        return message
    found = ctmessage.parts(message) | {ctmessage.TIMEOUT: ctmessage.TIMEOUT_HEADER + least}
    return ctmessage.assembled(Change(ctmessage.change_in(message)), ctmessage.family_of(message), found)


SECOND_TRY, LAST_TRY = 0x100, 0x200
"""In the sequence number of what is written again."""

_WORTH_A_TRY = {
    errno.EBUSY,  # the entry that is there can not become this one: another status, or another helper
    errno.EOPNOTSUPP,  # it is there, and NAT or a master was given; or no such helper
    errno.EEXIST,  # it is there, and may have what this one has not
    errno.ENOENT,  # the master is gone, or an update of what is not there
    errno.EINVAL,
    errno.EAGAIN,  # a helper's module had to be loaded
}


def second_try(refused: bytes, error: int) -> list[bytes] | None:
    """What to write instead of a message that the kernel refused.

    First as it was, once what stands in its way is deleted; then without what this kernel may lack: a helper,
    or the connection that this one belongs to. The kernel echoes what it refused, so nobody keeps a record.

    Args:
        refused: the message, as the kernel echoed it.
        error: the errno.

    Returns:
        Messages; None when nothing is left to try.
    """
    if error not in _WORTH_A_TRY or len(refused) < netlink.HEADER.size:
        return None
    try:
        length, kind, _, tried, _ = netlink.HEADER.unpack_from(refused)
        if kind != ctmessage.NEW or tried & LAST_TRY or length > len(refused):
            return None
        found = ctmessage.parts(refused[:length])
        if ctmessage.STATUS not in found or ctmessage.TUPLE_REPLY not in found:
            return None  # says too little to make a connection of it
        if tried & SECOND_TRY:
            for dispensable in (ctmessage.HELP, ctmessage.TUPLE_MASTER, ctmessage.SYNPROXY):
                found.pop(dispensable, None)
        again = ctmessage.assembled(Change.WHOLE, ctmessage.family_of(refused), found, _ORDER)
        if ctmessage.NAT_SRC not in found and ctmessage.NAT_DST not in found:
            again = insertion(again)
        tries = LAST_TRY if tried & SECOND_TRY else SECOND_TRY
        header = netlink.HEADER.pack(len(again), kind, netlink.REQUEST | netlink.CREATE, tries, 0)
        return [ctmessage.deletion_of(again), header + again[netlink.HEADER.size :]]
    except PeerError:
        return None


def _is_usual(message: bytes) -> bool:
    return (
        message[_REPLY_AT : _REPLY_AT + 4] == ctmessage.REPLY4_HEADER
        and message[_STATUS_AT : _STATUS_AT + 4] == _STATUS_HEADER
        and len(message) >= _TIMEOUT_AT
    )


def _translation(kind: int, address: bytes, port: bytes) -> bytes:
    lowest, highest = (1, 2) if len(address) == 4 else (4, 5)  # CTA_NAT_V4_MINIP and _MAXIP, or V6
    made = [netlink.attribute(lowest, address), netlink.attribute(highest, address)]
    if port:
        # CTA_NAT_PROTO with CTA_PROTONAT_PORT_MIN and _MAX; for ICMP that is the id.
        made.append(netlink.nest(3, netlink.attribute(1, port), netlink.attribute(2, port)))
    return netlink.nest(kind, *made)


assert BODY == 20
