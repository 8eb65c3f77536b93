"""How did a connection of a Linux pair come to stand still? The chain of what happened, with values. Pure.

    the first copy gives a replica its windows, of one direction -> the next ones do not fit any more
    -> takeover -> a good packet is invalid -> its retransmissions are -> somebody gives up

It is found from its end: the first good packet that was dropped, and what that host had tracked before.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from gimli.lab.network.simulator.record import Judged, Told
from gimli.lab.scenario import Moment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gimli.lab.network.simulator.record import Entry


def tell(log: Sequence[Entry], number: int) -> list[Moment]:
    """The story of one connection, up to the packet that is dropped for good; of a run that has traced it."""
    judged = [entry for entry in log if isinstance(entry, Judged) and entry.connection == number]
    dropped = [entry for entry in judged if entry.wrong and not entry.is_copy]
    if not dropped:
        return []
    first = dropped[0]
    here = [entry for entry in judged if entry.where == first.where and entry.t_s <= first.t_s]
    moments = _copies([entry for entry in here if entry.is_copy])
    moments += _takeover(log, first)
    text = f"{first.packet} is INVALID: {first.wrong}: dropped"
    again = [entry for entry in dropped if entry.where == first.where and entry.t_s > first.t_s]
    if again:
        text += f"; {len(again)} more dropped until {again[-1].t_s:.3f} s"
    return [*moments, Moment(first.t_s * 1000, first.where, text, "drop", _fields(first))]


def _copies(copies: Sequence[Judged]) -> list[Moment]:
    """The first one, and the first one that did not fit any more."""
    if not copies:
        return []
    first = copies[0]
    side = "reply" if first.is_original else "original"
    known = first.reply if first.is_original else first.original
    text = (
        f"copy of {first.packet} on {first.interface}: the replica, which was told no windows, takes them "
        f"from it, and believes that nothing was sent behind {known.end} the other way"
    )
    moments = [Moment(first.t_s * 1000, first.where, text, "copy", _fields(first))]
    misfits = [entry for entry in copies if entry.wrong]
    if misfits:
        text = (
            f"{len(misfits)} of {len(copies)} copies do not fit, the first: {misfits[0].wrong}; "
            f"{side}.end stays, for this host is shown no answer"
        )
        moments.append(Moment(misfits[0].t_s * 1000, first.where, text, "misfit", _fields(misfits[0])))
    return moments


def _takeover(log: Sequence[Entry], first: Judged) -> list[Moment]:
    """The last role before the drop on its host, and the last fault."""
    told = [entry for entry in log if isinstance(entry, Told) and entry.t_s <= first.t_s]
    faults = [entry for entry in told if entry.what == "fault"]
    roles = [entry for entry in told if entry.what == "role" and entry.where == first.where]
    return [
        Moment(entry.t_s * 1000, entry.where, entry.words, entry.what)
        for entry in (*faults[-1:], *roles[-1:])
    ]


def _fields(entry: Judged) -> dict[str, object]:
    return {
        "state": entry.state,
        "wrong": entry.wrong,
        "original": asdict(entry.original),
        "reply": asdict(entry.reply),
    }
