from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.metric import Metric
from edgeprune.report import units

ACCURACY, AUROC, DEGREES = Metric("accuracy"), Metric("AUROC"), Metric("error", True, "degrees")

FACTORS = {"ns": 1, "µs": 1e3, "ms": 1e6, "s": 1e9, "B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}


def value_of(text):
    number, unit = text.split(" ")
    return float(number) * FACTORS[unit]


@given(st.integers(1, 10**12))
def test_latency_and_size_keep_the_value_to_three_digits(value):
    for text in (units.latency(value), units.size(value)):
        assert value_of(text) == pytest.approx(value, rel=5.1e-3)
        number = text.split(" ")[0]
        assert (
            len(re.sub(r"\D", "", number.lstrip("0."))) <= max(3, len(str(value)))
            and float(number) < 1000
            or (value >= 999.5e9)
        )


@pytest.mark.parametrize(
    ("got", "wanted"),
    [
        (units.latency(999.6e3), "1.00 ms"),
        (units.latency(12_340), "12.3 µs"),
        (units.latency(None), "–"),
        (units.size(86_000), "86.0 kB"),
        (units.size(0), "0 B"),
        (units.size(-1500), "−1.50 kB"),
        (units.percent(1.0), "100 %"),
        (units.percent(0.999999), "100.0 %"),
        (units.percent(0.1071), "10.7 %"),
        (units.percent(0.00521), "0.52 %"),
        (units.metric(0.98944, ACCURACY), "98.94 %"),
        (units.metric(0.83123, AUROC), "0.8312"),
        (units.difference(-0.0004, ACCURACY), "−0.04 points"),
        (units.difference(0.0004, AUROC), "+0.04 points"),
        (units.metric(2.5, DEGREES), "2.5 degrees"),
        (units.difference(-0.25, DEGREES), "−0.25 degrees"),
        (units.runtime("onnxruntime"), "ONNX Runtime"),
        (units.runtime("another"), "another"),
        (units.difference_interval((-0.0021, 0.0013), ACCURACY), "−0.21 … +0.13"),
        (units.difference_interval(None, ACCURACY), "–"),
        (units.times(2.484), "2.48×"),
        (units.times(12.34), "12.3×"),
        (units.times(123.4), "123×"),
        (units.times_interval((2.41, 2.55)), "2.41 … 2.55×"),
        (units.small(3.81e-6), "3.8e-06"),
        (units.energy(None), "–"),
        (units.energy(0.04561), "45.6 mJ"),
        (units.energy(1.234, 0.0567), "1.23 ± 0.057 J"),
        (units.energy(0.000789, 0.0000123), "789 ± 12 µJ"),
        (units.energy(-0.0012, 0.002), "−1.20 ± 2 mJ"),
        (units.confidence(2 * 0.95 - 1), "90 %"),
        (units.count(1234567), "1\u00a0234\u00a0567"),
    ],
)
def test_words(got, wanted):
    assert got == wanted


def test_numbers_keep_their_units_on_one_line_and_words_break():
    assert units.unbroken("5 % of 3 seeds in 1.2 ms, 3 kB") == "5\u00a0% of 3 seeds in 1.2\u00a0ms, 3\u00a0kB"
