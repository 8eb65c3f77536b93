"""Linker names in words."""

from __future__ import annotations

import pytest

from gimli.analysis.demangle import _runtime, demangle


@pytest.mark.skipif(_runtime() is None, reason="needs libstdc++.so.6")
def test_names_of_cplusplus_and_old_rust_are_readable():
    assert demangle("_ZNK4shop5Order5totalEv") == "shop::Order::total() const"
    assert demangle("_ZN4shop5total17h0123456789abcdefE") == "shop::total"


@pytest.mark.parametrize("name", ["main", "", "_Z", "_Zgarbage", "_ZN" + "9" * 5000, "_Z\0", "_Z\udcff"])
def test_any_other_name_stays_as_it_is(name):
    assert demangle(name) == name
