"""Does the kernel have the rules that are wanted, and what have they seen?

Compares what ``nft -j list table netdev gimli`` says with what ``guard.py`` wants, down to the last word, and
tells each difference as an operator would. How nft spells a value depends on its version; the comparison
does not. It touches nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gimli.pair.guard import CARP, FAMILY, TABLE, chains_of, counters_of, lease_of, lease_set

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from gimli.pair.guard import Chain, Guard, Rule


@dataclass(frozen=True, slots=True)
class Count:
    """What a counter has seen."""

    packets: int
    bytes: int


def verify(
    listing: Mapping[str, Any] | None, guard: Guard, held: Collection[int] | None = None
) -> tuple[str, ...]:
    """In which respects the kernel's table is not the wanted one, in words; none when it is.

    Args:
        listing: what ``nft -j list table netdev gimli`` has said, each chain's ``dev`` filled in; None
            when there is no such table.
        guard: what is to be guarded.
        held: the vhids whose leases this host may hold; None when the caller cannot know.
    """
    parts = tuple(listing["nftables"]) if listing else ()
    tables = [part["table"] for part in parts if "table" in part]
    if not tables:
        return (f"there is no table {FAMILY} {TABLE}",)
    chains = tuple(chains_of(guard))
    return (
        # nft 1.0.6 prints the table's name in place of its flags; that there are any is what counts.
        *("the table is dormant, or has other flags" for table in tables if "flags" in table),
        *_strangers(parts, chains, guard),
        *_set_differences([part["set"] for part in parts if "set" in part], guard, held),
        *(difference for chain in chains for difference in _chain_differences(parts, chain)),
    )


def _strangers(parts: Iterable[Mapping[str, Any]], chains: tuple[Chain, ...], guard: Guard) -> Iterator[str]:
    wanted = {
        "metainfo": None,
        "table": {TABLE},
        "rule": None,  # judged chain by chain
        "set": {lease_set(vhid.vhid) for vhid in guard.vhids},
        "counter": set(counters_of(chains)),
        "chain": {chain.name for chain in chains},
    }
    for part in parts:
        for kind, body in part.items():
            names = wanted.get(kind, set())
            if names is not None and body.get("name") not in names:
                yield f"{kind} {body.get('name')} is not ours"
    there = {body.get("name") for part in parts for kind, body in part.items() if kind == "counter"}
    yield from (f"counter {name} is missing" for name in counters_of(chains) if name not in there)


def _set_differences(
    sets: Iterable[Mapping[str, Any]], guard: Guard, held: Collection[int] | None
) -> Iterator[str]:
    there = {body.get("name"): body for body in sets}
    for vhid in guard.vhids:
        lease = lease_of(guard, vhid.vhid)
        body = there.get(lease.set_name)
        if body is None:
            yield f"set {lease.set_name} is missing"
            continue
        kind = (body.get("type"), body.get("flags"), body.get("timeout"), body.get("map"))
        if kind != ("ifname", ["timeout"], None, None):
            yield f"set {lease.set_name} is not a plain set of interface names with timeouts"
        for element in body.get("elem", ()):
            name, timeout = (
                (element["elem"]["val"], element["elem"].get("timeout"))
                if isinstance(element, dict)
                else (element, None)
            )
            if timeout is None:
                yield f"{name} is in set {lease.set_name} without a timeout: it would never lapse"
            elif name not in lease.interfaces:
                yield f"{name} is in set {lease.set_name} and does not belong there"
            elif held is not None and vhid.vhid not in held:
                yield f"{name} is in set {lease.set_name}, and not by us"


def _chain_differences(parts: Iterable[Mapping[str, Any]], chain: Chain) -> Iterator[str]:
    parts = tuple(parts)
    body = next((part["chain"] for part in parts if part.get("chain", {}).get("name") == chain.name), None)
    if body is None:
        yield f"chain {chain.name} is missing"
        return
    hook = tuple(body.get(key) for key in ("type", "hook", "dev", "prio", "policy"))
    wanted_hook = (
        ("filter", chain.hook, chain.device, chain.priority, "accept") if chain.hook else (None,) * 5
    )
    if hook != wanted_hook:
        yield f"chain {chain.name} is {_hook_words(hook)}, not {_hook_words(wanted_hook)}"
    there = [
        _canonical_rule(part["rule"]) for part in parts if part.get("rule", {}).get("chain") == chain.name
    ]
    wanted = [_wanted_rule(rule) for rule in chain.rules]
    for rule, form in zip(chain.rules, wanted, strict=True):
        if form not in there:
            yield f"chain {chain.name} has lost the rule: {rule}"
    strangers = (Counter(there) - Counter(wanted)).total()
    if strangers:
        yield f"chain {chain.name} has rules that are not ours: {strangers}"
    elif len(there) == len(wanted) and set(there) == set(wanted) and there != wanted:
        yield f"chain {chain.name} has its rules in another order"


def _hook_words(hook: tuple[Any, ...]) -> str:
    kind, place, device, priority, policy = hook
    if place is None:
        return "without a hook"
    return f"a {kind} at {place} of {device}, priority {priority}, policy {policy}"


def _wanted_rule(rule: Rule) -> tuple[Any, ...]:
    matches = tuple(
        (_frozen(match.left), match.operator, frozenset(map(_canonical, match.right)))
        for match in rule.matches
    )
    verdict = (("jump", rule.jump),) if rule.jump else (("counter", rule.counter), ("drop", None))
    return (*matches, *verdict)


def _canonical_rule(rule: Mapping[str, Any]) -> tuple[Any, ...]:
    """A rule as :func:`_wanted_rule` makes it; what is not known there stays as it is, and differs."""
    return tuple(_canonical_statement(statement) for statement in rule.get("expr", ()))


def _canonical_statement(statement: Mapping[str, Any]) -> tuple[Any, ...]:
    match statement:
        case {"match": {"op": operator, "left": left, "right": right}}:
            values = right["set"] if isinstance(right, dict) and "set" in right else [right]
            return _frozen(left), operator, frozenset(map(_canonical, values))
        case {"jump": {"target": target}}:
            return "jump", target
        case {"counter": str(name)}:
            return "counter", name
        case {"drop": None}:
            return "drop", None
    return ("unknown", _frozen(statement))


def _canonical(value: Any) -> Any:
    """One spelling for a value that nft may spell in several ways."""
    match value:
        case {"prefix": {"addr": str(address), "len": int(length)}}:
            return f"{address}/{length}"
        case "vrrp" | "carp":  # what protocol 112 is called depends on /etc/protocols
            return CARP
        case str() if re.fullmatch(r"0x[0-9a-f]+|[0-9]+", value):
            return int(value, 0)
        case str() | int():
            return value
    return _frozen(value)


def _frozen(value: Any) -> Any:
    """A piece of JSON that can be compared and hashed, whatever the order of its keys."""
    if isinstance(value, dict):
        return tuple(sorted((key, _frozen(child)) for key, child in value.items()))
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def counts(listing: Mapping[str, Any]) -> dict[str, Count]:
    """What each counter has seen, by its name (``guard.counters_of`` has what they mean)."""
    return {
        part["counter"]["name"]: Count(part["counter"]["packets"], part["counter"]["bytes"])
        for part in listing["nftables"]
        if "counter" in part
    }
