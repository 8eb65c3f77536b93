"""How does a moment of a report read to a person?"""

from __future__ import annotations

from datetime import datetime, timedelta


def parse(text: object) -> datetime | None:
    """A moment as RFC 3339 writes it, or None: what is in a report may be anything."""
    if not isinstance(text, str):
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.astimezone()


def day_and_time(text: str) -> str:
    """``Sat 22 Nov 2026 04:00:07.412 +01:00``, in the time zone it was written in."""
    moment = parse(text)
    if moment is None:
        return text
    offset = moment.strftime("%z")
    return f"{moment:%a} {moment.day} {moment:%b %Y} {time_of_day(moment)} {offset[:3]}:{offset[3:5]}"


def short(text: str) -> str:
    """``2026-11-22 04:00:07``, for tables: it sorts, and keeps one width."""
    moment = parse(text)
    return f"{moment:%Y-%m-%d %H:%M:%S}" if moment else text


def time_of_day(moment: datetime) -> str:
    """``04:00:07.412``."""
    return f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03d}"


def since(first: str, seen_from: str) -> str:
    """A past moment as seen from a later one: ``04:00``, ``Thursday``, ``3 Nov 2026``."""
    moment, now = parse(first), parse(seen_from)
    if moment is None or now is None:
        return first
    moment = moment.astimezone(now.tzinfo)
    if moment.date() == now.date():
        return f"{moment:%H:%M}"
    if now.date() - moment.date() < timedelta(days=7):
        return f"{moment:%A}"
    return f"{moment.day} {moment:%b %Y}"
