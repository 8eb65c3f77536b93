"""gimli.toml: what is right comes out whole, and of what is wrong every error is named with its line."""

from __future__ import annotations

import json
import os
import re
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gimli.clock import parse_duration
from gimli.errors import UsageError
from gimli.monitor import config
from gimli.monitor.config_file import load, parse, parse_whole
from gimli.store.quota import Limits
from gimli.toml_file import ConfigError

STATE = "/state"
PATH = "/etc/gimli/gimli.toml"


def one(text: str) -> config.Service:
    """The only service of a text."""
    (service,) = parse(text, PATH, STATE)
    return service


def problems(text: str) -> list[tuple[int, str, str]]:
    with pytest.raises(ConfigError) as caught:
        parse(text, PATH, STATE)
    assert caught.value.exit_status == 2
    return [(problem.line, problem.key, problem.expected) for problem in caught.value.problems]


def test_a_command_is_enough():
    service = one('[service.web]\ncommand = ["sleep", "1"]')
    assert service == config.Service(
        name="web",
        command=("sleep", "1"),
        log=config.Log("/state/logs/web.log"),
        policy=config.Policy(restart=config.Restart.ALWAYS),
    )


def test_every_key():
    service = one(
        """
        [service."web.1"]
        command = ["./bin/web", "./not-a-path"]
        environment = { PORT = "80", EMPTY = "" }
        cwd = "data"
        watchdog = "30s"
        watchdog_start = "1m30s"
        watchdog_stop = "250ms"
        restart = "on-fault"
        backoff = "1s..2m"
        log = { file = "logs/web.log", rotate = "1MB" }
        preload = false
        autostart = false
        ready = "notify"
        notify_access = "all"
        probe = ["./bin/ask", "./not-a-path"]
        probe_interval = "2s"
        probe_timeout = "1s"
        """
    )
    assert service == config.Service(
        name="web.1",
        command=("/etc/gimli/./bin/web", "./not-a-path"),
        log=config.Log("/etc/gimli/logs/web.log", cap_bytes=1_000_000),
        policy=config.Policy(
            config.Intervals(30.0, 90.0, 0.25), config.Restart.ON_FAULT, config.Backoff(1.0, 120.0)
        ),
        cwd="/etc/gimli/data",
        environment=(("PORT", "80"), ("EMPTY", "")),
        preload=False,
        autostart=False,
        signs=config.Signs(
            ready=config.ReadyBy.NOTIFY,
            probe=config.Target("command", command=("/etc/gimli/./bin/ask", "./not-a-path")),
            probe_interval_s=2.0,
            probe_timeout_s=1.0,
            access=config.Access.ALL,
        ),
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs programs as others")
def test_every_key_of_the_process_itself(tmp_path):
    (tmp_path / "first").write_text("A=1\nB=1\nC=1\n")
    (tmp_path / "second").write_text("B=2\nC=2\n")
    text = """
        [service.web]
        command = ["web"]
        user = "nobody"
        group = 12
        umask = "027"
        limits = { nofile = [100, 200], core = "unlimited", memory = "1GB" }
        stop_signal = "INT"
        kill_after = "5s"
        environment_files = ["first", "second"]
        environment = { C = "3" }
        forward_hup = true
        """
    (service,) = parse(text, str(tmp_path / "gimli.toml"), STATE)
    assert service.identity is not None
    assert (service.identity.user, service.identity.gid) == ("nobody", 12)
    assert service.umask == 0o027
    assert [(limit.name, limit.soft, limit.hard) for limit in service.limits] == [
        ("nofile", 100, 200),
        ("core", -1, -1),
        ("as", 10**9, 10**9),
    ]
    assert service.policy.stop_signal == signal.SIGINT
    assert service.policy.intervals.stop_s == 5.0
    assert dict(service.environment) == {"A": "1", "B": "2", "C": "3"}
    assert service.forward_hup


@pytest.mark.parametrize(
    ("written", "command", "cwd"),
    [
        ('command = ["web"]', "web", None),  # found by PATH
        ('command = ["bin/web"]', "/etc/gimli/bin/web", None),
        ('command = ["/bin/web"]', "/bin/web", None),
        ('command = ["web"]\ncwd = "."', "web", "/etc/gimli/."),
        ('command = ["web"]\ncwd = "/srv"', "web", "/srv"),
    ],
)
def test_relative_paths_are_relative_to_the_file(written, command, cwd):
    service = one(f"[service.web]\n{written}")
    assert (service.command[0], service.cwd) == (command, cwd)


def test_a_relative_file_is_relative_to_where_gimli_was_called(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gimli.toml").write_text('[service.web]\ncommand = ["./web"]\n')
    (service,) = load("gimli.toml", STATE)
    assert service.command == (f"{tmp_path}/./web",)


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        ('"inherit"', config.Log(None)),
        ('"web.log"', config.Log("/etc/gimli/web.log")),
        ('"/var/log/web.log"', config.Log("/var/log/web.log")),
        ('{ file = "/l" }', config.Log("/l")),
        ('{ file = "/l", rotate = "100kB" }', config.Log("/l", cap_bytes=100_000)),
        ('{ file = "/l", rotate = "2 GB" }', config.Log("/l", cap_bytes=2_000_000_000)),
        ('{ file = "/l", keep = 0, fold = false }', config.Log("/l", keep=0, fold=False)),
        (
            '{ file = "/l", rate = "1MB/s", floor = "1GB" }',
            config.Log("/l", rate_bytes=10**6, floor_bytes=10**9),
        ),
    ],
)
def test_logs(log, expected):
    assert one(f'[service.web]\ncommand = ["web"]\nlog = {log}').log == expected


# One error at a time: the line, the key, and what its text must name.
WRONG = [
    ("commnd = 5", 3, "service.web.commnd", r'unknown key; did you mean "command"\?'),
    ("color = 5", 3, "service.web.color", r"unknown key; known: command, environment, .*"),
    ('watchdog = "soon"', 3, "service.web.watchdog", r'"soon" is not a duration .* 250ms.*'),
    ("watchdog = 30", 3, "service.web.watchdog", r"expected a text in quotes, got a number \(30\)"),
    ('watchdog = "0s"', 3, "service.web.watchdog", r".*more than 0.*"),
    ('watchdog_start = "-1s"', 3, "service.web.watchdog_start", r".*is not a duration.*"),
    ('watchdog_stop = "1s 2"', 3, "service.web.watchdog_stop", r".*is not a duration.*"),
    ('restart = "sometimes"', 3, "service.web.restart", r'expected one of "always", "on-fault", "never", .*'),
    ("restart = [1]", 3, "service.web.restart", r'expected one of "always", .*'),
    ('backoff = "60s..1s"', 3, "service.web.backoff", r"the backoff shrinks: 60s\.\.1s .*"),
    ('backoff = "1s.."', 3, "service.web.backoff", r'"" is not a duration.*'),
    ("cwd = 5", 3, "service.web.cwd", r"expected a text in quotes, got a number \(5\)"),
    ("preload = 1", 3, "service.web.preload", r"expected true or false, got a number \(1\)"),
    ('autostart = "yes"', 3, "service.web.autostart", r"expected true or false, got a text .*"),
    ("environment = 5", 3, "service.web.environment", r"expected a table of texts, .*"),
    ("environment = { A = 1 }", 3, "service.web.environment", r'A: expected a text, .*; write A = "1"'),
    ('environment = { "A=B" = "1" }', 3, "service.web.environment", r"'A=B' cannot be the name of .*"),
    ('environment = { A = "1\\u0000" }', 3, "service.web.environment", r"'A' cannot be .*"),
    ("log = 5", 3, "service.web.log", r'expected a file\'s name, "inherit" or .*, got a number .*'),
    ('log = { rotate = "1MB" }', 3, "service.web.log", r"file is missing: .*"),
    ('log = { file = "l", rotat = "1MB" }', 3, "service.web.log", r'unknown key rotat; .* "rotate"\?'),
    ('log = { file = "l", rotate = "1 MiB" }', 3, "service.web.log", r'"1 MiB" is not a size .*'),
    ('log = { file = "l", rotate = "1kB" }', 3, "service.web.log", r'"1kB" is too small .* at least 100kB'),
    ('user = "no-such-user"', 3, "service.web.user", r"user no-such-user: the system has none .*"),
    ('group = "no-such-group"', 3, "service.web.group", r"group no-such-group: the system has none .*"),
    ("user = true", 3, "service.web.user", r"expected a name or a number, got true or false .*"),
    ("umask = 22", 3, "service.web.umask", r'22 is not a umask .*: "027"'),
    ('umask = "9"', 3, "service.web.umask", r"'9' is not a umask .*"),
    ("limits = 5", 3, "service.web.limits", r"expected a table, such as .*"),
    ("limits = { nofiles = 5 }", 3, "service.web.limits", r"nofiles is no limit; known: .*"),
    ("limits = { as = 5, memory = 6 }", 3, "service.web.limits", r"memory and as are the same limit.*"),
    ('stop_signal = "TREM"', 3, "service.web.stop_signal", r"'TREM' is not a signal .*"),
    ('stop_signal = "KILL"', 3, "service.web.stop_signal", r"KILL cannot be the way to stop .*"),
    ('kill_after = "soon"', 3, "service.web.kill_after", r'"soon" is not a duration .*'),
    ('watchdog_stop = "1s"\nkill_after = "1s"', 4, "service.web.kill_after", r"it is another name .*"),
    ('environment_files = "web.env"', 3, "service.web.environment_files", r"expected a list .*"),
    ('environment_files = ["/n"]', 3, "service.web.environment_files", r"cannot read .* /n; No such .*"),
    ("forward_hup = 1", 3, "service.web.forward_hup", r"expected true or false, .*"),
    ('ready = "soon"', 3, "service.web.ready", r'"soon" is no way to be ready .* "notify", "fd", .*'),
    ("ready = true", 3, "service.web.ready", r"expected a text in quotes, .*"),
    ('notify_access = "some"', 3, "service.web.notify_access", r'expected one of "none", .*'),
    ("probe = 80", 3, "service.web.probe", r"expected a text in quotes, got a number \(80\)"),
    ("probe = []", 3, "service.web.probe", r"expected at least the program's name"),
    ('probe_interval = "0s"', 3, "service.web.probe_interval", r".*more than 0.*"),
    ('probe = "tcp:80"\nprobe_interval = "58s"', 1, "service.web", r"the probe is too rare .*; make .*"),
    ('log = { file = "l", rate = "1MB" }', 3, "service.web.log", r'"1MB" is not a rate .* "1MB/s"'),
    ('log = { file = "l", rate = "1B/s" }', 3, "service.web.log", r'"1B" is too small .* at least 1kB'),
    ('log = { file = "l", keep = true }', 3, "service.web.log", r"expected a number from 0 to 999 .*"),
    ('log = { file = "l", fold = 1 }', 3, "service.web.log", r"expected true or false, got a number \(1\)"),
    ('log = { file = "l", floor = 5 }', 3, "service.web.log", r"expected a text in quotes, .*"),
    ("log = { file = 5 }", 3, "service.web.log", r"expected a text in quotes, .*"),
]  # fmt: skip


@pytest.mark.parametrize(("written", "line", "key", "expected"), WRONG, ids=[item[0] for item in WRONG])
def test_each_error_has_its_line_its_key_and_what_was_expected(written, line, key, expected):
    ((seen_line, seen_key, seen_expected),) = problems(f'[service.web]\ncommand = ["web"]\n{written}\n')
    assert (seen_line, seen_key) == (line, key)
    assert re.fullmatch(expected, seen_expected), seen_expected


@pytest.mark.parametrize(
    ("text", "line", "key", "expected"),
    [
        ("", 1, "service", r"no service: write a table \[service.NAME\] with a command"),
        ("service = 5", 1, "service", r"no service: .*"),
        ("[[service]]\nname = 1", 1, "service", r"no service: .*"),
        ("[service]\nweb = 5", 2, "service.web", r"expected a table with a command"),
        ("[service.web]", 1, "service.web.command", r"missing; expected a list of texts: .*"),
        ('\n[service.web]\ncwd = "/"', 2, "service.web.command", r"missing; .*"),
        ("[service.web]\ncommand = []", 2, "service.web.command", r"expected at least the program's name"),
        ('[service.web]\ncommand = [""]', 2, "service.web.command", r"expected at least the program's name"),
        (
            "[service.web]\ncommand = [1]",
            2,
            "service.web.command",
            r"expected a list of texts, got a list .*",
        ),
        ('[service.web]\ncommand = ["a", "\\u0000"]', 2, "service.web.command", r"a text with a NUL .*"),
        (
            '[service.web]\ncommand = "web --port 80"',
            2,
            "service.web.command",
            r'expected a list of texts, got one text; write \["web", "--port", "80"\]; for a shell.*',
        ),
        ('[service."a/b"]\ncommand = ["web"]', 1, "service.a/b", r"a name has letters, .*"),
        (f'[service.{"a" * 65}]\ncommand = ["web"]', 1, "service." + "a" * 65, r"a name has letters, .*"),
        (
            '[service.web]\ncommand = ["web"]\n[services.db]\n',
            3,
            "services",
            r'unknown table; services are written .*; did you mean "service"\?',
        ),
        ("[service.web\n", 1, "syntax", r".*line 1.*"),
        ('[service.web]\ncommand = ["web"]\ncommand = ["web"]\n', 3, "syntax", r".*"),
    ],
)
def test_errors_of_the_whole(text, line, key, expected):
    found = problems(text)
    assert (line, key) in [(seen_line, seen_key) for seen_line, seen_key, _ in found]
    assert any(re.fullmatch(expected, seen) for _, _, seen in found), found


def test_limits_of_the_monitor_itself():
    text = """
[service.web]
command = ["web"]
[reports]
max_size = "5GB"
max_count = 100
max_age = "30d"
[journal]
max_size = "1MB"
"""
    services, limits = parse_whole(text, "/etc/gimli/gimli.toml", "/state")
    assert len(services) == 1
    assert limits == {"quota": Limits(5 * 10**9, 100, 30 * 86_400.0), "journal_bytes": 10**6}
    assert parse_whole(text.split("[reports]", maxsplit=1)[0], "/g.toml", "/state")[1] == {}


@pytest.mark.parametrize(
    ("text", "line", "key", "expected"),
    [
        ('[reports]\nmax_siz = "1GB"', 4, "reports.max_siz", r'unknown key; did you mean "max_size"\?'),
        ('[reports]\nmax_size = "1kB"', 4, "reports.max_size", r".*is too small .*"),
        ('[reports]\nmax_count = "1"', 4, "reports.max_count", r"expected a number from 0 .*"),
        ("[reports]\nmax_age = 5", 4, "reports.max_age", r"expected a text in quotes, .*"),
        ('[journal]\nmax_size = "big"', 4, "journal.max_size", r'"big" is not a size .*'),
        ("[[journal]]\nx = 1", 3, "journal", r"expected a table, got a list .*"),
    ],
)
def test_errors_of_limits(text, line, key, expected):
    ((seen_line, seen_key, seen),) = problems(f'[service.web]\ncommand = ["web"]\n{text}\n')
    assert (seen_line, seen_key) == (line, key)
    assert re.fullmatch(expected, seen), seen


def test_all_errors_are_found_in_one_go_in_the_order_of_the_file():
    found = problems(
        """
[service.web]
command = "web"
watchdog = "soon"

[service.db]
restart = "sometimes"
colour = 1

[service.good]
command = ["good"]
"""
    )
    assert [(line, key) for line, key, _ in found] == [
        (3, "service.web.command"),
        (4, "service.web.watchdog"),
        (6, "service.db.command"),
        (7, "service.db.restart"),
        (8, "service.db.colour"),
    ]


def test_the_same_key_in_two_services_is_found_in_the_right_one():
    text = '[service.a]\ncommand = ["a"]\nwatchdog = "1s"\n[service.b]\ncommand = ["b"]\nwatchdog = "soon"\n'
    assert problems(text)[0][:2] == (6, "service.b.watchdog")


def test_an_error_says_which_file_how_many_and_how_to_check():
    with pytest.raises(ConfigError) as caught:
        parse("[service.web]\ncwd = 1\npreload = 2", PATH, STATE)
    assert caught.value.what == f"{PATH}: 3 errors, nothing was started"
    assert caught.value.fix == f"then: gimli check -f {PATH}"
    with pytest.raises(ConfigError) as caught:
        parse("[service.web]", PATH, STATE)
    assert caught.value.what == f"{PATH}: 1 error, nothing was started"


def test_a_missing_or_unreadable_file_is_named(tmp_path):
    with pytest.raises(UsageError, match="there is no"):
        load(os.path.join(tmp_path, "gimli.toml"), STATE)
    with pytest.raises(UsageError, match="cannot read") as caught:
        load(str(tmp_path), STATE)
    assert caught.value.why == "Is a directory"
    (tmp_path / "latin1.toml").write_bytes(b'[service.web]\ncommand = ["\xe9"]\n')
    with pytest.raises(UsageError, match="cannot read"):
        load(os.path.join(tmp_path, "latin1.toml"), STATE)


durations = st.builds(
    lambda number, unit: f"{number}{unit}", st.integers(1, 999), st.sampled_from(["ms", "s", "m", "h"])
)
arguments = st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=10)


@given(
    name=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,10}", fullmatch=True),
    command=st.lists(arguments, min_size=1, max_size=4),
    watchdog=durations,
    restart=st.sampled_from(config.Restart),
    environment=st.dictionaries(st.from_regex(r"[A-Z_]{1,5}", fullmatch=True), arguments, max_size=3),
)
def test_what_is_written_comes_out(name, command, watchdog, restart, environment):
    """JSON's texts and lists are TOML's, but for DEL."""
    quote = json.dumps
    pairs = ", ".join(f"{key} = {_quoted(text)}" for key, text in environment.items())
    text = (
        f"[service.{quote(name)}]\ncommand = [{', '.join(map(_quoted, command))}]\n"
        f"watchdog = {quote(watchdog)}\nrestart = {quote(restart.value)}\nenvironment = {{ {pairs} }}\n"
    )
    service = one(text)
    assert (service.name, service.command) == (name, tuple(command))
    assert service.policy.intervals.watchdog_s == parse_duration(watchdog, "")
    assert service.policy.restart is restart
    assert dict(service.environment) == environment


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


@given(st.text(max_size=200))
def test_any_text_is_services_or_a_config_error(text):
    found = []
    try:
        parse(text, PATH, STATE)
    except ConfigError as error:
        found = error.problems
    assert all(1 <= problem.line <= len(text.splitlines()) + 1 for problem in found)


SCRAPS = (
    '[service.a]|[service.b]|[service]|command = |["x"]|"1s"|watchdog = |log = |{|}|=|5|file = |[|]|.a|true|#'
)
scraps = st.sampled_from(["\n", "environment", *SCRAPS.split("|")])


@given(st.lists(scraps, max_size=25).map(lambda parts: " ".join(parts).replace(" \n ", "\n")))
def test_any_mixture_of_toml_is_services_or_a_config_error(text):
    try:
        parse(text, PATH, STATE)
    except ConfigError:
        return
