from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from edgeprune.cli.tickets import warn_of_noise
from edgeprune.evidence import KernelTimes, Signal
from edgeprune.report import (
    bundles_of,
    collect,
    dense_warnings,
    print_layers,
    print_noun,
    print_report,
    result_line,
    units,
)


def printed(show, noun, terminal=False, width=80):
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=width)
    if show is print_report:
        show(noun, console)
    else:
        show(noun, bundles_of(noun), console)
    return file.getvalue()


def speed_line(measurement):
    return result_line(measurement, bundles_of(measurement))


def cells(text, name):
    """Cells of the row that begins with `name`, in plain text."""
    row = next(line for line in text.splitlines() if line.startswith(name))
    return [cell.strip() for cell in row.removeprefix(name).replace("\u00a0", " ").split("  ") if cell.strip()]


def test_a_report_shows_verdict_controls_and_each_build_beside_its_twin(built):
    text = printed(print_report, collect([], built.out))
    assert "mnist-cnn: winning at 16.8 % density" in text
    assert built.ticket.verdict.statement in text
    assert cells(text, "shuffled mask") == ["not run"]
    for artifact in built.bundles:
        assert f"{artifact.runtime} {artifact.precision} for rpi4" in text
    first = built.bundles_by_name[0]
    twin = next(each for each in built.artifacts if each.path == first.twin_path())
    found = [cell.strip() for cell in cells(text, "Size ")]
    assert found[:2] == [units.size(first.size_bytes), units.size(twin.size_bytes)]
    assert found[2].endswith("× smaller")
    assert "for rpi4, measured on Raspberry Pi 4 Model B Rev 1.4, aarch64: " in text
    assert "To deploy on rpi4" in text and "Against the dense fp32 network" in text


def test_no_table_has_a_head_alone(built):
    nouns = collect([], built.out)
    int8 = tuple(each for each in nouns.artifacts if each.precision == "int8")
    text = printed(print_report, replace(nouns, artifacts=int8))
    assert f"int8 for {int8[0].target}" in text and "Against the dense fp32 network" not in text


def test_plain_output_has_no_escapes_and_stays_within_80_columns_where_tables_are(built):
    nouns = collect([], built.out)
    outputs = [printed(print_report, nouns), *(printed(print_noun, noun) for noun in (built.ticket, built.bundles[0]))]
    for text in outputs:
        assert "\x1b" not in text and "│" not in text and "━" not in text
        for line in text.splitlines():
            is_prose = line.endswith((".", "density")) or "/" in line or "as fast" in line
            assert is_prose or len(line) <= 80, line


def test_a_terminal_gets_lines_and_marks(built):
    text = printed(print_noun, built.ticket, terminal=True)
    assert "\x1b[1m" in text and "─" in text


def test_paths_are_never_broken(built):
    text = printed(print_noun, built.bundles[0], width=40)
    assert str(built.bundles[0].path) in text.splitlines()


def test_a_measurement_is_read_with_its_artifacts(built):
    measurement = built.measurements[0]
    text = printed(print_noun, measurement)
    described = measurement.summary
    medians = [cell.strip() for cell in cells(text, "Median ") if cell.strip()]
    assert medians == [units.latency(side.p50_ns) for side in (described.artifact, described.against)]
    assert "dense twin" in text
    assert speed_line(measurement).startswith(
        f"median {units.latency(described.artifact.p50_ns)} [430 µs … 438 µs], 2."
    )
    assert "as fast as the dense twin [" in speed_line(measurement) and speed_line(measurement).endswith("faster")


def test_a_measurement_whose_bundles_are_gone_is_still_shown(built):
    lost = replace(built.measurements[0], artifact_path="/nowhere/a", against_path="/nowhere/b")
    assert "other bundle" in printed(print_noun, lost)


def test_what_is_missing_is_said_with_its_command(tmp_path, make):
    make.ticket(tmp_path, make.spec())
    assert "No build yet: edgeprune export" in printed(print_report, collect([], tmp_path))


def test_builds_without_measurement_or_twin_are_shown(tmp_path, build_at):
    made = build_at(tmp_path, (("litert", "fp32"),), measured=False)
    (made.bundles[0].twin_path() / "manifest.json").unlink()
    text = printed(print_report, collect([made.bundles[0].path], tmp_path))
    command = f"edgeprune bench {made.bundles[0].path} --target rpi4 --host HOST, or here: --target local"
    assert f"Not measured yet: {command}" in text
    assert "dense twin" not in text


@pytest.mark.parametrize("name", ["[bold]x[/bold]", "[/]", "a\\[b"])
def test_names_are_no_markup(tmp_path, build_at, name):
    made = build_at(tmp_path, (("litert", "fp32"),), {"fc1": name}, measured=False)
    assert name in printed(print_noun, made.bundles[0])


def test_an_artifact_shows_what_runs_each_layer_and_why(built):
    artifact = next(each for each in built.bundles if each.layers)
    text = printed(print_noun, artifact, width=160)
    assert cells(text, "fc1 ")[1:] == ["10.0 %", "block:1x4", "4.10×", "sparse block:1x4: predicted 4.1x"]
    assert cells(text, "fc2 *")[-3:] == ["dense", "–", "dense: 31 % of blocks left, sparse predicted 0.9x"]
    assert "Marked: sparse weights run by dense kernels." in text
    assert not [line for line in text.splitlines() if line.startswith("conv1 *")]


def test_an_artifact_says_what_its_kernels_were_chosen_by(built):
    artifact = next(each for each in built.bundles if each.layers)
    assert cells(printed(print_noun, artifact, width=160), "Kernels chosen by") == ["predicted times"]
    times = KernelTimes(
        "a Board, onnxruntime 1.32.0, 1 thread", 500_000, 1_200_000, "layers", {"fc1": {"dense": 900_000}}
    )
    text = printed(print_noun, replace(artifact, kernel_times=times, library=artifact.model_file), width=200)
    assert cells(text, "Kernels chosen by") == [
        "times measured on a Board, onnxruntime 1.32.0, 1 thread: 500 µs per inference, "
        "1.20 ms with the runtime's own kernels only"
    ]
    assert "Measured gain: time of the runtime's dense kernel" in text
    kept = replace(artifact, kernel_times=replace(times, chosen_ns=1_250_000), library="")
    assert "with the runtime's own kernels only, which are kept" in printed(print_noun, kept, width=200)


def test_int8_shows_how_closely_each_output_follows_pytorch(built):
    artifact = next(each for each in built.bundles if each.precision == "int8")
    assert cells(printed(print_noun, artifact, width=160), "Signal to noise of output_0") == [
        "31.3 dB (min-max reaches 32.0 dB)"
    ]
    weak = replace(artifact, signals=(Signal("output_0", 14.9, 15.0), Signal("boxes", 15.0, 44.0)))
    text = printed(print_noun, weak, width=160)
    assert "14.9 dB (min-max reaches 15.0 dB), below 15 dB: check this output" in text
    assert cells(text, "Signal to noise of boxes") == ["15.0 dB (min-max reaches 44.0 dB)"]


def test_export_warns_of_an_output_that_is_mostly_noise(built, capsys):
    artifact = next(each for each in built.bundles if each.precision == "int8")
    warn_of_noise(replace(artifact, signals=(Signal("scores", 30.0, 30.0), Signal("boxes", 4.2, 5.0))))
    (line,) = capsys.readouterr().err.splitlines()
    name = f"{artifact.runtime} int8 {artifact.variant}"
    assert line.startswith(f"warning: {name}: signal to noise of boxes is 4.2 dB (min-max reaches 5.0 dB), below 15 dB")


def test_a_bundle_without_layers_has_no_table_of_them(built):
    artifact = next(each for each in built.bundles if not each.layers)
    assert "Layers of" not in printed(print_noun, artifact)


def test_a_measurement_shows_measured_beside_predicted_gain(built):
    measurement = next(each for each in built.measurements if each.runtime == "onnxruntime")
    for show in (print_noun, print_layers):
        text = printed(show, measurement, width=120)
        assert cells(text, "fc1 ") == ["10.0 %", "block:1x4", "4.10×", "4.00×", "25.0 µs", "100 µs"]
        assert cells(text, "fc2 *")[1:4] == ["dense", "–", "1.00×"]
        assert cells(text, "the rest ")[0] == "1.00×"
    without = next(each for each in built.measurements if each.runtime == "litert")
    assert printed(print_layers, without) == ""


def test_a_layer_that_the_profile_does_not_name_has_no_gain(built, make):
    measurement = next(each for each in built.measurements if each.runtime == "onnxruntime")
    blocks = [replace(block, layers_ns={"fc1": 5_000} if block.layers_ns else {}) for block in measurement.blocks]
    text = printed(print_layers, replace(measurement, blocks=tuple(blocks)), width=120)
    assert cells(text, "fc1 ")[3:] == ["1.00×", "5.00 µs", "5.00 µs"]
    assert cells(text, "conv1 ")[3:] == ["–", "–", "–"]


def test_sparse_weights_that_dense_kernels_run_are_warned_of(built):
    artifact = next(each for each in built.bundles if each.layers)
    (line,) = dense_warnings(artifact)
    assert line.startswith("sparse weights run by dense kernels: layers fc2; ") and str(artifact.path) in line
    assert dense_warnings(replace(artifact, variant="dense")) == []
    assert dense_warnings(replace(artifact, layers=artifact.layers[:3])) == []


def noisy(built):
    """A measurement with a noise floor, of a model that is hardly faster than its twin, and with one slow block."""
    measurement = next(each for each in built.measurements if each.runtime == "litert")
    first, *rest = [block for block in measurement.blocks if block.role == "artifact"]
    slow = tuple(sample * 2 for sample in first.samples_ns)
    hot = {**first.conditions_after, "temp_millic": 81_000}
    one = [replace(first, samples_ns=slow, conditions_after=hot), *rest]
    scatter = (0.97, 1.0, 1.07, 1.12, 1.1, 1.08, 1.05, 1.1)
    other = [
        replace(first, role="against", samples_ns=tuple(int(sample * each) for sample in first.samples_ns))
        for each in scatter
    ]
    floor = [replace(block, role=f"floor_{'ab'[place % 2]}") for place, block in enumerate(rest[:4])]
    return replace(measurement, blocks=(*floor, *one, *other))


def test_an_inconclusive_verdict_says_what_would_have_been_found(built):
    measurement = noisy(built)
    ratio = measurement.summary.ratio
    assert ratio.verdict == "inconclusive"
    words = f"inconclusive ({units.times(ratio.detectable)} would have been found with a power of 80 %)"
    assert speed_line(measurement).endswith(words)
    assert "power of 80 %" not in speed_line(built.measurements[0])


def test_the_noise_floor_and_slow_blocks_are_shown(built):
    measurement = noisy(built)
    text = printed(print_noun, measurement, width=160)
    floor = measurement.summary.noise_floor
    assert f"Noise floor: {units.percent(floor.relative)} (2 pairs of the ticket against itself" in text
    (row,) = measurement.summary.slow_blocks
    table = text[text.index("Slow blocks") :]
    assert cells(table, "5 ") == ["ticket", f"+{units.percent(row.slower)}", "81 degrees Celsius (usually 53)"]
    assert "Slow blocks" not in printed(print_noun, built.measurements[0])
