from __future__ import annotations

import json
import os

import pytest
from click.testing import CliRunner

from gimli import store
from gimli.cli import reports


def add(state, number, **changes):
    report_id = store.new_id(1_800_000_000 + number, bytes([number, 0]))
    directory = store.incoming_dir(state, report_id)
    document = {
        "schema": 1,
        "id": report_id,
        "service": "orders",
        "reason": "crash",
        "pid": 100 + number,
        "command": [],
        "time": f"2026-11-22T04:00:{number:02d}.5+01:00",
        "signature": "aaaabbbbcccc",
        "summary": "null pointer",
    }
    with open(os.path.join(directory, "report.json"), "w", encoding="utf-8") as file:
        json.dump(document | changes, file)
    store.publish(state, report_id)
    return report_id


@pytest.fixture
def state(tmp_path):
    return str(tmp_path / "state")


def invoke(state, *arguments):
    return CliRunner().invoke(reports.command, [*arguments, "--state-dir", state], catch_exceptions=False)


def test_the_table_has_the_newest_report_last_and_counts_its_signature(state):
    ids = [add(state, 1), add(state, 2), add(state, 3, service="mailer", signature="dddd")]
    lines = invoke(state).output.splitlines()
    assert lines[0].split() == ["ID", "TIME", "SERVICE", "REASON", "COUNT", "SUMMARY"]
    assert [line.split()[0] for line in lines[1:]] == ids
    assert lines[2].split()[1:6] == ["2026-11-22", "04:00:02", "orders", "crash", "2"]


def test_json_keeps_the_contract(state):
    report_id = add(state, 1)
    document = json.loads(invoke(state, "--json").output)
    (found,) = document["reports"]
    assert document["schema"] == 1
    assert {"id", "service", "reason", "time", "signature", "summary", "count"} <= found.keys()
    assert (found["id"], found["count"]) == (report_id, 1)


def test_a_service_and_a_limit_choose(state):
    add(state, 1)
    wanted = add(state, 2)
    add(state, 3, service="mailer")
    document = json.loads(invoke(state, "orders", "--limit", "1", "--json").output)
    assert [found["id"] for found in document["reports"]] == [wanted]


def test_a_group_is_a_cause_with_its_first_and_last_time(state):
    add(state, 1)
    last = add(state, 2)
    (group,) = json.loads(invoke(state, "--group", "--json").output)["groups"]
    assert (group["count"], group["latest_id"]) == (2, last)
    assert group["first"] < group["last"]
    assert last in invoke(state, "--group").output


def test_no_report_is_said_to_the_person_and_not_to_the_pipe(state):
    result = invoke(state)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "no report yet" in result.stderr
    assert json.loads(invoke(state, "--json").output) == {"schema": 1, "reports": []}
    assert not os.path.exists(state), "asking creates nothing"


def test_a_service_without_reports_is_told_who_has_some(state):
    add(state, 1)
    assert "orders" in invoke(state, "order").stderr


def test_a_damaged_report_is_a_row_that_says_why(state):
    broken = add(state, 1)
    add(state, 2, summary="[red]\x1b[31m")
    with open(os.path.join(state, "reports", broken, "report.json"), "w", encoding="utf-8") as file:
        file.write("{")
    output = invoke(state).output
    assert "damaged" in output
    assert "[red]\\x1b[31m" in output
