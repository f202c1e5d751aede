"""The sustained phase over time, from windows like those of a board that grows hot and throttles after six minutes."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from edgeprune.measurement import Timed
from edgeprune.report import Nouns, print_noun
from edgeprune.report.drawing import interactive, png
from edgeprune.report.figures import merged, sustained_figure, sustained_words, tracks
from edgeprune.report.html import page
from edgeprune.report.runs import Run

MINUTE_NS = 60_000_000_000
HOT_FROM = 72  # of 120 windows of five seconds
ALL = ("frequency_khz.policy0", "temp_millic.thermal_zone0.cpu-thermal", "throttling.vcgencmd")


def make_windows(rng: np.random.Generator, millis: float, sensors: tuple[str, ...] = ALL) -> list[dict[str, Any]]:
    """Ten minutes: the temperature rises towards 83 degrees; from there on the clock falls and the latency rises."""
    windows = []
    for place in range(120):
        slow = 1.0 if place < HOT_FROM else 1.2
        median = int(millis * 1e6 * slow * (1 + rng.normal(0, 0.004)))
        reading = {
            "frequency_khz.policy0": 1_800_000 if place < HOT_FROM else 1_500_000,
            "temp_millic.thermal_zone0.cpu-thermal": int(84_000 - 36_000 * np.exp(-place / 25) + rng.normal(0, 300)),
            "throttling.vcgencmd": 0 if place < HOT_FROM else 0x80008,
        }
        latencies = {"mean_ns": median, "p50_ns": median, "p90_ns": int(median * 1.06), "max_ns": median * 3}
        ends = {"begin_ns": place * 5_000_000_000 + 1_000_000, "end_ns": (place + 1) * 5_000_000_000}
        conditions = {name: value for name, value in reading.items() if name in sensors}
        windows.append({**ends, "count": 500, **latencies, "conditions": conditions})
    return windows


def sustained(measurement: Timed, sensors: tuple[str, ...] = ALL) -> Timed:
    """The measurement whose last block of each role went on for ten minutes."""
    blocks, rng = list(measurement.blocks), np.random.default_rng(4)
    for role, millis in (("artifact", 0.42), ("against", 1.05)):
        last = max(place for place, block in enumerate(blocks) if block.role == role)
        blocks[last] = replace(blocks[last], windows=make_windows(rng, millis, sensors))
    return replace(measurement, blocks=tuple(blocks))


@pytest.fixture(scope="module")
def run(built) -> Run:
    return Run.of(sustained(built.measurements[0]), built.artifacts)


def test_a_track_is_what_the_windows_say(run: Run) -> None:
    ticket, dense = tracks(run)
    assert (ticket.role, dense.role) == ("artifact", "against")
    assert len(ticket.minutes) == 120 and ticket.minutes[0] == pytest.approx(2.5 / 60, abs=1e-3)
    assert ticket.frequency_khz[HOT_FROM - 1 : HOT_FROM + 1] == (1_800_000, 1_500_000)
    assert ticket.throttled[0] == pytest.approx((6.0, 6.083), abs=0.01) and len(ticket.throttled) == 120 - HOT_FROM
    (span,) = merged([ticket, dense])
    assert span == pytest.approx((6.0, 10.0), abs=0.01)


def test_without_windows_there_is_nothing_to_draw(built) -> None:
    assert tracks(Run.of(built.measurements[0])) == []


def test_the_words_say_what_became_of_the_median(run: Run) -> None:
    words = sustained_words(run)
    assert words.startswith("Within 10.0 minutes the ticket's median went from 4")
    assert re.search(r"4[12]\d µs in the first tenth to 50\d µs in the last \(\+(19|20)\.\d %\)\.", words)
    assert "the dense twin's median went from 1.05 ms" in words
    assert words.count("Something held the device back in 48 of 120 windows.") == 2


def test_the_plot_has_three_panels_and_the_throttled_span(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import matplotlib.axes

    drawn: list[Any] = []
    real = matplotlib.axes.Axes.__init__
    monkeypatch.setattr(
        matplotlib.axes.Axes, "__init__", lambda self, *a, **k: (drawn.append(self), real(self, *a, **k))[1]
    )
    with Image.open(io.BytesIO(png(sustained_figure(run)))) as image:
        assert image.format == "PNG" and image.width >= 900
        assert 0.005 < np.mean(np.asarray(image.convert("L")) < 200) < 0.5
    assert [axes.get_ylabel() for axes in drawn] == ["latency (ms)", "frequency (MHz)", "temperature (°C)"]
    latency = {line.get_label(): line for line in drawn[0].get_lines()}
    assert latency["ticket, median"].get_ydata() == pytest.approx([each / 1e6 for each in tracks(run)[0].p50_ns])
    assert set(latency) == {f"{name}, {word}" for name in ("ticket", "dense twin") for word in ("median", "p90")}
    assert all(len(axes.patches) == 1 for axes in drawn)


@pytest.mark.parametrize(
    ("sensors", "titles"),
    [
        ((), ["latency (ms)"]),
        (ALL[:1], ["latency (ms)", "frequency (MHz)"]),
        (ALL[1:2], ["latency (ms)", "temperature (°C)"]),
    ],
)
def test_what_the_device_does_not_tell_is_not_drawn(built, sensors: tuple[str, ...], titles: list[str]) -> None:
    run = Run.of(sustained(built.measurements[0], sensors), built.artifacts)
    assert [panel.y.title for panel in sustained_figure(run).panels] == titles
    figure = interactive(sustained_figure(run))
    assert [figure["layout"][f"yaxis{number}"]["title"]["text"] for number in ["", 2, 3][: len(titles)]] == titles
    assert f"yaxis{len(titles) + 1}" not in figure["layout"] and figure["layout"]["shapes"] == []
    assert png(sustained_figure(run)).startswith(b"\x89PNG")


def test_the_interactive_figure_has_the_same_lines(run: Run) -> None:
    described = sustained_figure(run)
    figure = interactive(described)
    assert len(figure["data"]) == sum(len(panel.marks) for panel in described.panels) == 8
    for trace in figure["data"]:
        assert len(trace["x"]) == len(trace["y"]) == 120
    domains = [figure["layout"][f"yaxis{number}"]["domain"] for number in ("", 2, 3)]
    assert domains[0][1] == 1 and domains[-1][0] == pytest.approx(0, abs=1e-3)
    assert all(above[0] > below[1] for above, below in zip(domains, domains[1:]))


def test_too_few_samples_for_p90_leave_a_gap(built) -> None:
    measurement = sustained(built.measurements[0])
    blocks = [
        replace(block, windows=[{**window, "p90_ns": None} for window in block.windows]) for block in measurement.blocks
    ]
    run = Run.of(replace(measurement, blocks=tuple(blocks)))
    names = [mark.name for mark in sustained_figure(run).panels[0].marks]
    assert names == ["bundle, median", "other bundle, median"]


def test_it_stands_on_the_page_of_a_measurement_that_has_it_alone(built) -> None:
    with_it = page(Nouns((), built.artifacts, (sustained(built.measurements[0]), *built.measurements[1:])))
    assert with_it.count('id="sustained-') == 1 and "in the first tenth to" in with_it
    assert "sustained-" not in page(Nouns((), built.artifacts, built.measurements))


def test_the_terminal_has_the_words(built) -> None:
    for measurement, there in ((built.measurements[0], False), (sustained(built.measurements[0]), True)):
        console = Console(file=io.StringIO(), width=400)
        print_noun(measurement, built.artifacts, console)
        assert ("the ticket's median went from" in console.file.getvalue()) == there
