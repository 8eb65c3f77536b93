"""Chaos on the real kernel: python -m tests.chaos [--seconds N] [--seed N].

Services that crash, hang, fork, ignore TERM and flood; storms of HUP, kill -9 of the monitor, a full disk,
broken files, stopped processes. The rules are checked from outside all the time (watch.py); the exit status
is 1 when one was broken.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING

from tests.chaos.stage import Failed, Stage
from tests.chaos.storm import Storm, wait_for
from tests.chaos.watch import Watch, cpu_ns, descriptors

if TYPE_CHECKING:
    from tests.chaos.timeline import Breach

_IDLE_CPU_PERCENT_MAX = 2.0
_EVENTS = (
    *("takeover", "takeover-failed", "adopted", "ended-unseen", "started", "exited", "crash", "hang"),
    *("report", "snapshot-failed", "analysed", "analysis-failed", "backoff", "failed", "output-lost"),
)
_TELL_S = 10.0
_TAKEOVERS_IN_PEACE = 5
_ALIKE = 15
_SHOWN_MAX = 20


def main() -> int:
    """Make chaos, and judge."""
    arguments = parse_arguments()
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}: python -m tests.chaos --seconds {arguments.seconds:g} --seed {seed}", flush=True)
    stage = Stage(seed)
    if not stage.disk_is_ours:
        print("the disk is not filled: that needs root, and a mount namespace of its own", flush=True)
    try:
        return _run(stage, arguments.seconds, seed)
    finally:
        stage.close()


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=str(__doc__).splitlines()[0])
    parser.add_argument("--seconds", type=float, default=120.0, help="how long the storm lasts")
    parser.add_argument("--seed", type=int, help="what comes when; one that was printed repeats a run")
    return parser.parse_args()


def _run(stage: Stage, seconds: float, seed: int) -> int:
    stage.be_still(still=True)
    watch = Watch(stage)
    storm = Storm(stage, watch, seed)
    idle_percent = 0.0
    with watch:
        try:
            stage.up()
            storm.calm()
            before = _descriptors_at_rest(stage)
            stage.be_still(still=False)
            _storm(storm, watch, seconds)
            storm.calm()
            idle_percent = _idle_percent(stage, watch, min(5.0, max(2.0, seconds / 10)))
            storm.take_over(_TAKEOVERS_IN_PEACE)
            after = _descriptors_at_rest(stage)
            if len(after) != len(before):
                more, less = Counter(after) - Counter(before), Counter(before) - Counter(after)
                counts = f"had {len(before)} descriptors, and has {len(after)}"
                watch.breach(f"the monitor {counts}; more: {dict(more)}, less: {dict(less)}")
            if idle_percent > _IDLE_CPU_PERCENT_MAX:
                watch.breach(f"at rest the monitor uses {idle_percent:.1f} % of a core")
            wait_for(lambda: not watch.timeline.unfinished(), 60, "reports that never come, nor fail")
            storm.end()
        except Failed as failure:
            watch.breach(str(failure))
    watch.close()
    _tell(storm, watch, idle_percent)
    return _judge(watch.breaches)


def _storm(storm: Storm, watch: Watch, seconds: float) -> None:
    began_s = told_s = time.monotonic()
    while (now_s := time.monotonic()) < began_s + seconds:
        storm.step()
        if sys.stderr.isatty() or now_s - told_s >= _TELL_S:
            told_s = now_s
            timeline = watch.timeline
            line = (
                f"{now_s - began_s:6.1f} s of {seconds:g}: "
                f"{storm.counts['SIGHUP to the monitor']} HUPs, {timeline.counts['takeover']} takeovers, "
                f"{storm.counts['SIGKILL to the monitor']} kills, {timeline.counts['adopted']} adoptions, "
                f"{timeline.counts['crash']} crashes, {timeline.counts['hang']} hangs, "
                f"{watch.lines()} lines, {len(watch.breaches)} breaches"
            )
            print(f"\r\033[K{line}" if sys.stderr.isatty() else line, end="", file=sys.stderr)
            print("" if sys.stderr.isatty() else "\n", end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print(file=sys.stderr)


def _descriptors_at_rest(stage: Stage) -> list[str]:
    """Once helpers and clients are gone. Without the marks: a service has one from its first output on."""
    assert stage.monitor is not None
    found: list[str] = []
    alike = 0
    for _ in range(300):
        again = descriptors(stage.monitor)
        is_helped = any("gimli-helper" in each for each in again)
        alike = 0 if again != found or is_helped else alike + 1
        found = again
        if alike == _ALIKE:
            break
        time.sleep(0.05)
    return [each for each in found if not each.endswith(".mark")]


def _idle_percent(stage: Stage, watch: Watch, seconds: float) -> float:
    """What the monitor uses at rest, the best of three: one may hold a deadline or an analysis."""
    measured = []
    for _ in range(3):
        assert stage.monitor is not None
        before_ns = cpu_ns(stage.monitor)
        time.sleep(seconds)
        measured.append((cpu_ns(stage.monitor) - before_ns) / 1e7 / seconds)
        if measured[-1] <= _IDLE_CPU_PERCENT_MAX:
            break
    return min(measured)


def _tell(storm: Storm, watch: Watch, idle_percent: float) -> None:
    timeline = watch.timeline
    rows = [(what, str(count)) for what, count in sorted(storm.counts.items())]
    rows += [(f"journal: {event}", str(timeline.counts[event])) for event in _EVENTS]
    lost = "journal lines lost to the full disk"
    rows.append((lost, str(timeline.counts[lost])))
    if took := timeline.took_ms:
        rows.append(("takeover, median and max", f"{statistics.median(took):.0f} ms, {max(took):.0f} ms"))
    if storm.end_s:
        ends = f"{statistics.median(storm.end_s):.1f} s, {max(storm.end_s):.1f} s"
        rows.append(("asked to end until it had, median and max", ends))
    rows.append(("lines of output checked", str(watch.lines())))
    rows.append(("rotations that the checks have missed", str(watch.blind)))
    rows.append(("CPU of the monitor at rest", f"{idle_percent:.2f} % of a core"))
    rows.append(("descriptors of the monitor, most", str(watch.descriptors_max)))
    width = max(len(what) for what, _ in rows)
    print("\n".join(f"{what:{width}}  {figure:>12}" for what, figure in rows))


def _judge(breaches: list[Breach]) -> int:
    """Print what was broken; the exit status."""
    told: tuple[str, ...] = ()
    for breach in breaches[:_SHOWN_MAX]:
        around = "" if breach.around == told else "\n    ".join(("", *breach.around))
        told = breach.around
        print(f"\nBROKEN at {breach.at}: {breach.what}{around}")
    print(f"\n{len(breaches)} rules broken" if breaches else "\nevery rule held")
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
