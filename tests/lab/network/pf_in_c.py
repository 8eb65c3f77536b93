"""pf_tcp_track_full() once more, as C computes it: 32 bits, SEQ_GEQ on the signed difference.

Written beside OpenBSD's sys/net/pf.c, line by line and without thinking, so that the one in ``src`` may be
written to be read. Peers are dictionaries of the C names.
"""

# ruff: noqa: PLR1730, SIM114 - as in C

from __future__ import annotations

MAXACKWINDOW = 0xFFFF + 1500
FIN, SYN, RST, ACK = 1, 2, 4, 16
TCPS_SYN_SENT, TCPS_ESTABLISHED, TCPS_CLOSING, TCPS_FIN_WAIT_2, TCPS_TIME_WAIT = 2, 4, 6, 9, 10
PF_WSCALE_FLAG, PF_WSCALE_MASK = 0x80, 0x0F


def u32(number):
    return number & 0xFFFFFFFF


def s32(number):
    number = u32(number)
    return number - (1 << 32) if number >> 31 else number


def seq_geq(a, b):
    return s32(a - b) >= 0


def seq_gt(a, b):
    return s32(a - b) > 0


def track(src, dst, th):  # noqa: C901, PLR0912, PLR0915 - as in C
    """Move ``src`` and ``dst`` on, or return the failed digits."""
    win, flags = th["win"], th["flags"]
    if src["wscale"] and dst["wscale"] and not flags & SYN:
        sws = src["wscale"] & PF_WSCALE_MASK
        dws = dst["wscale"] & PF_WSCALE_MASK
    else:
        sws = dws = 0
    seq, ack = th["seq"], th["ack"]
    end = u32(seq + th["len"])
    if flags & SYN:
        end = u32(end + 1)
    if src["seqlo"] == 0:
        if flags & SYN and dst["wscale"] & PF_WSCALE_FLAG:
            src["wscale"] = th["wscale"]
            if src["wscale"] & PF_WSCALE_FLAG:
                sws = src["wscale"] & PF_WSCALE_MASK
                win = (win + (1 << sws) - 1) >> sws
                dws = dst["wscale"] & PF_WSCALE_MASK
            else:
                dst["max_win"] <<= dst["wscale"] & PF_WSCALE_MASK
                dst["wscale"] = 0
        if flags & FIN:
            end = u32(end + 1)
        src["seqlo"] = seq
        src["state"] = max(src["state"], TCPS_SYN_SENT)
        if src["seqhi"] == 1 or seq_geq(end + max(1, dst["max_win"] << dws), src["seqhi"]):
            src["seqhi"] = u32(end + max(1, dst["max_win"] << dws))
        src["max_win"] = max(src["max_win"], win)
    elif flags & FIN:
        end = u32(end + 1)
    if not flags & ACK or (ack == 0 and flags & (ACK | RST) == ACK | RST) or dst["state"] < TCPS_SYN_SENT:
        ack = dst["seqlo"]
    if seq == end:
        seq = src["seqlo"]
        end = seq
    ackskew = s32(dst["seqlo"] - ack)
    if (
        seq_geq(src["seqhi"], end)
        and seq_geq(seq, src["seqlo"] - (dst["max_win"] << dws))
        and ackskew >= -MAXACKWINDOW
        and ackskew <= MAXACKWINDOW << sws
    ):
        _update(src, dst, win, sws, end, ack)
        if flags & SYN and src["state"] < TCPS_SYN_SENT:
            src["state"] = TCPS_SYN_SENT
        if flags & FIN and src["state"] < TCPS_CLOSING:
            src["state"] = TCPS_CLOSING
        if flags & ACK:
            if dst["state"] == TCPS_SYN_SENT:
                dst["state"] = TCPS_ESTABLISHED
            elif dst["state"] == TCPS_CLOSING:
                dst["state"] = TCPS_FIN_WAIT_2
        if flags & RST:
            src["state"] = dst["state"] = TCPS_TIME_WAIT
        return ""
    if (
        (dst["state"] < TCPS_SYN_SENT or dst["state"] >= TCPS_FIN_WAIT_2 or src["state"] >= TCPS_FIN_WAIT_2)
        and seq_geq(src["seqhi"] + MAXACKWINDOW, end)
        and seq_geq(seq, src["seqlo"] - MAXACKWINDOW)
    ):
        _update(src, dst, win, sws, end, ack)
        if flags & FIN and src["state"] < TCPS_CLOSING:
            src["state"] = TCPS_CLOSING
        if flags & RST:
            src["state"] = dst["state"] = TCPS_TIME_WAIT
        return ""
    tests = (
        seq_geq(src["seqhi"], end),
        seq_geq(seq, src["seqlo"] - (dst["max_win"] << dws)),
        ackskew >= -MAXACKWINDOW,
        ackskew <= MAXACKWINDOW << sws,
        seq_geq(src["seqhi"] + MAXACKWINDOW, end),
        seq_geq(seq, src["seqlo"] - MAXACKWINDOW),
    )
    return "".join(str(number) for number, passes in enumerate(tests, 1) if not passes)


def _update(src, dst, win, sws, end, ack):
    src["max_win"] = max(src["max_win"], win)
    if seq_gt(end, src["seqlo"]):
        src["seqlo"] = end
    if seq_geq(ack + (win << sws), dst["seqhi"]):
        dst["seqhi"] = u32(ack + max(win << sws, 1))
