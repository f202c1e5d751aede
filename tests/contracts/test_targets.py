from __future__ import annotations

import re
from pathlib import Path

import pytest

from edgeprune import Target, TargetError, load_target, patterns, runtimes
from edgeprune.target import parse_target, target_names, targets_folder

NAMES = target_names()
GOOD = (targets_folder() / "rpi4.toml").read_text()


@pytest.fixture(params=NAMES)
def target(request: pytest.FixtureRequest) -> Target:
    return load_target(request.param)


def test_the_devices_promised_are_there() -> None:
    assert {"rpi4", "rpi5", "rpi-zero2w", "android-arm64", "jetson-orin", "jetson-nano", "local"} <= set(NAMES)


def test_a_target_says_what_it_is(target: Target) -> None:
    assert target.description
    assert target.threads >= 1
    if target.name != "local":
        assert target.arch == "aarch64"
        assert target.features
        assert target.threads <= target.cores
    text = (targets_folder() / f"{target.name}.toml").read_text()
    assert text.startswith("# "), "the facts of a target come with their source"


def test_its_runtimes_exist_and_run_its_precisions(target: Target) -> None:
    for choice in target.runtimes:
        assert set(choice.precisions) <= set(runtimes.load(choice.name).PRECISIONS)
    assert len(target.cells()) == sum(len(choice.precisions) for choice in target.runtimes)


def test_its_patterns_exist_and_say_why_they_pay(target: Target) -> None:
    for choice in target.runtimes:
        for paying in choice.patterns:
            assert patterns.load(paying.pattern).name == paying.pattern
            assert paying.why
    assert target.paying[0].pattern == "channel", "the default of `find --target` pays off for any network"


def test_the_pattern_of_the_sparse_kernels_fits_the_processor(target: Target) -> None:
    (stock,) = (choice for choice in target.runtimes if choice.name == "onnxruntime")
    paying = {paying.pattern: paying.why for paying in stock.patterns if "sparse kernels" in paying.why}
    if target.name == "local":
        assert set(paying) == {"block:1x4", "block:4x1", "unstructured"}
    elif "asimddp" in target.features:
        assert set(paying) == {"block:1x4"}, "int8 goes four at a time where there is a dot product"
    else:
        assert set(paying) == {"block:4x1"}, "without one float32 is the faster"
    for why in paying.values():
        assert re.search("measured|modelled|emulated|assumed", why), "a figure says what it is"


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("threads = 4", 'threads = "4"', "threads: expected a whole number, got '4'"),
        ("threads = 4", "threads = true", "threads: expected a whole number, got true"),
        ("threads = 4", "threads = 0", "threads must be 1 or more"),
        ("threads = 4", "thread = 4", "thread: unknown field"),
        ("threads = 4", "threads = 4\nhost = 'pi@home'", "host: unknown field"),
        ('arch = "aarch64"', "", "machine.arch: missing"),
        ("cores = 4", "cores = 4\nspeed = 1", "machine.speed: unknown field"),
        ('connection = "ssh"', 'connection = "telnet"', "connection 'telnet' is unknown"),
        ('"fp32", "int8"', '"fp64"', "precisions of litert"),
        ("from_sparsity = 0.0", "from_sparsity = 1.0", r"from_sparsity must lie in \[0, 1\), got 1.0"),
        (
            "from_sparsity = 0.0",
            'from_sparsity = "a"',
            r"\[0\].patterns\[0\].from_sparsity: expected a number, got 'a'",
        ),
        ("from_sparsity = 0.0", "from_sparsty = 0.0", r"runtimes\[0\].patterns\[0\].from_sparsty: unknown field"),
        ('name = "litert"', 'nane = "litert"', r"runtimes\[0\].nane: unknown field"),
        ("[machine]", "[maschine]", "maschine: unknown field"),
        ("[[runtimes]]", "[[runtime]]", "TOML|expected a list|unknown field"),
        ("[[runtimes.patterns]]", "[runtimes.patterns]", "TOML|expected a list"),
        ('["fp32", "int8"]', '[["fp32"]]', r"precisions\[0\]: expected text, got a list of 1"),
        ('"frequency"', "1", r"sensors\[0\]: expected text, got 1"),
        ("threads = 4", 'threads = 4\ngovernor = ["performance"]', "governor: expected text, got a list of 1"),
        ('name = "litert"', 'name = "litert"\nproviders = ["CUDAExecutionProvider"]', "litert has no providers"),
    ],
)
def test_a_mistake_is_named_with_its_file(old: str, new: str, says: str, tmp_path: Path) -> None:
    assert old in GOOD
    path = write(tmp_path, GOOD.replace(old, new))
    with pytest.raises(TargetError, match=says) as caught:
        load_target(str(path))
    assert str(path) in caught.value.message


def test_a_file_cut_anywhere_gives_an_error_or_a_smaller_target(tmp_path: Path) -> None:
    whole = load_target("rpi4").runtimes
    for length in range(len(GOOD) - 2):
        path = write(tmp_path, GOOD[:length])
        try:
            left = parse_target(path).runtimes
        except TargetError as problem:
            assert str(path) in problem.message
        else:
            # Cut between two tables, what is left is a target with fewer runtimes or patterns.
            assert sum(len(choice.patterns) for choice in left) < sum(len(choice.patterns) for choice in whole)


@pytest.mark.parametrize("text", ["threads = = 4", "[machine", '"', "\x00"])
def test_what_is_no_toml_is_named(text: str, tmp_path: Path) -> None:
    path = write(tmp_path, text)
    with pytest.raises(TargetError, match=rf"{re.escape(str(path))}: not valid TOML"):
        load_target(str(path))


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TargetError, match="not valid TOML"):
        load_target(str(path))


def test_an_unknown_target_gets_the_nearest_names() -> None:
    with pytest.raises(TargetError, match=r"unknown target 'rpi44'.*rpi4"):
        load_target("rpi44")
    with pytest.raises(TargetError, match=r"no target file at ./none.toml"):
        load_target("./none.toml")


def test_cells_are_narrowed_or_refused() -> None:
    target = load_target("rpi4")
    assert target.cells("litert", "int8") == [("litert", "int8")]
    assert {runtime for runtime, _ in target.cells(precision="fp32")} == {"litert", "onnxruntime"}
    with pytest.raises(TargetError, match=r"no runtime 'onnx'.*onnxruntime"):
        target.cells("onnx")
    with pytest.raises(TargetError, match=r"no precision 'fp16'"):
        target.cells(precision="fp16")


def test_a_governor_or_frequency_needs_the_sensor_that_reads_it(tmp_path: Path) -> None:
    text = GOOD.replace("threads = 4", 'threads = 4\ngovernor = "performance"')
    assert load_target(str(write(tmp_path, text))).governor == "performance"
    with pytest.raises(TargetError, match="governor 'performance' cannot be checked"):
        load_target(str(write(tmp_path, text.replace('"governor", ', ""))))
    text = GOOD.replace("threads = 4", "threads = 4\nfrequency_khz = 1800000")
    assert load_target(str(write(tmp_path, text))).frequency_khz == 1_800_000
    with pytest.raises(TargetError, match="frequency 1800000 cannot be checked"):
        load_target(str(write(tmp_path, text.replace('"frequency", ', ""))))


def test_no_built_in_target_asks_for_a_governor(target: Target) -> None:
    """Each board is measured as its system sets it up, so that the first run works; the readings are recorded."""
    assert (target.governor, target.frequency_khz) == ("", 0)


def test_its_sensors_are_ones_that_the_agent_reads(target: Target) -> None:
    from edgeprune.device import sensors

    assert set(target.sensors) <= set(sensors.SENSORS)


def test_providers_are_a_jetson_s_alone_and_fall_back_to_the_cpu(target: Target) -> None:
    providers = target.providers("onnxruntime")
    assert bool(providers) == target.name.startswith("jetson")
    assert not providers or providers[-1] == "CPUExecutionProvider"
    assert target.providers("litert") == target.providers("tvm") == ()
