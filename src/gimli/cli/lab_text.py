"""How does a result of the laboratory read on a terminal?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from gimli.cli.lines import LABEL_WIDTH, block, flow, paragraph, safe

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gimli.lab.scenario import Cause, Cure, Moment, Result, Verdict

_INDENT = 2
_DIFF_STYLES = {"+": "green", "-": "red"}


def render(result: Result, width: int) -> list[Text]:
    """The whole: the line that says it, then causes, story, cures, expectations, and how sure that is."""
    inner = width - _INDENT
    sections = [
        _causes(result.causes, _incident(result), inner) or _why(result.explanation, inner),
        _story(result.timeline, inner),
        _cures(result.cures, inner),
        _expectations(result.verdicts, inner) if not result.cures else [],
        _change(result.change),
        _sure(result.sure, inner),
    ]
    lines = _headline(result, width)
    lines.append(Text())
    for section in sections:
        lines += [Text.assemble(" " * _INDENT, line) for line in section]
    lines += [Text(), *_more(result)]
    return lines


def _incident(result: Result) -> str:
    """What is gone with a cause."""
    is_endless = any("doubled" in cure.metrics for cure in result.cures)
    return "the endless log" if is_endless else "the incident"


def _headline(result: Result, width: int) -> list[Text]:
    first = Text(f"{result.scenario}: ", style="bold")
    mode = f"({result.mode}, seed {result.seed})" if result.mode == "simulated" else f"({result.mode})"
    chunks = [Text(word) for word in [*safe(result.headline).split(" "), mode]]
    return flow(first, chunks, gap=1, indent=_INDENT, width=width)


def _why(explanation: Sequence[str], width: int) -> list[Text]:
    lines = []
    for number, sentence in enumerate(explanation):
        lines += paragraph("WHY" if number == 0 else "", sentence, width)
    return lines


def _causes(causes: Sequence[Cause], gone: str, width: int) -> list[Text]:
    """What must come together; of each, whether the incident is gone without it."""
    needed = [cause for cause in causes if cause.needed]
    if not needed:
        return []
    count = {2: "two", 3: "three", 4: "four"}.get(len(needed), str(len(needed)))
    lines = paragraph("CAUSE", f"{count} things together; take any one away and {gone} is gone:", width)
    for number, cause in enumerate(needed, 1):
        lines.append(Text(f"{' ' * LABEL_WIDTH}{number} {safe(cause.text)}", style="bold"))
        lines.append(Text(f"{' ' * LABEL_WIDTH}  without it: {safe(cause.without)}", style="dim"))
    return lines


def _story(timeline: Sequence[Moment], width: int) -> list[Text]:
    lines: list[Text] = []
    for moment in timeline:
        first = Text(f"t={moment.t_ms / 1000:<8.4f} {moment.where:<6} ")
        room = width - LABEL_WIDTH
        words = [Text(word) for word in safe(moment.text).split(" ")]
        lines += flow(first, words, gap=1, indent=len(first), width=room)
    return block("STORY", lines)


def _cures(cures: Sequence[Cure], width: int) -> list[Text]:
    if not cures:
        return []
    if "doubled" not in cures[0].metrics:
        return _network_cures(cures, width)
    longest = max(len(cure.change) for cure in cures)
    rows = [Text(f"{'':<{longest}}  doubled  endless  gap of HUPs     price", style="bold")]
    for cure in cures:
        row = Text()
        row.append(f"{safe(cure.change):<{longest}}  ", style="green" if cure.cures else "")
        row.append(
            f"{cure.metrics['doubled']:>7}  {cure.metrics['endless']:>7}  {_spread(cure.metrics):<15} "
        )
        words = [Text(word) for word in safe(cure.price).split(" ")]
        rows += flow(row, words, gap=1, indent=len(row), width=width - LABEL_WIDTH)
    return block("CURES", rows)


def _network_cures(cures: Sequence[Cure], width: int) -> list[Text]:
    """Of each change how many runs failed, and least to most of what was counted."""
    longest = max(len(cure.change) for cure in cures)
    rows = [Text(f"{'':<{longest}}  failed  BAD state   lasting  RSTs     price", style="bold")]
    for cure in cures:
        failed = f"{cure.metrics['failed']} of {cure.metrics['runs']}"
        row = Text()
        row.append(f"{safe(cure.change):<{longest}}  ", style="green" if cure.cures else "")
        row.append(f"{failed:<8}{_range(cure, 'bad_state_drops'):<12}")
        row.append(f"{_range(cure, 'lasting'):<9}{_range(cure, 'application_resets'):<9}")
        words = [Text(word) for word in safe(cure.price).split(" ")]
        rows += flow(row, words, gap=1, indent=len(row), width=width - LABEL_WIDTH)
    return block("CURES", rows)


def _range(cure: Cure, name: str) -> str:
    figure = cure.metrics[name]
    return f"{figure['min']:g} to {figure['max']:g}" if figure["max"] else "0"


def _spread(metrics: Mapping[str, Mapping[str, float] | None]) -> str:
    gap = metrics["gap_ms"]
    return f"{gap['min']:.0f} to {gap['max']:.0f} ms" if gap else "one HUP"


def _expectations(verdicts: Sequence[Verdict], width: int) -> list[Text]:
    lines = []
    longest = max((len(verdict.expect) for verdict in verdicts), default=0)
    for verdict in verdicts:
        mark = ("ok    ", "green") if verdict.holds else ("FAILED", "bold red")
        words = f" {safe(verdict.expect):<{longest}}  {safe(verdict.figure)}"
        lines.append(Text.assemble(mark, words[: width - LABEL_WIDTH]))
    return block("EXPECT", lines)


def _change(lines: Sequence[str]) -> list[Text]:
    return block("CHANGE", [Text(safe(line), style=_DIFF_STYLES.get(line[:1], "")) for line in lines])


def _sure(claims: Sequence[str], width: int) -> list[Text]:
    lines = []
    for number, claim in enumerate(claims):
        lines += paragraph("SURE" if number == 0 else "", claim, width)
    return lines


def _more(result: Result) -> list[Text]:
    name = result.scenario
    others = f"gimli lab run {name}" if result.cures else f"gimli lab explain {name}"
    real = "" if result.mode == "real" else f" | {others} --real"
    return [Text(f"more: {others}{real}     drawn: --html {name.removesuffix('.toml')}.html", style="dim")]
