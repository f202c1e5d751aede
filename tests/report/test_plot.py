from __future__ import annotations

import io
from dataclasses import replace

import matplotlib.axes
import numpy as np
import pytest
from PIL import Image

from edgeprune.report import density_plot
from edgeprune.report.drawing import interactive, png
from edgeprune.report.figures import beyond, latency_figure, shown_ns
from edgeprune.report.runs import Run
from edgeprune.report.tickets import curve, density_figure, density_ticks, headline, seeds_table, verdict_table


@pytest.fixture
def drawn(monkeypatch):
    """Axes that a plot draws on, in order of creation."""
    found = []
    real = matplotlib.axes.Axes.__init__

    def noted(self, *args, **kwargs):
        found.append(self)
        real(self, *args, **kwargs)

    monkeypatch.setattr(matplotlib.axes.Axes, "__init__", noted)
    return found


def lines(axes):
    return {line.get_label(): line for line in axes.get_lines()}


def test_the_plot_is_a_png_wide_enough_to_read_at_900_pixels(built, tmp_path):
    density_plot(built.ticket, tmp_path / "density.png")
    with Image.open(tmp_path / "density.png") as image:
        assert image.format == "PNG" and image.width >= 900
        pixels = np.asarray(image.convert("L"))
    assert 0.01 < np.mean(pixels < 200) < 0.5
    assert [path.name for path in tmp_path.iterdir()] == ["density.png"]


def test_a_plot_that_fails_leaves_the_old_file(built, tmp_path, monkeypatch):
    import edgeprune.report.drawing as drawing

    (tmp_path / "density.png").write_bytes(b"old")
    monkeypatch.setattr(drawing.io, "BytesIO", lambda: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        density_plot(built.ticket, tmp_path / "density.png")
    assert (tmp_path / "density.png").read_bytes() == b"old"


def test_the_lines_are_the_tickets_figures(built, drawn):
    png(density_figure(built.ticket))
    axes, shown = drawn[0], curve(built.ticket)
    found = lines(axes)
    line = found["ticket, mean of 3 seeds"]
    runs = np.array([[level.validation for level in record.levels] for record in built.ticket.seeds])
    assert line.get_ydata() == pytest.approx(100 * runs.mean(0))
    assert line.get_xdata() == pytest.approx([100 * 0.8**level for level in range(13)])
    assert found["chosen: 16.8 % density"].get_xdata() == pytest.approx([100 * 0.8**8])
    assert found["same mask, random reinit"].get_ydata() == pytest.approx([100 * shown.reinit])
    start, end = axes.get_xlim()
    assert axes.get_xscale() == "log" and start > 100 > end


def test_collapsed_levels_leave_the_axis_to_the_question(built, drawn):
    png(density_figure(built.ticket))
    low, high = drawn[0].get_ylim()
    assert 97 < low < high < 100
    arrows = [text.get_text() for text in drawn[0].texts if text.get_text().startswith("11.")]
    assert len(arrows) == 2


def test_without_collapse_every_level_and_the_control_lie_within_the_axis(tmp_path, make):
    ticket = make.ticket(tmp_path, make.spec("credit", (1, 2), rates=(0.5,) * 3), collapse=False, metric_name="AUROC")
    shown = curve(ticket)
    assert shown.below == ()
    low, high = shown.axis
    assert low < shown.reinit < high
    assert low < shown.dense - shown.margin < high
    for record in ticket.seeds:
        assert all(low < level.validation < high for level in record.levels)


def test_both_renderers_draw_every_mark_under_the_same_name(built, drawn):
    for figure in (density_figure(built.ticket), latency_figure(Run.of(built.measurements[0], built.artifacts))):
        drawn.clear()
        png(figure)
        traces = interactive(figure)["data"]
        for axes, panel in zip(drawn, figure.panels, strict=True):
            shown = {name for name in axes.get_legend_handles_labels()[1] if name}
            assert shown == {mark.name for mark in panel.marks if mark.in_legend}
            for mark in panel.marks:
                (trace,) = (trace for trace in traces if trace["name"] == mark.name and len(trace["x"]) in sizes(mark))
                assert trace["showlegend"] == mark.in_legend
        assert len(traces) == sum(len(panel.marks) for panel in figure.panels)


def sizes(mark):
    """How many points a mark has as a line, or as a closed outline."""
    return {len(mark.x) * (2 if mark.look == "band" else 1)}


def test_one_seed_is_called_one_seed(tmp_path, make, drawn):
    png(density_figure(make.ticket(tmp_path, make.spec("digits", (4,)))))
    assert "ticket, 1 seed" in lines(drawn[0])
    # The margin is the only band.
    assert len(drawn[0].collections) == 0 and len(drawn[0].patches) == 1


def test_names_are_drawn_as_they_stand(tmp_path, make):
    ticket = make.ticket(tmp_path, make.spec(), task_name="a$b^{", metric_name=r"$\frac accuracy")
    assert png(density_figure(ticket)).startswith(b"\x89PNG")


def test_latencies_are_drawn(built, drawn):
    run = Run.of(built.measurements[0], built.artifacts)
    with Image.open(io.BytesIO(png(latency_figure(run)))) as image:
        assert image.width >= 900
    assert {"ticket", "dense twin"} <= set(lines(drawn[0]))
    low, high = drawn[0].get_xlim()
    assert high < max(max(block.samples_ns) for block in run.measurement.blocks) / 1e6, "outliers do not set the axis"
    last = shown_ns(run)[1]
    assert beyond(run) == sum(value > last for block in run.measurement.blocks for value in block.samples_ns)


@pytest.mark.parametrize("sparsest", [100, 60, 10, 1.2, 0.02, 1e-5])
def test_density_ticks_are_few_and_start_at_the_dense_model(sparsest):
    ticks = density_ticks(sparsest)
    assert ticks[0] == 100 and ticks == sorted(ticks, reverse=True)
    assert 1 <= len(ticks) <= 10 and ticks[-1] >= sparsest * 0.99


@pytest.mark.parametrize("status", ["winning", "inferior", "not shown", "whatever a ticket may say"])
def test_the_headline_says_the_verdict_in_the_tickets_own_word(tmp_path, make, status):
    ticket = make.ticket(tmp_path, make.spec("digits"), status=status)
    assert headline(ticket) == f"digits: {status} at 16.8 % density"


def test_of_an_error_the_smaller_values_lie_above(tmp_path, make, drawn):
    """The same curve turned round: what was cut off below is cut off still, and the margin lies on the worse side."""
    spec = make.spec("digits", margin=0.005)
    share = make.ticket(tmp_path, spec)
    turned = [
        replace(
            record,
            levels=tuple(replace(level, validation=2 - level.validation) for level in record.levels),
            reinit_validation=2 - record.reinit_validation,
        )
        for record in share.seeds
    ]
    error = replace(share, seeds=tuple(turned), metric_name="error", smaller_is_better=True, metric_unit="degrees")
    straight, shown = curve(share), curve(error)
    assert shown.axis == pytest.approx([2 - end for end in straight.axis]) and shown.axis[0] > shown.axis[1]
    assert shown.bound == pytest.approx(2 - straight.bound) and shown.bound > shown.dense
    assert [level.level for level in shown.below] == [level.level for level in straight.below] == [11, 12]
    png(density_figure(error))
    foot, top = drawn[0].get_ylim()
    assert foot > top and drawn[0].get_ylabel() == "validation error (degrees)"


def test_a_ticket_without_a_random_control_is_drawn_and_told_without_one(tmp_path, make, drawn):
    ticket = make.ticket(tmp_path, make.spec())
    alone = [
        replace(record, reinit_validation=None, test={role: record.test[role] for role in ("ticket", "dense")})
        for record in ticket.seeds
    ]
    given = replace(
        ticket, seeds=tuple(alone), verdict=replace(ticket.verdict, over_reinit=None, over_reinit_interval=None)
    )
    assert curve(given).reinit is None and "reinit" not in curve(given).caption
    png(density_figure(given))
    assert "same mask, random reinit" not in lines(drawn[0])
    assert "same mask, random reinit" not in [each["name"] for each in interactive(density_figure(given))["data"]]
    assert all(row[3] == "–" for row in seeds_table(given).rows)
    facts = dict(verdict_table(given).rows)
    assert facts["Ticket − random reinit, test accuracy"] == "–"


def test_the_verdict_says_what_its_brackets_are_over(tmp_path, make):
    ticket = make.ticket(tmp_path, make.spec())
    assert verdict_table(ticket).note.endswith("90 % interval over the seeds.")
    both = replace(ticket, verdict=replace(ticket.verdict, examples=10_000, over_examples=True))
    assert verdict_table(both).note.endswith("over the seeds and the 10\u00a0000 examples.")


def test_the_blocks_of_the_noise_floor_are_drawn(built, drawn):
    measurement = built.measurements[0]
    mine = [block for block in measurement.blocks if block.role == "artifact"]
    floor = [replace(block, role=f"floor_{'ab'[place % 2]}") for place, block in enumerate(mine[:4])]
    run = Run.of(replace(measurement, blocks=(*floor, *measurement.blocks)), built.artifacts)
    png(latency_figure(run))
    drawn_at = {tuple(bars.lines[0].get_xdata()): bars.get_label() for bars in drawn[1].containers}
    assert drawn_at[1, 2, 3, 4] == "noise floor: ticket against itself"
    data = interactive(latency_figure(run))["data"]
    trace = next(each for each in data if each["name"].startswith("noise floor"))
    assert sorted(trace["x"]) == [1, 2, 3, 4] and trace["showlegend"]
    places = [place for each in data if each["xaxis"] == "x2" for place in each["x"]]
    assert sorted(places) == list(range(1, len(run.measurement.blocks) + 1)), "no block is left out"
