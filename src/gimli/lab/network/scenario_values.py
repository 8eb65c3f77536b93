"""Which kinds of values stand in a scenario file? Each can be read, written, and said in JSON Schema."""

from __future__ import annotations

import ipaddress
import json
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from gimli import toml_file
from gimli.errors import UsageError
from gimli.lab.network.topology import Expect, Expectation
from gimli.toml_file import meant, shape, text_of, texts_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from enum import Enum

    Read = Callable[[Any, str], Any]
    Write = Callable[[Any], str]

_SPAN = r"(\d+(?:\.\d+)?)(us|ms|s|m)"
_SPAN_SCALES = {"us": "e-6", "ms": "e-3", "s": "", "m": ""}
_SPAN_UNITS = ((0, "s"), (-3, "ms"), (-6, "us"))
_RATE = r"(\d+(?:\.\d+)?)(kb|Mb|Gb)/s"
_RATE_SCALES = {"kb": "e-3", "Mb": "", "Gb": "e3"}
_RATE_UNITS = ((3, "Gb/s"), (0, "Mb/s"), (-3, "kb/s"))
_NOT_ZERO = r"(?!0+(\.0+)?[A-Za-z])"
_SIZE = r"0*[1-9]\d* ?(B|kB|MB|GB)"
_NAME = r"[A-Za-z0-9_-]{1,32}"
_MAC = r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}"
_ADDRESS = r"\d{1,3}(\.\d{1,3}){3}"
_PREFIX = r"(\d{1,3}\.){3}"
_WHOLE_BYTES = (8, 16, 24)
_SIZE_UNITS = ((1_000_000_000, "GB"), (1_000_000, "MB"), (1000, "kB"), (1, "B"))
_AFTER_LIMIT = " longer than", " under"


@dataclass(frozen=True, slots=True)
class Value:
    """One kind.

    Args:
        read: what is written becomes what the topology holds; raises :class:`UsageError`.
        write: what the topology holds becomes what is written, so that it is read as the same.
        schema: the same as JSON Schema.
        example: as it is written in a file.
    """

    read: Read
    write: Write
    schema: Mapping[str, Any]
    example: str


def quoted(text: str) -> str:
    """A text of TOML: JSON's are, but for one character."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def listed(texts: Iterable[str]) -> str:
    """A list of what is written already."""
    return f"[{', '.join(texts)}]"


def _quoted_list(texts: Iterable[str]) -> str:
    return listed(quoted(text) for text in texts)


def _scaled(figure: float, units: tuple[tuple[int, str], ...]) -> str:
    """In the first unit of which there is at least one, else in the last: exact to the last digit."""
    exact = Decimal(repr(figure))
    exponent, unit = next((each for each in units if exact >= Decimal(1).scaleb(each[0])), units[-1])
    if not figure:
        exponent, unit = units[0]
    return quoted(f"{exact.scaleb(-exponent).normalize():f}{unit}")


def _written_seconds(seconds: float) -> str:
    return _scaled(seconds, _SPAN_UNITS)


def _written_rate(rate_mbit: float) -> str:
    return _scaled(rate_mbit, _RATE_UNITS)


def _written_size(size_bytes: int) -> str:
    scale, unit = next(each for each in _SIZE_UNITS if size_bytes % each[0] == 0)
    return quoted(f"{size_bytes // scale}{unit}")


def _written_figure(figure: float) -> str:
    return str(int(figure)) if figure.is_integer() else repr(figure)


def _matching(
    pattern: str, what: str, example: str, read: Callable[[str], Any] = str, write: Write = quoted
) -> Value:
    def read_text(written: Any, _: str) -> Any:
        text = text_of(written)
        if not re.fullmatch(pattern, text):
            raise UsageError(f'"{text}" is not {what}', fix=f"like {example}")
        return read(text)

    return Value(read_text, write, {"type": "string", "pattern": f"^{pattern}$"}, example)


def _seconds(text: str) -> float:
    figure, unit = _parts(_SPAN, text)
    return float(figure + _SPAN_SCALES[unit]) * (60.0 if unit == "m" else 1.0)


def _mbit(text: str) -> float:
    figure, unit = _parts(_RATE, text)
    return float(figure + _RATE_SCALES[unit])


def _parts(pattern: str, text: str) -> tuple[str, str]:
    match = re.fullmatch(pattern, text)
    assert match
    return match[1], match[2]


def _size(text: str) -> int:
    return toml_file.parse_size(text, "size")


def _address(text: str) -> str:
    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError as error:
        raise UsageError(f'"{text}" is not an IPv4 address', why=str(error)) from error


def _with_prefix(text: str) -> str:
    try:
        interface = ipaddress.IPv4Interface(text)
    except ValueError as error:
        raise UsageError(f'"{text}" is not an IPv4 address with a prefix', why=str(error)) from error
    if interface.network.prefixlen not in _WHOLE_BYTES:
        raise UsageError(
            f'"{text}" has a prefix of {interface.network.prefixlen} bits',
            fix="networks of 8, 16 or 24 bits are modelled",
        )
    return str(interface)


def _text(written: Any, _: str) -> str:
    return text_of(written)


def _names(written: Any, _: str) -> tuple[str, ...]:
    return texts_of(written)


def whole(least: int, most: int, example: int) -> Value:
    """A whole number in a range."""
    schema = {"type": "integer", "minimum": least, "maximum": most}
    return Value(toml_file.number(least, most), str, schema, str(example))


def figure(least: float, most: float, example: str) -> Value:
    """A number in a range, whole or not."""

    def read(written: Any, _: str) -> float:
        if isinstance(written, bool) or not isinstance(written, int | float) or not least <= written <= most:
            raise UsageError(f"expected a number from {least:g} to {most:g}, got {shape(written)}")
        return float(written)

    return Value(read, _written_figure, {"type": "number", "minimum": least, "maximum": most}, example)


def word(kinds: type[Enum], example: str) -> Value:
    """One of a few words: the values of an enumeration."""
    words = tuple(kind.value for kind in kinds)

    def read(written: Any, _: str) -> Enum:
        if isinstance(written, str) and written not in words:
            known = ", ".join(f'"{item}"' for item in words)
            raise UsageError(f'"{written}" is none of {known}{_guess(written, words)}')
        return kinds(toml_file.one_of(written, words))

    return Value(read, lambda one: quoted(one.value), {"enum": list(words)}, f'"{example}"')


def between(least: Value, example: str) -> Value:
    """Least and most of something."""

    def read(written: Any, key: str) -> tuple[Any, Any]:
        if not isinstance(written, list) or len(written) != 2:
            raise UsageError(f"expected the least and the most, got {shape(written)}", fix=f"like {example}")
        low, high = (least.read(item, key) for item in written)
        if low > high:
            raise UsageError(f"the least, {written[0]}, is more than the most, {written[1]}")
        return low, high

    schema = {"type": "array", "items": dict(least.schema), "minItems": 2, "maxItems": 2}
    return Value(read, lambda pair: listed(map(least.write, pair)), schema, example)


def _two_addresses(written: Any, _: str) -> tuple[str, str]:
    texts = texts_of(written)
    if len(texts) != 2:
        raise UsageError(f"expected two addresses, outside and inside, got {len(texts)}")
    return _address(texts[0]), _address(texts[1])


def _by(key: Value, value: Value, what: str, example: str) -> Value:
    """Pairs, as an inline table."""

    def read(written: Any, where: str) -> tuple[tuple[Any, Any], ...]:
        if not isinstance(written, dict):
            raise UsageError(f"expected {what}, got {shape(written)}", fix=f"like {example}")
        return tuple((key.read(name, where), value.read(item, where)) for name, item in written.items())

    def write(pairs: tuple[tuple[Any, Any], ...]) -> str:
        items = (f"{key.write(name)} = {value.write(item)}" for name, item in pairs)
        return f"{{ {', '.join(items)} }}"

    schema = {
        "type": "object",
        "patternProperties": {key.schema["pattern"]: dict(value.schema)},
        "additionalProperties": False,
    }
    return Value(read, write, schema, example)


def parse_expectation(sentence: str) -> Expectation:
    """What a sentence like ``failover under 4s`` expects.

    Raises:
        UsageError: it is none that is known, or its time is missing or wrong.
    """
    for expect in Expect:
        words = expect.value
        if sentence == words and not words.endswith(_AFTER_LIMIT):
            return Expectation(expect)
        if words.endswith(_AFTER_LIMIT) and sentence.startswith(words):
            limit = sentence.removeprefix(words).strip()
            if not re.fullmatch(_SPAN, limit):
                raise UsageError(f'"{sentence}" ends in no time', fix=f'like "{words} 1s"')
            return Expectation(expect, _seconds(limit))
    raise UsageError(f'"{sentence}" is no expectation{_guess(sentence, SENTENCES)}')


def _sentence(expectation: Expectation) -> str:
    """The inverse of :func:`parse_expectation`."""
    words = str(expectation.expect.value)
    if not words.endswith(_AFTER_LIMIT):
        return quoted(words)
    return quoted(f"{words} {json.loads(_written_seconds(expectation.limit_s))}")


def _written_expectations(expectations: tuple[Expectation, ...]) -> str:
    return "[\n" + "".join(f"    {_sentence(each)},\n" for each in expectations) + "]"


def _guess(written: str, known: tuple[str, ...]) -> str:
    return meant(written, list(known))


def _expectations(written: Any, _: str) -> tuple[Expectation, ...]:
    return tuple(parse_expectation(sentence) for sentence in texts_of(written))


SENTENCES = tuple(
    f"{item.value} 1s" if item.value.endswith(_AFTER_LIMIT) else str(item.value) for item in Expect
)
"""Every expectation that can be written; the time is an example."""

TEXT = Value(_text, quoted, {"type": "string"}, '"what it shows"')
NAME = _matching(_NAME, "a name: letters, digits, - and _", '"fw1"')
NAMES = Value(_names, _quoted_list, {"type": "array", "items": {"type": "string"}}, '["lb1", "lb2"]')
SPAN = _matching(
    _SPAN, "a time, a number with one of the units us, ms, s, m", '"30s"', _seconds, _written_seconds
)
DURATION = _matching(
    _NOT_ZERO + _SPAN,
    "a time of more than 0, a number with one of the units us, ms, s, m",
    '"30s"',
    _seconds,
    _written_seconds,
)
RATE = _matching(_NOT_ZERO + _RATE, "a rate of more than 0", '"100Mb/s"', _mbit, _written_rate)
SIZE = _matching(_SIZE, "a size of more than 0", '"30kB"', _size, _written_size)
ADDRESS = _matching(_ADDRESS, "an IPv4 address", '"192.0.2.1"', _address)
WITH_PREFIX = _matching(_ADDRESS + r"/\d{1,2}", "an address with its prefix", '"192.0.2.2/24"', _with_prefix)
PREFIX = _matching(_PREFIX, "the first three numbers of addresses", '"198.51.100."')
MAC = _matching(_MAC, "a MAC", '"01:00:5e:00:02:64"', str.lower)
SWITCH = Value(toml_file.switch, lambda on: str(on).lower(), {"type": "boolean"}, "true")
SHARE = figure(0, 1, "0.01")
SPANS = between(SPAN, '["500ms", "6s"]')
SIZES = between(SIZE, '["300B", "900B"]')
COUNTS = between(whole(1, 1_000_000, 1), "[2, 5]")
REDIRECT = Value(
    _two_addresses,
    _quoted_list,
    {"type": "array", "items": dict(ADDRESS.schema), "minItems": 2, "maxItems": 2},
    '["203.0.113.1", "10.2.0.11"]',
)
STATIC = _by(MAC, NAMES, "hosts by group MAC", '{ "01:00:5e:00:02:64" = ["lb1", "lb2"] }')
NEIGHBOURS = _by(ADDRESS, MAC, "MACs by address", '{ "192.0.2.100" = "01:00:5e:00:02:64" }')
EXPECTATIONS = Value(
    _expectations,
    _written_expectations,
    {
        "type": "array",
        "items": {
            "anyOf": [
                {"type": "string", "pattern": f"^{item.value} ?{_SPAN}$"}
                if item.value.endswith(_AFTER_LIMIT)
                else {"const": item.value}
                for item in Expect
            ]
        },
    },
    '["no connection freezes longer than 1s"]',
)
