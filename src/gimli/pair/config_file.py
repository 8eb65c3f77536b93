r"""What does a pair.toml say? Every error is found in one go, with its line, its key and what was expected.

text --toml_file--> tables --one parser per key--> config.Pair
\\--> Problem(line, key, what was expected)
"""

from __future__ import annotations

import ipaddress
import os
import re
import stat
from typing import TYPE_CHECKING, Any

from gimli import toml_file
from gimli.clock import parse_duration
from gimli.errors import UsageError
from gimli.pair import config
from gimli.pair.syncactions import Mode
from gimli.toml_file import ConfigError, Problem, in_one_line, meant, number, shape, switch, text_of, texts_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Parser = Callable[[Any, str], Any]

_TABLES = ("carp", "sync", "guard", "track")
_INTERFACE = re.compile(r"[^\s/:]{1,15}")
_PASSWORD_BYTES_MIN = 8
_PASSWORD_BYTES_MAX = 4096
_INTERVAL_S_MIN = 0.1


def load(path: str) -> config.Pair:
    """The pair of a file. Relative paths in it are relative to the file.

    Raises:
        UsageError: the file cannot be read.
        ConfigError: it is not what it should be.
    """
    return parse(toml_file.read(path, usage="gimli pair run -f FILE"), path)


def parse(text: str, path: str) -> config.Pair:
    """The pair of a file's text.

    Raises:
        ConfigError: with every error of the text.
    """
    check = f"gimli pair check -f {path}"
    document = toml_file.parse(text, path, check=check)
    reading = _Reading(text.splitlines(), os.path.dirname(os.path.abspath(path)))
    pair = reading.document(document)
    if pair is None or reading.problems:
        raise ConfigError(path, reading.problems, check)
    return pair


class _Reading:
    """One pass over a document that collects problems instead of stopping at the first."""

    def __init__(self, lines: list[str], base: str) -> None:
        self.problems: list[Problem] = []
        self._lines = lines
        self._base = base

    def document(self, document: dict[str, Any]) -> config.Pair | None:
        for name in document:
            if name not in _TABLES:
                self._problem((name,), f"unknown table{meant(name, list(_TABLES))}")
        carps = self._carps(document.get("carp"))
        password = carps[0].password if carps else b""
        sync = self._sync(document["sync"], password) if "sync" in document else None
        guard = self._table("guard", document.get("guard", {}), _GUARD)
        track = self._table("track", document.get("track", {}), _TRACK)
        if guard is None or track is None or self.problems:
            return None
        own = dict.fromkeys(carp.interface for carp in carps)
        interfaces = tuple(dict.fromkeys([*own, *guard.pop("interfaces", ())]))
        return config.Pair(
            carps, config.Guard(interfaces, guard.pop("enabled", True)), sync, config.Track(**track)
        )

    def _carps(self, tables: Any) -> tuple[config.Carp, ...]:
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables) or not tables:
            self._problem(
                ("carp",), "no address to share: write a table [[carp]] with vhid, interface and addresses"
            )
            return ()
        carps = [self._carp(place, table) for place, table in enumerate(tables)]
        seen: dict[int, str] = {}
        for place, carp in enumerate(carps):
            if carp and carp.vhid in seen:
                there = f"{carp.vhid} stands at {seen[carp.vhid]} already"
                self._problem(("carp", place, "vhid"), f"{there}; each address pair has a number of its own")
            if carp:
                seen[carp.vhid] = carp.interface
        return tuple(carp for carp in carps if carp)

    def _carp(self, place: int, table: dict[str, Any]) -> config.Carp | None:
        here = ("carp", place)
        found = self._keys(here, table, _CARP, required=("vhid", "interface", "addresses"))
        password = self._password(here, table)
        if password is None and not {"password", "password_file"} & table.keys():
            self._problem(
                (*here, "password"),
                'missing; the same secret at both nodes: password_file = "carp.key" (mode 0600)',
            )
        if found is None or password is None:
            return None
        if found.get("advbase_s", 1) == 0 and not found.get("advskew", 0):
            self._problem(
                (*here, "advskew"),
                "advbase = 0 needs an advskew from 1 on: advertisements then come every advskew/256 s",
            )
            return None
        return config.Carp(password=password, **found)

    def _sync(self, table: Any, password: bytes) -> config.Sync | None:
        if not isinstance(table, dict):
            self._problem(("sync",), f"expected a table, got {shape(table)}")
            return None
        found = self._keys(("sync",), table, _SYNC, required=("interface", "peer"))
        own = self._password(("sync",), table)
        return None if found is None else config.Sync(password=own or password, **found)

    def _table(self, name: str, table: Any, parsers: Mapping[str, tuple[str, Parser]]) -> Any:
        if not isinstance(table, dict):
            self._problem((name,), f"expected a table, got {shape(table)}")
            return None
        return self._keys((name,), table, parsers)

    def _keys(
        self,
        here: tuple[str | int, ...],
        table: dict[str, Any],
        parsers: Mapping[str, tuple[str, Parser]],
        required: tuple[str, ...] = (),
    ) -> dict[str, Any] | None:
        """What a table says, by the names of the value it becomes; None when it has errors."""
        before = len(self.problems)
        found: dict[str, Any] = {}
        known = {*parsers, "password", "password_file"} if here[0] in {"carp", "sync"} else set(parsers)
        for key, written in table.items():
            if key not in known:
                self._problem((*here, key), f"unknown key{meant(key, sorted(known))}")
            elif key in parsers:
                name, parser = parsers[key]
                try:
                    found[name] = parser(written, key)
                except UsageError as error:
                    self._problem((*here, key), in_one_line(error))
        for key in required:
            if key not in table:
                self._problem((*here, key), f"missing; {_EXPECTED[key]}")
        return found if len(self.problems) == before else None

    def _password(self, here: tuple[str | int, ...], table: dict[str, Any]) -> bytes | None:
        """The secret of a table, from the file it names or as it stands there; None when it has none."""
        if "password" in table and "password_file" in table:
            self._problem((*here, "password"), "password and password_file: write one of them")
            return None
        try:
            if "password" in table:
                return _strong(text_of(table["password"]).encode())
            if "password_file" in table:
                return _read_password(os.path.join(self._base, text_of(table["password_file"])))
        except UsageError as error:
            key = "password" if "password" in table else "password_file"
            self._problem((*here, key), in_one_line(error))
        return None

    def _problem(self, keys: tuple[str | int, ...], expected: str) -> None:
        self.problems.append(toml_file.problem_at(self._lines, keys, expected))


def _read_password(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            password = file.read(_PASSWORD_BYTES_MAX).strip()
    except OSError as error:
        raise UsageError(
            f"cannot read {path}",
            why=str(error.strerror),
            fix=f"make one: (umask 077; openssl rand -base64 15 >{path}), and copy it to the other node",
        ) from error
    if stat.S_IMODE(mode) & 0o077:
        raise UsageError(
            f"{path} can be read by others",
            why=f"its mode is {stat.S_IMODE(mode):04o}",
            fix=f"chmod 600 {path}",
        )
    return _strong(password)


def _strong(password: bytes) -> bytes:
    if len(password) < _PASSWORD_BYTES_MIN:
        raise UsageError(
            f"a password of {len(password)} bytes is no protection",
            fix=f"use {_PASSWORD_BYTES_MIN} or more; CARP looks at the first 20",
        )
    return password


def _interface(written: Any, _: str) -> str:
    text = text_of(written)
    if not _INTERFACE.fullmatch(text) or text in {".", ".."}:
        raise UsageError(f"{text!r} is not the name of an interface", fix="see: ip link")
    return text


def _interfaces(written: Any, key: str) -> tuple[str, ...]:
    return tuple(_interface(item, key) for item in texts_of(written))


def _addresses(written: Any, _: str) -> tuple[config.Interface, ...]:
    found = []
    for text in texts_of(written):
        if "/" not in text:
            raise UsageError(f'"{text}" has no prefix', fix=f'write it with that of its network: "{text}/24"')
        try:
            found.append(ipaddress.ip_interface(text))
        except ValueError as error:
            raise UsageError(f'"{text}" is not an address with a prefix', why=str(error)) from error
    if not found:
        raise UsageError("expected at least one address")
    if len({item.ip for item in found}) < len(found):
        raise UsageError("an address stands there twice")
    return tuple(found)


def _peer(written: Any, _: str) -> config.Address:
    text = text_of(written)
    try:
        address = ipaddress.ip_address(text)
    except ValueError as error:
        raise UsageError(f'"{text}" is not an address', why=str(error)) from error
    if address.is_multicast or address.is_unspecified:
        raise UsageError(f'"{text}" is not the address of one node')
    return address


def _peers(written: Any, key: str) -> tuple[config.Address, ...]:
    return tuple(_peer(item, key) for item in texts_of(written))


def _networks(written: Any, _: str) -> tuple[str, ...]:
    for text in texts_of(written):
        try:
            ipaddress.ip_network(text)
        except ValueError as error:
            raise UsageError(f'"{text}" is not a network', why=str(error), fix='"192.0.2.0/24"') from error
    return texts_of(written)


def _mac(written: Any, _: str) -> config.Mac:
    return config.Mac(toml_file.one_of(written, tuple(item.value for item in config.Mac)))


def _mode(written: Any, _: str) -> Mode:
    return Mode(toml_file.one_of(written, tuple(item.value for item in Mode)))


def _command(written: Any, _: str) -> tuple[str, ...]:
    words = texts_of(written)
    if not words or not words[0]:
        raise UsageError("expected at least the program's name")
    return words


def _texts(written: Any, _: str) -> tuple[str, ...]:
    return texts_of(written)


def _interval(written: Any, key: str) -> float:
    seconds = parse_duration(text_of(written), key)
    if seconds < _INTERVAL_S_MIN:
        raise UsageError(f'"{written}" is too short ({key})', why=f"at least {_INTERVAL_S_MIN} s")
    return seconds


_CARP: Mapping[str, tuple[str, Parser]] = {
    "vhid": ("vhid", number(1, 255)),
    "interface": ("interface", _interface),
    "addresses": ("addresses", _addresses),
    "advbase": ("advbase_s", number(0, 254)),
    "advskew": ("advskew", number(0, 254)),
    "preempt": ("preempt", switch),
    "mac": ("mac", _mac),
    "peers": ("peers", _peers),
    "strict_replay": ("strict_replay", switch),
    "up": ("up", _command),
    "down": ("down", _command),
}
_SYNC: Mapping[str, tuple[str, Parser]] = {
    "interface": ("interface", _interface),
    "peer": ("peer", _peer),
    "port": ("port", number(1, 65_535)),
    "mode": ("mode", _mode),
    "ignore": ("ignore", _networks),
}
_GUARD: Mapping[str, tuple[str, Parser]] = {
    "interfaces": ("interfaces", _interfaces),
    "enabled": ("enabled", switch),
}
_TRACK: Mapping[str, tuple[str, Parser]] = {
    "services": ("services", _texts),
    "interfaces": ("interfaces", _interfaces),
    "default_route": ("default_route", switch),
    "command": ("command", _command),
    "interval": ("interval_s", _interval),
    "demotion": ("demotion", number(1, 255)),
}
_EXPECTED = {
    "vhid": "the number of the address pair, 1 to 255, the same at both nodes: vhid = 1",
    "interface": 'the network interface: interface = "eth0"',
    "addresses": 'the shared addresses with their prefixes: addresses = ["192.0.2.1/24"]',
    "peer": 'the other node\'s address on that interface: peer = "198.51.100.2"',
}
