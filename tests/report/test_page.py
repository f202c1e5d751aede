from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser

import numpy as np
import pytest

from edgeprune import statistics
from edgeprune.cli import cli
from edgeprune.errors import EdgepruneError
from edgeprune.metric import Metric
from edgeprune.report import Nouns, collect, units, write_report
from edgeprune.report.commands import find_words
from edgeprune.report.html import page

PLOTLY = "/* stands in for plotly.js */"
ACCURACY = Metric("accuracy")
ODD = "<img src=x onerror=alert(1)>&\"'{{7*7}}"


@dataclass
class Node:
    tag: str
    attributes: dict[str, str]
    parent: Node | None = None
    children: list[Node] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)

    def all(self, tag: str) -> list[Node]:
        return [found for child in self.children for found in ([child] if child.tag == tag else []) + child.all(tag)]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.pieces).split())


class Page(HTMLParser):
    """A tree of elements; the text of an element holds that of all within it."""

    EMPTY = {"meta", "img", "br", "link", "input", "hr"}

    def __init__(self, source: str) -> None:
        super().__init__()
        self.source = source
        self.root = self.here = Node("", {})
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        node = Node(tag, {name: value or "" for name, value in attrs}, self.here)
        self.here.children.append(node)
        if tag not in self.EMPTY:
            self.here = node

    def handle_endtag(self, tag):
        assert self.here.tag == tag, f"</{tag}> closes <{self.here.tag}>"
        self.here = self.here.parent

    def handle_data(self, data):
        node = self.here
        while node is not None:
            node.pieces.append(data)
            node = node.parent

    def table(self, *heads: str) -> list[list[str]]:
        """Rows of the first table whose heads contain these."""
        for table in self.root.all("table"):
            if set(heads) <= {head.text for head in table.all("th")}:
                return [[cell.text for cell in row.all("td")] for row in table.all("tbody")[0].all("tr")]
        raise AssertionError(f"no table with heads {heads}")

    def figures(self):
        return json.loads(next(s for s in self.root.all("script") if s.attributes.get("id") == "figures").pieces[0])


@pytest.fixture(autouse=True, scope="module")
def quick():
    """Without the 4.8 MB of plotly.js and the drawn pictures, which tests of their own look at."""
    import plotly.offline

    import edgeprune.report.html as html

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plotly.offline, "get_plotlyjs", lambda: PLOTLY)
        patch.setattr(html, "png", lambda figure: b"png")
        yield


@pytest.fixture(scope="module")
def shown(built, quick):
    return Page(page(collect([], built.out)))


def test_the_verdict_stands_on_top_in_plain_words(shown, built):
    header = shown.root.all("header")[0]
    assert header.all("h1")[0].text == "mnist-cnn: winning at 16.8 % density"
    assert built.ticket.verdict.statement in header.text
    assert shown.root.all("title")[0].text.startswith("mnist-cnn: winning at")


def test_the_table_of_builds_gives_the_figures_of_artifacts_and_measurements(shown, built):
    rows = shown.table("Build", "Zipped", "Speed")
    assert len(rows) == len(built.bundles)
    twins = {artifact.path: artifact for artifact in built.artifacts}
    timed = {measurement.artifact_path: measurement for measurement in built.measurements}
    by_name = {row[0]: row for row in rows}
    for artifact in built.bundles:
        twin, measured = twins[artifact.twin_path()], timed[str(artifact.path)].summary
        row = by_name[f"{artifact.runtime} {artifact.precision} for rpi4, seed {artifact.seed}"]
        told = (artifact.metric_test_runtime, twin.metric_test_runtime, artifact.metric_test_dense)
        assert row[1] == "{} {} dense {} dense, PyTorch".format(*(units.metric(value, ACCURACY) for value in told))
        assert row[2].startswith(f"0 of 3 126 zeros lost error {units.small(artifact.parity_max_abs)}")
        for cell, name in ((row[3], "size_bytes"), (row[4], "size_zip_bytes")):
            mine, other = getattr(artifact, name), getattr(twin, name)
            assert cell.startswith(f"{units.size(mine)} {units.size(other)} dense {other / mine:.2f}× smaller")
        model = artifact.size_bytes - (100_000 if artifact.library else 0)
        parts = f"model {units.size(model)} + library 100 kB" if artifact.library else "the model file, no library"
        assert row[3].endswith(parts) and artifact.model_bytes == model
        growth = [measured.artifact.memory, measured.against.memory]
        resident = [
            sum(phases["steady"][key] - phases["import"][key] for key in ("rss_anon", "rss_file")) for phases in growth
        ]
        assert row[5] == f"{units.size(resident[0])} {units.size(resident[1])} dense"
        medians = (measured.artifact.p50_ns, measured.against.p50_ns)
        assert row[6] == f"{units.latency(medians[0])} {units.latency(medians[1])} dense"
        assert row[7].startswith(f"{measured.ratio.value:.2f}×") and row[7].endswith("faster")


def test_dense_twins_have_no_rows_and_no_certificates_of_their_own(shown, built):
    assert len(shown.table("Build", "Zipped")) == len(built.artifacts) / 2
    certificates = [s.text for s in shown.root.all("summary") if s.text.startswith("Zero certificate")]
    assert certificates == [f"Zero certificate of {artifact.path.name}" for artifact in built.bundles_by_name]


def test_the_zero_certificate_lists_every_tensor(shown, built):
    artifact = built.bundles_by_name[0]
    rows = shown.table("Zeros in PyTorch", "Lost", "Gained")
    assert [row[0] for row in rows] == [*artifact.zeros, "all"]
    for row, zeros in zip(rows, artifact.zeros.values()):
        wanted = [units.count(value) for value in (zeros.size, zeros.expected, zeros.lost, zeros.gained)]
        assert [cell.replace(" ", "\u00a0") for cell in row[1:5]] == wanted
    assert rows[-1][3] == "0"


def test_the_kernels_and_their_gains_are_listed(shown, built):
    with_layers = [artifact for artifact in built.bundles_by_name if artifact.layers]
    titles = [each.text for each in shown.root.all("summary") if each.text.startswith("Layers of")]
    assert titles == [f"Layers of {artifact.path.name}" for artifact in with_layers]
    rows = shown.table("Layer", "Shape", "Predicted gain", "Why")
    assert rows[2][:5] == ["fc1", "180×304", "10.0 %", "block:1x4", "4.10×"] and rows[2][5].startswith("sparse")
    times = shown.table("Predicted", "Measured", "Dense twin")
    assert times[2][2:6] == ["block:1x4", "4.10×", "4.00×", "25.0 µs"]
    assert times[-1][0] == "the rest"


def test_seeds_controls_and_levels(shown, built):
    seeds = shown.table("Seed", "Ticket", "Random reinit")
    for row, record in zip(seeds, built.ticket.seeds):
        assert row == [str(record.seed), *(units.metric(record.test[role], ACCURACY) for role in record.test)]
    mean = np.mean([record.test["ticket"] for record in built.ticket.seeds])
    assert seeds[-1][:2] == ["mean", units.metric(float(mean), ACCURACY)]
    assert dict(shown.table("Control", "Value")) == built.ticket.verdict.controls
    levels = shown.table("Level", "Density")
    assert len(levels) == built.ticket.spec.levels + 1
    assert levels[8][1] == "16.8 %"


def test_the_density_curve_is_the_tickets(shown, built):
    figure = shown.figures()["density-0"]
    traces = {trace["name"]: trace for trace in figure["data"]}
    line = traces["ticket, mean of 3 seeds"]
    for level, (density, value) in enumerate(zip(line["x"], line["y"])):
        runs = [record.levels[level] for record in built.ticket.seeds]
        assert density == pytest.approx(100 * runs[0].density)
        assert value == pytest.approx(100 * np.mean([run.validation for run in runs]))
    dense = np.mean([record.levels[0].validation for record in built.ticket.seeds])
    assert traces["dense (band: margin 0.50 points)"]["y"] == pytest.approx([100 * dense] * 2)
    assert traces["chosen: 16.8 % density"]["x"] == pytest.approx([100 * 0.8**8])
    reinit = np.mean([record.reinit_validation for record in built.ticket.seeds])
    assert traces["same mask, random reinit"]["y"] == pytest.approx([100 * reinit])
    outline = traces["lowest to highest seed"]
    assert max(outline["y"]) == pytest.approx(100 * max(r.levels[4].validation for r in built.ticket.seeds))
    start, end = figure["layout"]["xaxis"]["range"]
    assert start > end, "density falls from left to right"


def test_collapsed_levels_do_not_squash_the_axis_and_are_marked(shown, built):
    layout = shown.figures()["density-0"]["layout"]
    low, high = layout["yaxis"]["range"]
    assert low > 90 and high < 100
    labels = [mark["text"] for mark in layout["annotations"]]
    means = [np.mean([record.levels[level].validation for record in built.ticket.seeds]) for level in (11, 12)]
    assert labels == [units.metric(float(mean), ACCURACY) for mean in means]


def test_the_latency_figure_holds_the_samples(shown, built):
    by_time = [figure for name, figure in shown.figures().items() if name.startswith("latency")]
    assert len(by_time) == len(built.measurements)
    headings = [heading.text for heading in shown.root.all("h3")]
    place = next(place for place, text in enumerate(headings) if text.startswith("onnxruntime int8"))
    measurement = next(each for each in built.measurements if each.precision == "int8")
    traces = by_time[place]["data"]
    mine = np.sort(np.concatenate(measurement.samples()))
    shares = next(t for t in traces if t["name"] == "ticket" and t["mode"] == "lines")
    for share, micros in zip(shares["y"], shares["x"]):
        done, before = (np.mean(mine <= micros * 1e3 + aside) * 100 for aside in (0.01, -0.01))
        assert before < share <= done + 0.001
    assert (shares["y"][-1], shares["x"][-1]) == (100, pytest.approx(mine[-1] / 1e3))
    medians = next(t for t in traces if t["name"] == "dense twin" and t["mode"] == "markers")
    blocks = {number: block for number, block in enumerate(measurement.blocks, 1) if block.role == "against"}
    assert medians["x"] == list(blocks)
    assert medians["y"] == pytest.approx([np.median(block.samples_ns) / 1e3 for block in blocks.values()])


def test_timings_environment_conditions_and_their_labels(shown, built):
    rows = {row[0]: row[1:] for row in shown.table("Figure", "ticket", "dense twin")}
    first = next(each for each in built.measurements if each.runtime == "litert")
    described = first.summary
    assert rows["Median"] == [units.latency(side.p50_ns) for side in (described.artifact, described.against)]
    assert rows["p99"][0] == units.latency(described.artifact.p99_ns)
    assert rows["Model load"][0] == units.latency(described.artifact.load_ns)
    facts = {row[0]: row[1] for row in shown.table("Fact", "Value") + _environment(shown)}
    assert facts["cpu"] == "Cortex-A72" and facts["runtime version"] == "1.32.0"
    sensors = {row[0]: row[1:] for row in shown.table("Sensor")}
    assert sensors["throttled"] == ["unreadable", "unreadable", "steady"]
    assert sensors["temp_millic"][0] == str(first.blocks[0].conditions_before["temp_millic"])
    phases = shown.table("Phase", "ticket")
    assert [row[0] for row in phases] == ["import", "load", "first", "steady"]
    kinds = [part.text for part in shown.root.all("span") if part.attributes.get("class") == "kind"]
    assert len(kinds) == 1 + 2 * len(built.measurements) and set(kinds) == {"measured"}


def _environment(shown):
    tables = [table for table in shown.root.all("table") if "Cortex-A72" in table.text]
    return [[cell.text for cell in row.all("td")] for row in tables[0].all("tbody")[0].all("tr")]


def test_a_quantile_without_support_is_refused_and_says_what_it_needs(tmp_path, make, build_at):
    made = build_at(tmp_path, (("litert", "fp32"),), measured=False)
    make.measurement(tmp_path, *made.artifacts, blocks=2, samples=20)
    shown = Page(page(collect([], tmp_path)))
    rows = {row[0]: row[1:] for row in shown.table("Figure", "ticket", "dense twin")}
    assert rows["p99"] == [f"needs {statistics.smallest_sample(0.99)} samples"] * 2
    assert "too few blocks for an interval" in shown.root.text


def test_nothing_is_fetched(shown):
    for node in (n for tag in ("script", "img", "link", "iframe", "a", "video") for n in shown.root.all(tag)):
        for name in ("src", "href", "srcset"):
            assert node.attributes.get(name, "data:").startswith("data:")
    assert not shown.root.all("link") and not shown.root.all("iframe")
    style = shown.root.all("style")[0].text
    assert "url(" not in style and "@import" not in style
    assert not re.search(r"https?://", shown.source)
    policy = [m for m in shown.root.all("meta") if m.attributes.get("http-equiv") == "Content-Security-Policy"]
    assert policy[0].attributes["content"].startswith("default-src 'none'")
    images = shown.root.all("img")
    assert len(images) == len(shown.figures()) and all(i.attributes["alt"] for i in images)


def test_plotly_is_there_once(shown):
    assert shown.source.count(PLOTLY) == 1


def test_names_are_text_never_markup(tmp_path, make, build_at):
    spec = make.spec()
    ticket = make.ticket(tmp_path, spec, task_name=ODD, metric_name=f"{ODD} accuracy")
    made = build_at(tmp_path, (("onnxruntime", "int8"),), {"fc1": ODD, "fc2": "</script><script>x"}, ticket=ticket)
    hostile = {"host": ODD, "</script><script>alert(1)</script>": {"</table>": "{% raw %}"}}
    replace(made.measurements[0], environment=hostile).save()
    shown = Page(page(collect([], tmp_path)))
    assert "<img src=x" not in shown.source and "</table>&" not in shown.source
    assert len(shown.root.all("script")) == 3
    assert ODD in shown.root.all("h1")[0].text
    assert ODD in [row[0] for row in shown.table("Zeros in PyTorch")]
    rows = dict(_facts_with(shown, ODD))
    assert rows["host"] == ODD and rows["</script><script>alert(1)</script> </table>"] == "{% raw %}"


def _facts_with(shown, text):
    table = next(table for table in shown.root.all("table") if text in table.text and "connection" in table.text)
    return [[cell.text for cell in row.all("td")] for row in table.all("tbody")[0].all("tr")]


def test_a_ticket_alone_says_which_commands_come_next(tmp_path, make):
    make.ticket(tmp_path, make.spec("digits", (1,)), status="not shown")
    shown = Page(page(collect([], tmp_path)))
    assert shown.root.all("h1")[0].text.startswith("digits: not shown at")
    assert "edgeprune export --target rpi4" in shown.root.text
    assert "edgeprune bench --target local" in shown.root.text
    assert "one seed: no interval" in shown.root.text
    assert list(shown.figures()) == ["density-0"]


def test_builds_without_measurements_say_so(tmp_path, build_at):
    build_at(tmp_path, measured=False)
    shown = Page(page(collect([], tmp_path)))
    assert all(row[5:] == ["–", "–", "not measured"] for row in shown.table("Build", "Speed"))
    assert "Not measured yet" in shown.root.text


def test_a_build_whose_twin_is_gone_is_shown_without_one(tmp_path, build_at):
    made = build_at(tmp_path, (("litert", "fp32"),), measured=False)
    (made.bundles[0].twin_path() / "manifest.json").unlink()
    shown = Page(page(collect([made.bundles[0].path], tmp_path)))
    size = units.size(made.bundles[0].size_bytes)
    assert shown.table("Build", "Size")[0][3] == f"{size} the model file, no library"
    assert tile(shown, "Size") == [size, "the model file, no library"]


def test_a_measurement_alone_makes_a_page(tmp_path, build_at):
    made = build_at(tmp_path, (("litert", "fp32"),))
    nouns = Nouns((), (), made.measurements)
    shown = Page(page(nouns))
    assert list(shown.figures()) == ["latency-0"]
    assert "No ticket and no bundle belongs to this report" in shown.root.text
    assert "as the other bundle" in shown.root.text


def test_a_run_against_the_same_model_is_called_so(tmp_path, make, build_at):
    made = build_at(tmp_path, (("litert", "fp32"),), measured=False)
    make.measurement(tmp_path, made.bundles[0], made.bundles[0])
    shown = Page(page(collect([], tmp_path)))
    assert "as the same model" in shown.root.text


def tile(shown, name):
    tiles = [t for t in shown.root.all("div") if t.attributes.get("class") == "tile"]
    return [part.text for part in next(t for t in tiles if t.all("div")[0].text == name).all("div")][1:]


def test_a_large_figure_comes_with_what_the_measurement_claims(tmp_path, make, build_at, shown, built):
    best = next(each for each in built.measurements if each.precision == "int8")
    value, beside = tile(shown, "Latency")
    assert value == units.latency(best.summary.artifact.p50_ns)
    assert "as its dense twin (faster), on Raspberry Pi 4 Model B Rev 1.4, aarch64" in beside
    made = build_at(tmp_path, (("litert", "fp32"),), measured=False)
    make.measurement(tmp_path, *made.artifacts, blocks=2)
    assert "as fast as its dense twin (inconclusive), on" in tile(Page(page(collect([], tmp_path))), "Latency")[1]


def test_equal_sizes_are_called_equal(tmp_path, build_at):
    made = build_at(tmp_path, (("litert", "fp32"),), measured=False)
    replace(made.artifacts[1], size_bytes=made.artifacts[0].size_bytes + 1).save()
    shown = Page(page(collect([], tmp_path)))
    assert shown.table("Build", "Size")[0][3] == "317 kB 317 kB dense same size the model file, no library"
    assert tile(shown, "Size") == ["317 kB", "the size of dense fp32: the model file, no library"]


def test_each_build_stands_against_the_dense_fp32_network(shown, built):
    rows = {row[0]: row[1:] for row in shown.table("From dense fp32", "Smaller")}
    assert len(rows) == len(built.bundles)
    row = rows["dense fp32 in ONNX Runtime → int8 ticket"]
    by_cell = {(each.runtime, each.precision): each.summary for each in built.measurements}
    fp32, int8 = by_cell["onnxruntime", "fp32"], by_cell["onnxruntime", "int8"]
    dense, mine = fp32.against.p50_ns, int8.artifact.p50_ns
    assert row[0] == "98.73 % from 98.81 %"
    assert row[1:3] == ["186 kB from 1.73 MB", "9.32× smaller"]
    assert row[3] == f"{units.latency(mine)} from {units.latency(dense)}"
    assert row[4] == f"{units.times(dense / mine)} two measurements"
    paired = rows["dense fp32 in ONNX Runtime → fp32 ticket"][4]
    assert paired.startswith(units.times(fp32.ratio.value)) and "…" in paired


def test_times_of_two_machines_are_not_compared(tmp_path, build_at):
    made = build_at(tmp_path, (("onnxruntime", "fp32"), ("onnxruntime", "int8")))
    fp32, _ = made.measurements
    replace(fp32, environment={**fp32.environment, "host": "another"}).save()
    rows = Page(page(collect([], tmp_path))).table("From dense fp32", "Smaller")
    assert next(row for row in rows if "int8" in row[0])[4:] == ["not measured on one machine", "–"]


def test_headings_name_the_machine_and_not_only_the_target(tmp_path, build_at, shown):
    titles = [heading.text for heading in shown.root.all("h3")]
    assert titles[0].startswith("litert fp32 for rpi4, measured on Raspberry Pi 4 Model B Rev 1.4, aarch64: ")
    made = build_at(tmp_path, (("litert", "fp32"),))
    intel = {"machine": "absent", "cpu": "Intel Xeon", "arch": "x86_64", "host": "desk"}
    replace(made.measurements[0], target="local", asked={"target": "local"}, environment=intel).save()
    other = Page(page(collect([], tmp_path)))
    assert other.root.all("h3")[0].text.startswith(
        "litert fp32 for rpi4, measured on Intel Xeon, x86_64, which is no rpi4: "
    )
    assert other.table("Build", "Speed")[0][6].endswith("on x86_64, no rpi4")
    assert tile(other, "Latency")[1].endswith("on Intel Xeon, x86_64, no rpi4")


def test_what_was_left_out_is_named(tmp_path, build_at):
    made = build_at(tmp_path, (("litert", "fp32"), ("onnxruntime", "fp32")))
    made.measurements[0].path.write_text("{")
    shown = Page(page(collect([], tmp_path)))
    lines = [line.text for line in shown.root.all("li")]
    assert len(lines) == 1 and str(made.measurements[0].path) in lines[0]


def test_builds_of_two_tickets_say_whose_they_are(tmp_path, make, build_at):
    tickets = [make.ticket(tmp_path, make.spec(name)) for name in ("digits", "mnist")]
    for ticket in tickets:
        build_at(tmp_path, (("litert", "fp32"),), ticket=ticket)
    shown = Page(page(collect([ticket.path for ticket in tickets], tmp_path)))
    assert [heading.text.split(":")[0] for heading in shown.root.all("h1")] == ["digits", "mnist"]
    tables = [table for table in shown.root.all("table") if "Fidelity" in table.text]
    assert [len(table.all("tbody")[0].all("tr")) for table in tables] == [1, 1]
    tiles = [t.all("div")[0].text for t in shown.root.all("div") if t.attributes.get("class") == "tile"]
    assert tiles == ["Density", "Test accuracy against dense", "Size", "Latency"] * 2
    titles = [heading.text for heading in shown.root.all("h3") if "measured on" in heading.text]
    assert [title.split()[0] for title in titles] == ["digits", "mnist"]
    assert {"density-0", "density-1", "latency-0", "latency-1"} == set(shown.figures())


def test_the_commands_to_rerun_are_commands_of_the_program(shown, built):
    lines = shown.root.all("pre")[0].all("code")[0].pieces[0].strip().splitlines()
    assert lines[0].startswith("cd ") and lines[1].startswith("edgeprune find mnist-cnn --pattern channel --levels 12")
    for line in lines[1:]:
        words = shlex.split(line)
        assert words[0] == "edgeprune"
        command = cli.commands[words[1]]
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known
        assert words[words.index("--out") + 1] == str(built.out)
    assert sum(line.startswith("edgeprune export") for line in lines) == len(built.bundles)  # of 4 that rpi4 has
    benches = [line for line in lines if line.startswith("edgeprune bench")]
    assert len(benches) == len(built.measurements)
    assert all("--target rpi4 --host pi@bench-01 --pairs 8 --order-seed 5" in line for line in benches)


def test_the_find_command_gives_the_same_rates_margin_and_seeds(tmp_path, make):
    spec = make.spec("my tasks/a.py:make", (3, 5), rates=(0.2, 1 / 3), margin=0.0025, rewind_step=500)
    words = [str(word) for word in find_words(make.ticket(tmp_path, spec, data_dir="/some where/data"))]
    options = dict(zip(words[1::2], words[2::2]))
    assert words[0] == "my tasks/a.py:make"
    assert tuple(map(float, options["--rate"].split(","))) == spec.rates
    assert options["--seeds"] == "3,5" and options["--rewind"] == "500-steps"
    assert float(options["--margin"]) / 100 == spec.margin
    assert (options["--threads"], options["--data-dir"]) == ("1", "/some where/data")
    constant = find_words(make.ticket(tmp_path / "constant", make.spec()))
    assert constant[constant.index("--levels") + 1] == 12 and constant[constant.index("--rate") + 1] == "0.2"
    degrees = make.ticket(tmp_path / "degrees", make.spec(margin=1.5), smaller_is_better=True, metric_unit="degrees")
    assert find_words(degrees)[find_words(degrees).index("--margin") + 1] == "1.5"


def test_write_report_names_the_file_after_the_ticket_and_leaves_nothing_else(built, tmp_path):
    path = write_report(collect([built.ticket.path], built.out), tmp_path)
    assert path == tmp_path / "reports" / f"{built.ticket.path.name}.html"
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    assert path.read_text(encoding="utf-8").endswith("</html>\n") or path.read_text(encoding="utf-8").endswith(
        "</html>"
    )


def test_a_report_about_nothing_is_refused(tmp_path):
    with pytest.raises(EdgepruneError, match="nothing to report"):
        write_report(Nouns((), (), ()), tmp_path)


def test_noise_floor_and_slow_blocks_are_on_the_page(tmp_path, build_at):
    made = build_at(tmp_path, (("litert", "fp32"),))
    (measurement,) = made.measurements
    first, *rest = [block for block in measurement.blocks if block.role == "artifact"]
    slow = replace(first, samples_ns=tuple(sample * 2 for sample in first.samples_ns))
    floor = [replace(block, role=f"floor_{'ab'[place % 2]}") for place, block in enumerate(rest[:4])]
    others = [block for block in measurement.blocks if block.role == "against"]
    shown = Page(page(Nouns((), (), (replace(measurement, blocks=(*floor, slow, *rest, *others)),))))
    assert "Noise floor:" in shown.root.text and "2 pairs of the bundle against itself" in shown.root.text
    ((place, model, slower, why),) = shown.table("Block", "Model", "Slower by", "Why")
    assert (place, model, why) == ("5", "bundle", "no reading explains it") and slower.startswith("+9")
