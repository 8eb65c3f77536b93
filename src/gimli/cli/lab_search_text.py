"""How does what a search has found read on a terminal?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from gimli.cli.lines import block, flow, paragraph, safe
from gimli.lab.network import words
from gimli.lab.network.hunt import ENOUGH, OTHER_SEEDS, SEEDS
from gimli.lab.network.smaller import sizes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gimli.lab.network.hunt import Found, Hunted

_INDENT = 2


def render(scenario: str, seed: int, hunted: Hunted, paths: Sequence[str], width: int) -> list[Text]:
    """The line that says it, what is left of each that fails, what was passed over, and how to go on."""
    first = Text(f"{scenario}: ", style="bold")
    said = f"{_count(hunted)} (seed {seed})"
    lines = flow(first, [Text(word) for word in said.split(" ")], gap=1, indent=_INDENT, width=width)
    inner = width - _INDENT
    sections = []
    for found, path in zip(hunted.found, paths, strict=True):
        sections += [Text(), *_found(found, path, inner)]
    sections += [Text(), *_passed(hunted, inner)]
    lines += [Text.assemble(" " * _INDENT, line) if line.plain else line for line in sections]
    return [*lines, Text(), *_more(scenario, seed, hunted, paths)]


def _count(hunted: Hunted) -> str:
    designs = "one random design" if hunted.designs == 1 else f"{hunted.designs} random designs"
    match len(hunted.found):
        case 0:
            return f"nothing found in {designs}"
        case 1:
            return f"one way to fail found in {designs}"
        case ways:
            return f"{ways} ways to fail found in {designs}"


def _found(found: Found, path: str, width: int) -> list[Text]:
    lines = paragraph("FAILS", f"design {found.design}: {words.headline(found.drawn_metrics)}", width)
    failed = [verdict for verdict in found.drawn_verdicts if not verdict.holds]
    lines += block("", [Text(safe(f"{verdict.expect}: {verdict.figure}")[:width]) for verdict in failed])
    longest = max((len(pick.name) for pick in found.left), default=0)
    lines += paragraph(
        "LEFT",
        f"{len(found.left)} of its {len(found.drawn)} changes; with any one less it no longer fails, seeds "
        f"{SEEDS[0]} to {SEEDS[-1]} being asked:",
        width,
    )
    rows = [
        Text.assemble((f"{pick.name:<{longest}}", "bold"), f"  {safe(pick.setting.text)}")
        for pick in found.left
    ]
    lines += block("", rows)
    lines += paragraph("SMALLER", _smaller(found), width)
    others = f"it fails with {found.failed} of {len(OTHER_SEEDS)} seeds that were not used to shrink it"
    if found.designs > 1:
        others += f"; {found.designs} designs of this search have all of it and fail"
    lines += paragraph("HOLDS", others, width)
    return [*lines, *paragraph("FILE", path, width)]


def _smaller(found: Found) -> str:
    before, after = found.drawn_sizes, sizes(found.topology)
    parts = [f"{before[name]:g} -> {after[name]:g} {name}" for name in after if before[name] != after[name]]
    frozen, opened = found.metrics["frozen"], found.metrics["connections"]
    left = (
        f"{frozen} of {opened} connections {'freezes' if frozen == 1 else 'freeze'} there (seed {SEEDS[0]})"
    )
    return f"{', '.join(parts) or 'no more'}; {left}"


def _passed(hunted: Hunted, width: int) -> list[Text]:
    """What failed and was not looked into."""
    parts = [f"{count} {kind}" for kind, count in hunted.loud.items()]
    if hunted.rare:
        parts.append(f"{hunted.rare} failed once, and with fewer than {ENOUGH} of {len(SEEDS)} other seeds")
    if hunted.by_harm:
        parts.append(f"{hunted.by_harm} were explained by what broke")
    said = "; ".join(parts) if parts else "none"
    return paragraph("PASSED", f"over: {said}", width)


def _more(scenario: str, seed: int, hunted: Hunted, paths: Sequence[str]) -> list[Text]:
    if not hunted.found:
        words_of = f"more: gimli lab search {scenario} --seed {seed + 1}"
        return [Text(words_of, style="dim")]
    return [Text(f"more: gimli lab run {paths[0]} | gimli lab explain {paths[0]}", style="dim")]
