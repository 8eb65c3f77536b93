"""The original's options: three places, their order, and its odd syntax."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gimli.errors import UsageError
from gimli.monitor.original import OPTIONS, Asked, Kind, config_path, parse_number, read, split

PROGRAM = ("./orders", "--port", "80")
NUMBERS = [option for option in OPTIONS if option.kind in {Kind.SECONDS, Kind.NUMBER}]
TEXTS = [option for option in OPTIONS if option.kind is Kind.TEXT]
SWITCHES = [option for option in OPTIONS if option.kind is Kind.SWITCH]


def problems(arguments=PROGRAM, environ=None, text="") -> list[str]:
    with pytest.raises(UsageError) as caught:
        read(arguments, environ or {}, text, "/etc/monitor.conf")
    assert caught.value.exit_status == 2
    lines = caught.value.why.split("\n")
    assert caught.value.what.startswith(f"{len(lines)} error")
    return lines


def test_the_names_and_defaults_are_the_originals():
    expected = {
        "watchdog-interval": ("GIMLI_WATCHDOG_INTERVAL", 60),
        "watchdog-start-interval": ("GIMLI_WATCHDOG_START_INTERVAL", 200),
        "watchdog-stop-interval": ("GIMLI_WATCHDOG_STOP_INTERVAL", 60),
        "debug": ("GIMLI_DEBUG", 0),
        "quiet": ("GIMLI_QUIET", 0),
        "detach": ("GIMLI_DETACH", 1),
        "setsid": ("GIMLI_SETSID", 1),
        "glider": ("GIMLI_GLIDER_PATH", None),
        "trace-dir": ("GIMLI_TRACE_DIR", None),
        "pidfile": ("GIMLI_PID_FILE", None),
        "respawn-frequency": ("GIMLI_RESPAWN_FREQUENCY", 15),
        "config-file": ("GIMLI_CONFIG_FILE", None),
        "uid": ("GIMLI_UID", -1),
        "gid": ("GIMLI_GID", -1),
        "arg0": ("GIMLI_ARG0", None),
        "run-once": ("GIMLI_RUN_ONCE", 0),
        "immortal": ("GIMLI_IMMORTAL", 0),
        "log-file": ("GIMLI_LOG_FILE", None),
        "trace-interval": ("GIMLI_TRACER_INTERVAL", 60),
        "name": ("GIMLI_NAME", None),
    }
    assert {option.name: (option.variable, option.default) for option in OPTIONS} == expected
    asked = read(PROGRAM, {})
    assert asked.command == PROGRAM
    assert asked.settings == {name: default for name, (_, default) in expected.items()}


# Precedence: the file, then the environment, then the command line.


@pytest.mark.parametrize("option", NUMBERS, ids=lambda option: option.name)
def test_a_number_of_a_later_place_wins(option):
    name, text = option.name, f"{option.name} = 7\n"
    assert read(PROGRAM, {}, text).number(name) == 7
    assert read(PROGRAM, {option.variable: "8"}, text).number(name) == 8
    assert read((f"--{name}=9", *PROGRAM), {option.variable: "8"}, text).number(name) == 9


@pytest.mark.parametrize("option", TEXTS, ids=lambda option: option.name)
def test_a_text_of_a_later_place_wins(option):
    name, text = option.name, f"{option.name} = a b\n"
    assert read(PROGRAM, {}, text).text(name) == "a b"
    assert read(PROGRAM, {option.variable: "c"}, text).text(name) == "c"
    assert read((f"--{name}", "d=e", *PROGRAM), {option.variable: "c"}, text).text(name) == "d=e"


@pytest.mark.parametrize("option", SWITCHES, ids=lambda option: option.name)
def test_a_switch_without_a_value_flips_what_the_places_before_have_set(option):
    name, usual = option.name, option.default
    assert read(PROGRAM, {}, name).number(name) == 1 - usual
    assert read(PROGRAM, {option.variable: ""}, name).number(name) == usual
    assert read((f"--{name}", "-debug=0", *PROGRAM), {option.variable: ""}, name).number(name) == (
        0 if name == "debug" else 1 - usual
    )
    assert read((f"--{name}", f"--{name}", f"--{name}=5", *PROGRAM), {}).number(name) == 5


def test_the_configuration_file_is_named_by_the_command_line_else_by_the_environment():
    environ = {"GIMLI_CONFIG_FILE": "/etc/a"}
    assert config_path(PROGRAM, {}) is None
    assert config_path(PROGRAM, environ) == "/etc/a"
    assert config_path(("--config-file=/etc/b", *PROGRAM), environ) == "/etc/b"
    assert config_path(("-config-file", "/etc/b", "--config-file=/etc/c", *PROGRAM), environ) == "/etc/c"
    assert config_path((*PROGRAM, "--config-file=/etc/d"), {}) is None


# The command line.


@pytest.mark.parametrize(
    ("arguments", "name", "value", "command"),
    [
        (("--uid=5", "x"), "uid", 5, ("x",)),
        (("-uid=5", "x"), "uid", 5, ("x",)),
        (("---uid=5", "x"), "uid", 5, ("x",)),
        (("--uid", "5", "x"), "uid", 5, ("x",)),
        (("--uid=-1", "x"), "uid", -1, ("x",)),
        (("--uid=0x1f", "x"), "uid", 31, ("x",)),
        (("--uid=017", "x"), "uid", 15, ("x",)),
        (("--uid= +7", "x"), "uid", 7, ("x",)),
        # The last word is the program, never a value.
        (("--debug", "x"), "debug", 1, ("x",)),
        (("--debug", "0", "x"), "debug", 0, ("x",)),
        (("--debug", "--quiet=1", "x", "y"), "debug", 1, ("x", "y")),
        (("--debug", "--", "x", "y"), "debug", 1, ("x", "y")),
        # Options after the program are the program's.
        (("x", "--debug", "--help"), "debug", 0, ("x", "--debug", "--help")),
        (("--", "-x"), "debug", 0, ("-x",)),
        (("--arg0=-orders", "x"), "arg0", "-orders", ("x",)),
    ],
)
def test_how_an_option_is_written(arguments, name, value, command):
    asked = read(arguments, {})
    assert (asked.settings[name], asked.command) == (value, command)


@pytest.mark.parametrize("arguments", [("-h",), ("--help",), ("--debug", "-help", "x"), ("--oops", "---h")])
def test_help_comes_before_everything_else(arguments):
    assert read(arguments, {"GIMLI_UID": "x"}, "nonsense here") == Asked(wants_help=True)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), "the program to run is missing: gimli monitor [OPTIONS] PROGRAM [ARGUMENT...]"),
        (("--debug=1",), "the program to run is missing: gimli monitor [OPTIONS] PROGRAM [ARGUMENT...]"),
        (("--pidfiel=x", "y"), "option --pidfiel=x: there is no option 'pidfiel'; did you mean pidfile?"),
        (("-", "y"), "option -: there is no option ''"),
        (("--uid", "y"), "option --uid: uid needs a whole number from -1 on, got ''"),
        (("--uid=-2", "y"), "option --uid=-2: uid needs a whole number from -1 on, got '-2'"),
        (("--uid=www", "y"), "option --uid=www: uid needs a whole number from -1 on, got 'www'"),
        (("--uid=4294967295", "y"), "option --uid=4294967295: uid needs a whole number from -1 on, got"),
        (("--watchdog-interval=0", "y"), "watchdog-interval needs whole seconds from 1 on, got '0'"),
        (("--watchdog-interval=1.5", "y"), "watchdog-interval needs whole seconds from 1 on, got '1.5'"),
        (("--watchdog-interval=2147483648", "y"), "watchdog-interval needs whole seconds"),
        (("--pidfile", "y"), "option --pidfile: pidfile needs a value: pidfile = TEXT"),
        # The program, taken for the switch's value as the original takes it.
        (("--debug", "./y", "z"), "option --debug: debug is a switch, './y' is no number; write debug=1"),
    ],
)
def test_a_wrong_command_line_is_told(arguments, expected):
    assert any(expected in problem for problem in problems(arguments))


# The file.


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("\n  # a comment\n\t\nuid = 5\n", "uid", 5),
        ("  uid   =   5  \r\n", "uid", 5),
        ("uid\t= 5", "uid", 5),
        ("uid=5", "uid", 5),
        ("uid = 5\nuid = 6\n", "uid", 6),
        ("detach\n", "detach", 0),
        ("detach =\n", "detach", 0),
        ("pidfile = /run/my file.pid # no comment", "pidfile", "/run/my file.pid # no comment"),
        ("arg0 = a = b", "arg0", "a = b"),
        ('arg0 = "quoted"', "arg0", '"quoted"'),
    ],
)
def test_a_line_of_the_file(text, name, value):
    assert read(PROGRAM, {}, text).settings[name] == value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("debug = 0\ndebgu = 1\n", "/etc/monitor.conf:2: there is no option 'debgu'; did you mean debug?"),
        ("debug 1\n", "/etc/monitor.conf:1: expected NAME = VALUE, got 'debug 1'"),
        ("= 1\n", "/etc/monitor.conf:1: expected NAME = VALUE, got '= 1'"),
        ("debug = 1 # on\n", "/etc/monitor.conf:1: debug is a switch, '1 # on' is no number; write debug=1"),
        ("--debug = 1\n", "/etc/monitor.conf:1: there is no option '--debug'"),
        ("log-file\n", "/etc/monitor.conf:1: log-file needs a value: log-file = TEXT"),
    ],
)
def test_a_wrong_line_is_told_with_its_number(text, expected):
    assert expected in problems(text=text)[0]


def test_every_error_of_the_three_places_is_told_in_one_go():
    found = problems(("--uid=x",), {"GIMLI_TRACER_INTERVAL": "soon"}, "nonsense\nquiet = maybe\n")
    assert [problem.split(":")[0] for problem in found] == [
        "/etc/monitor.conf",
        "/etc/monitor.conf",
        "GIMLI_TRACER_INTERVAL",
        "option --uid=x",
        "the program to run is missing",
    ]


def test_options_that_mean_nothing_here_are_known():
    assert read(PROGRAM, {}).without_effect() == ()
    asked = read(("--glider=/x", "-debug", "--trace-interval=60", *PROGRAM), {"GIMLI_TRACE_DIR": "/tmp"})
    assert asked.without_effect() == ("debug", "glider", "trace-dir")


# Any input.


@given(st.integers(-(2**31), 2**31))
def test_a_number_is_read_in_each_of_cs_forms(number):
    sign, size = ("-" if number < 0 else ""), abs(number)
    for text in (f"{number}", f"{sign}0x{size:x}", f"{sign}0X{size:X}", f"{sign}0{size:o}", f" \t{number}"):
        assert parse_number(text) == number


@given(st.text(max_size=12))
def test_any_other_text_is_no_number(text):
    number = parse_number(text)
    assert number is None or any(digit in text for digit in "0123456789")


scraps = st.sampled_from(
    ["\n", " ", "=", "#", "debug", "uid", "pidfile", "1", "-1", "0x", "x", "\0", "\r", "é"]
)


@given(text=st.lists(scraps, max_size=20).map("".join) | st.text(max_size=60))
def test_any_file_is_settings_or_errors_that_name_their_lines(text):
    try:
        settings = read(PROGRAM, {}, text, "f").settings
    except UsageError as error:
        lines = text.split("\n")
        for problem in error.why.split("\nf:"):
            assert 1 <= int(problem.removeprefix("f:").split(":")[0]) <= len(lines)
    else:
        assert set(settings) == {option.name for option in OPTIONS}


values = {
    Kind.SWITCH: st.integers(0, 1),
    Kind.SECONDS: st.integers(1, 10**6),
    Kind.NUMBER: st.integers(0, 10**6),
    Kind.TEXT: st.text(st.characters(codec="utf-8", exclude_characters="\0\n"), min_size=1).filter(
        lambda text: text == text.strip(" \t\v\f\r") and not text.isspace() and text.strip() == text
    ),
}


@given(st.fixed_dictionaries({option.name: values[option.kind] for option in OPTIONS}), st.data())
def test_what_is_written_in_any_place_comes_out(wanted, data):
    """A complete description, its options dealt out at random to the three places."""
    lines, environ, arguments = ["# all of it"], {}, []
    for option in OPTIONS:
        setting = str(wanted[option.name])
        match data.draw(st.sampled_from(["file", "environment", "command line"])):
            case "file":
                lines.append(f"{option.name} = {setting}")
            case "environment":
                environ[option.variable] = setting
            case _:
                arguments.append(f"--{option.name}={setting}")
    assert read((*arguments, *PROGRAM), environ, "\n".join(lines)) == Asked(PROGRAM, wanted)


@given(st.lists(st.text(max_size=6) | st.sampled_from(["--debug", "-uid=1", "--", "x"]), max_size=8))
def test_any_command_line_is_split_without_losing_the_command(arguments):
    line = split(arguments)
    if not line.wants_help:
        assert list(line.command) == arguments[len(arguments) - len(line.command) :]
