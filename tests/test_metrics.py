"""Metrics: what Prometheus reads is what the status says."""

from gimli.metrics import Sample, format_text, of_pair

STATUS = {
    "demotion": 32,
    "vhids": [
        {
            "vhid": 1,
            "interface": "lan0",
            "role": "BACKUP",
            "peer": {"heard_s_ago": 0.25},
            "refused": {"digest": 3},
        },
        {"vhid": 2, "interface": "dmz0", "role": "MASTER", "peer": None, "refused": {}},
    ],
    "states": {
        "local": 10,
        "replicated": 8,
        "lost": 2,
        "held": 5,
        "synchronised": True,
        "lag_s": 0.001,
        "epoch": 7,
    },
    "guard": {"installed": True, "dropped": 4, "counters": {"dropped_group_lan0": 4}},
}


def test_a_status_becomes_the_text_that_prometheus_reads():
    text = format_text(of_pair(STATUS))
    assert 'gimli_pair_role{vhid="1",interface="lan0",role="BACKUP"} 1\n' in text
    assert 'gimli_pair_role{vhid="2",interface="dmz0",role="BACKUP"} 0\n' in text
    assert 'gimli_pair_peer_silent_seconds{vhid="1",interface="lan0"} 0.25\n' in text
    assert 'gimli_pair_packets_refused_total{vhid="1",kind="digest"} 3\n' in text
    assert "gimli_pair_states_lost_total 2\n" in text
    assert 'gimli_pair_guard_dropped_frames_total{counter="dropped_group_lan0"} 4\n' in text


def test_a_metric_stands_in_one_place_with_its_help_and_type():
    """The format allows one group per name: a second one is refused by the scraper."""
    lines = format_text(of_pair(STATUS)).splitlines()
    types = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(types) == len(set(types))
    current = ""
    for line in lines:
        if line.startswith("# HELP"):
            current = line.split()[2]
        else:
            assert current in line


def test_a_pair_without_sync_has_no_metrics_of_states():
    text = format_text(of_pair(STATUS | {"states": None}))
    assert "states" not in text
    assert "gimli_pair_demotion 32\n" in text


def test_a_label_is_escaped():
    sample = Sample("gimli_x", 1, "X.", labels={"name": 'a"b\\c\nd'})
    assert format_text([sample]).splitlines()[-1] == r'gimli_x{name="a\"b\\c\nd"} 1'
