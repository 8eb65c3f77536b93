"""What of a service's output was dropped, where, and why? Pure.

Output is dropped in whole lines: when it comes faster than its rate allows, and when the disk has no room.
The reader of the log sees a line in the place of what is missing:

    gimli: 12.3 MB in 4031 lines dropped: rate 1 MB/s
"""

from __future__ import annotations

from gimli.value import replace, value

BURST_BYTES_MIN = 65_536
"""One read from the pipe: a bucket must hold that much, or a slow rate would drop from quiet programs."""
WHY_BYTES_MAX = 120


@value
class Gap:
    """What was dropped since the last line that was written."""

    why: str = ""
    bytes: int = 0
    lines: int = 0
    is_inside: bool = False
    """The beginning of a line was dropped, so its rest will be too."""


@value
class Bucket:
    """Tokens of one byte each, ``rate_bytes`` of them per second, a second's worth at most."""

    rate_bytes: int
    tokens: float
    at_s: float


def full_bucket(rate_bytes: int, now_s: float) -> Bucket:
    """A program may begin with a burst."""
    return Bucket(rate_bytes, max(rate_bytes, BURST_BYTES_MIN), now_s)


def refill(bucket: Bucket, now_s: float) -> Bucket:
    """The bucket at a later time."""
    burst = max(bucket.rate_bytes, BURST_BYTES_MIN)
    tokens = min(burst, bucket.tokens + max(0.0, now_s - bucket.at_s) * bucket.rate_bytes)
    return replace(bucket, tokens=tokens, at_s=now_s)


def room_bytes(bucket: Bucket, gap: Gap) -> int:
    """How much may be written now. Once something was dropped, nothing until the bucket is half full.

    Without that, a flood would be a log of single lines, each with its line about what is missing.
    """
    burst = max(bucket.rate_bytes, BURST_BYTES_MIN)
    return max(0, int(bucket.tokens)) if not gap.bytes or bucket.tokens >= burst / 2 else 0


def cut(data: bytes, room: int, gap: Gap, why: str, *, is_line_begun: bool) -> tuple[bytes, bytes, Gap]:
    """Keep what there is room for, in whole lines, after a line about what was dropped before them.

    Args:
        data: output as it came.
        room: most bytes to keep; the end of a line that is begun in the file is kept in any case.
        gap: what was dropped before.
        why: the reason, if something must be dropped now.
        is_line_begun: the file does not end in a newline.

    Returns:
        The line about it, or nothing; what is kept; and what is dropped and not told yet.
    """
    if gap.is_inside:
        end = data.find(b"\n") + 1
        if not end:
            return b"", b"", replace(gap, bytes=gap.bytes + len(data))
        gap = replace(gap, bytes=gap.bytes + end, is_inside=False)
        data = data[end:]
    kept_bytes = len(data)
    if kept_bytes > room:
        begun = (data.find(b"\n") + 1 or len(data)) if is_line_begun else 0
        kept_bytes = max(begun, data.rfind(b"\n", 0, room) + 1)
    kept, dropped = data[:kept_bytes], data[kept_bytes:]
    note = b""
    if kept and gap.bytes:
        note, gap = tell(gap, is_line_begun=is_line_begun)
    return note, kept, widen(gap, dropped, why) if dropped else gap


def widen(gap: Gap, dropped: bytes, why: str) -> Gap:
    """More is dropped, from the beginning of a line on or within one."""
    is_inside = not dropped.endswith(b"\n")
    lines = dropped.count(b"\n") + is_inside
    return Gap(why or gap.why, gap.bytes + len(dropped), gap.lines + lines, is_inside)


def tell(gap: Gap, *, is_line_begun: bool) -> tuple[bytes, Gap]:
    """The line that stands where something is missing, and what is left to tell after it."""
    lines = "1 line" if gap.lines == 1 else f"{gap.lines} lines"
    text = f"gimli: {format_size(gap.bytes)} in {lines} dropped: {gap.why}\n"
    return (b"\n" if is_line_begun else b"") + text.encode(errors="replace"), Gap(is_inside=gap.is_inside)


def format_size(size_bytes: int) -> str:
    """Bytes for people: ``12.3 MB``."""
    size = float(size_bytes)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            break
        size /= 1000
    return f"{size:.0f} {unit}" if unit == "bytes" or size >= 1000 else f"{size:.3g} {unit}"
