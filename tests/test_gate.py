"""The gate: each budget on the bound of its interval, every exit code, and the JUnit file."""

from __future__ import annotations

import json
import sys
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from edgeprune import Artifact, Measurement, MeasurementError, TicketError, load_target, store
from edgeprune.archive import sizes_of
from edgeprune.artifact import Port
from edgeprune.blocks import Block, Count
from edgeprune.cli import main
from edgeprune.gate import exit_code, judge, junit, parse_budgets, split_budgets, unfairness
from edgeprune.measurement import Emulated, Timed
from edgeprune.ticket import FindSpec, SeedRecord, Ticket, Verdict

MODEL = b"model" * 200  # 1000 bytes
MS = 1_000_000


def make_artifact(folder: Path, **changes: Any) -> Artifact:
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(MODEL)
    (folder / "probes.safetensors").write_bytes(b"")
    empty = {"str": "", "int": 0, "float": 0.0, "bool": False}
    needed = (each for each in fields(Artifact) if each.default is MISSING)
    given: dict[str, Any] = {each.name: empty.get(str(each.type), {}) for each in needed}
    given |= {"path": folder, "model_file": "model.onnx"}
    given |= {"files": {name: store.sha256_file(folder / name) for name in ("model.onnx", "probes.safetensors")}}
    given |= {
        "inputs": (Port("input", (1, 4), "float32", ""),),
        "outputs": (Port("y", (1, 2), "float32", ""),),
        "zeros": {},
        "sparse_tensors": (),
    }
    given |= {"metric_name": "accuracy", "metric_torch": 0.95, "metric_runtime": 0.947, "size_bytes": 1000}
    given |= {"metric_test_runtime": 0.893, "metric_test_torch": 0.894, "metric_test_dense": 0.95}
    given |= {"smaller_is_better": False, "library_bytes": 0, "library_zip_bytes": 0, "options": {}}
    artifact = Artifact(**{**given, "layers": (), **changes})
    artifact.save()
    return artifact


def make_block(role: str, level_ns: int, seed: int, **changes: Any) -> Block:
    """100 samples from the level up to a fifth above it, in random order."""
    samples = level_ns + np.random.default_rng(seed).permutation(np.linspace(0, 0.2 * level_ns, 100)).astype(int)
    memory = {"steady": {"hwm": 50_000_000 + 100_000 * seed}}
    block = Block(role, 1, 1, 1, 1, (), tuple(samples.tolist()), memory, {}, {}, "a" * 64, 0.0)
    return replace(block, **changes)


def make_measurement(tmp_path: Path, artifact: int = 8 * MS, against: int = 16 * MS, **changes: Any) -> Timed:
    """Eight pairs in which the levels alternate by 2 % to either side."""
    wobble = (0.98, 1.02)
    blocks = [
        make_block(role, int(level * wobble[(number + (role == "against")) % 2]), number)
        for number in range(8)
        for role, level in (("artifact", artifact), ("against", against))
        if level
    ]
    needed = [each.name for each in fields(Timed) if each.default is MISSING and each.default_factory is MISSING]
    given: dict[str, Any] = {
        "path": tmp_path / "m.json",
        "artifact_path": str(tmp_path / "bundle"),
        "threads": 1,
        "environment": {},
    }
    given |= {"artifact_sha256": store.sha256_bytes(MODEL), "target": "local"}
    return Timed(**{**dict.fromkeys(needed, "x"), **given, "blocks": tuple(blocks), **changes})


def verdicts(measurement: Measurement, text: str) -> dict[str, str]:
    judged = judge(measurement, parse_budgets(split_budgets(text)))
    return {each.budget.name: each.status for each in judged}


@pytest.mark.parametrize(
    ("budget", "status"),
    [
        ("latency_p50=9.1ms", "pass"),
        ("latency_p50=8.8ms", "inconclusive"),  # the median itself lies below
        ("latency_p50=8.0ms", "fail"),
        ("latency_p90=10ms", "pass"),
        ("latency_p90=9400us", "inconclusive"),
        ("latency_p90=0.009s", "fail"),
        ("latency_p95=10000000ns", "pass"),
        ("latency_p99=1s", "pass"),
        ("memory=51MB", "pass"),
        ("memory=50.3MB", "inconclusive"),
        ("memory=48000KB", "fail"),
        ("speedup=1.8x", "pass"),
        ("speedup=2.0x", "inconclusive"),
        ("speedup=2.5x", "fail"),
        ("size=1KB", "pass"),
        ("size=1KiB", "pass"),
        ("size=999B", "fail"),
        ("accuracy_drop=5.8pp", "pass"),
        ("accuracy_drop=0.058", "pass"),
        ("accuracy_drop=1pp", "fail"),  # though its own PyTorch metric is 0.1 points away
        ("runtime_drop=0.5pp", "pass"),
        ("runtime_drop=0.2pp", "fail"),
    ],
)
def test_each_budget_is_judged_by_the_bound_of_its_interval(tmp_path: Path, budget: str, status: str) -> None:
    make_artifact(tmp_path / "bundle")
    (judged,) = judge(make_measurement(tmp_path), parse_budgets(split_budgets(budget)))
    assert judged.status == status, judged.why
    assert judged.low is not None and judged.high is not None and judged.low <= judged.high
    if status == "inconclusive":
        assert judged.low < judged.budget.limit < judged.high
    assert status in judged.why and budget.partition("=")[0] in judged.why


def test_the_interval_of_a_latency_is_that_between_processes(tmp_path: Path) -> None:
    """Processes that differ by half among each other, each with many samples that agree to a thousandth."""
    levels = [8, 12] * 4
    blocks = [make_block("artifact", MS, 0, samples_ns=(level * MS,) * 500) for level in levels]
    measurement = make_measurement(tmp_path, blocks=tuple(blocks))
    (judged,) = judge(measurement, parse_budgets({"latency_p50": "13ms"}))
    assert (judged.low, judged.high) == (8 * MS, 12 * MS)


def test_a_quantile_that_the_sample_does_not_support_is_inconclusive(tmp_path: Path) -> None:
    measurement = make_measurement(tmp_path, against=0)
    few = replace(measurement, blocks=measurement.blocks[:6])
    (judged,) = judge(few, parse_budgets({"latency_p99": "1s"}))
    assert (judged.status, judged.low) == ("inconclusive", None)
    assert judged.why.endswith("samples do not support the quantile, it needs 662: give bench more --pairs")
    fewer = replace(measurement, blocks=measurement.blocks[:5])
    assert verdicts(fewer, "latency_p50=1s,memory=1MiB") == {"latency_p50": "inconclusive", "memory": "inconclusive"}


def test_the_size_counts_the_library(tmp_path: Path) -> None:
    library = b"library" * 1000
    bundle = make_artifact(tmp_path / "bundle", **sizes_of(MODEL, library))
    (judged,) = judge(make_measurement(tmp_path), parse_budgets({"size": "8KB"}))
    assert (judged.low, judged.status) == (bundle.size_bytes, "pass") == (8000, "pass")
    assert "8KB (model 1.00 kB + library 7.00 kB), at most 8KB" in judged.why


def test_a_bundle_that_tells_no_test_metric_is_bad_input(tmp_path: Path) -> None:
    make_artifact(tmp_path / "bundle", metric_test_runtime=None)
    with pytest.raises(
        MeasurementError,
        match="does not say what it reaches on the test set; .*export the ticket again, then bench that",
    ):
        verdicts(make_measurement(tmp_path), "accuracy_drop=1pp")


def test_exactly_the_drop_allowed_is_allowed(tmp_path: Path) -> None:
    make_artifact(tmp_path / "bundle", metric_test_dense=0.98, metric_test_runtime=0.96)
    assert verdicts(make_measurement(tmp_path), "accuracy_drop=2pp") == {"accuracy_drop": "pass"}
    assert verdicts(make_measurement(tmp_path), "accuracy_drop=1.99pp") == {"accuracy_drop": "fail"}


def test_an_error_that_should_be_small_drops_upwards_and_in_its_unit(tmp_path: Path) -> None:
    degrees = {"metric_name": "error", "smaller_is_better": True, "metric_unit": "degrees", "metric_torch": 2.0}
    make_artifact(tmp_path / "bundle", **degrees, metric_runtime=2.1, metric_test_runtime=2.75, metric_test_dense=2.5)
    (judged,) = judge(make_measurement(tmp_path), parse_budgets({"accuracy_drop": "0.25"}))
    assert judged.status == "pass" and judged.low == 0.25
    assert "test error 2.75 degrees here, 2.5 degrees of the dense model in PyTorch" in judged.why
    assert verdicts(make_measurement(tmp_path), "accuracy_drop=0.2,runtime_drop=0.1") == {
        "accuracy_drop": "fail",
        "runtime_drop": "pass",
    }
    with pytest.raises(MeasurementError, match="points are of a share, the error is in degrees; leave the unit out"):
        verdicts(make_measurement(tmp_path), "accuracy_drop=1pp")


def make_ticket(out: Path, status: str, over_reinit: Any) -> Ticket:
    """A finished run with this verdict."""
    some = {"str": "x", "int": 1, "bool": False}
    given: dict[str, Any] = {each.name: some.get(str(each.type), {}) for each in fields(FindSpec)}
    spec = FindSpec(
        **{
            **given,
            "rates": (0.2,),
            "seeds": (1,),
            "iterations": 9,
            "rewind_step": 0,
            "margin": 0.005,
            "confidence": 0.95,
        }
    )
    interval = None if status == "one seed" else (-0.001, 0.001)
    verdict = Verdict(status, 1, 0.8, 0.0, interval, 0.0, over_reinit, 1, 0.005, 0.95, {}, "so it is")
    seeds = (SeedRecord(1, (), {}, 0.9, "a" * 64),)
    ticket = Ticket(out / "tickets" / "digits", spec, "digits", "", "accuracy", 10, seeds, verdict)
    ticket.save()
    return ticket


@pytest.mark.parametrize(
    ("status", "over_reinit", "not_inferior", "winning"),
    [
        ("winning", (0.01, 0.02), "pass", "pass"),
        ("not inferior", (-0.01, 0.02), "pass", "inconclusive"),
        ("not inferior", (-0.02, -0.01), "pass", "fail"),
        ("inferior", (0.01, 0.02), "fail", "fail"),
        ("one seed", None, "inconclusive", "inconclusive"),
        ("not shown", (0.01, 0.02), "inconclusive", "inconclusive"),
    ],
)
def test_a_verdict_can_be_asked_for(
    tmp_path: Path, status: str, over_reinit: Any, not_inferior: str, winning: str
) -> None:
    ticket = make_ticket(tmp_path, status, over_reinit)
    measurement = make_measurement(tmp_path, ticket_id=ticket.id, path=tmp_path / "measurements" / "m.json")
    for wanted, expected in (("not-inferior", not_inferior), ("not inferior", not_inferior), ("winning", winning)):
        (judged,) = judge(measurement, parse_budgets(split_budgets(f"verdict={wanted}")))
        assert judged.status == expected, judged.why
        assert f"(digits: {status}), at least {wanted.replace(' ', '-')}: {expected}" in judged.why
    with pytest.raises(MeasurementError, match="ticket .* is not in .*elsewhere"):
        judge(measurement, parse_budgets({"verdict": "winning"}), tmp_path / "elsewhere")


def test_a_verdict_whose_ticket_is_damaged_says_so_and_how_to_mend_it(tmp_path: Path) -> None:
    ticket = make_ticket(tmp_path, "winning", (0.01, 0.02))
    measurement = make_measurement(tmp_path, ticket_id=ticket.id, path=tmp_path / "measurements" / "m.json")
    file = ticket.path / "ticket.json"
    whole = file.read_text()
    file.write_text("{")
    with pytest.raises(TicketError, match=r"ticket .*ticket\.json is damaged: .*; remove its folder and run the same"):
        judge(measurement, parse_budgets({"verdict": "winning"}))
    # Beside a sound one it is passed over: that is not the ticket that is asked for.
    other = tmp_path / "tickets" / f"digits-{ticket.id[:12]}"
    other.mkdir()
    (other / "ticket.json").write_text(whole)
    assert judge(measurement, parse_budgets({"verdict": "winning"}))[0].status == "pass"
    # What find set aside, and what was broken off, is told by the folder's name.
    (other / "ticket.json").rename(other / "ticket.json.damaged")
    with pytest.raises(TicketError, match=rf"ticket {other} is not complete: it has no ticket.json; give the same"):
        judge(measurement, parse_budgets({"verdict": "winning"}))


def test_few_pairs_give_no_speedup(tmp_path: Path) -> None:
    measurement = make_measurement(tmp_path)
    assert verdicts(replace(measurement, blocks=measurement.blocks[:10]), "speedup=0.1x") == {"speedup": "inconclusive"}


def test_a_speedup_within_the_noise_floor_passes_no_budget(tmp_path: Path) -> None:
    measurement = make_measurement(tmp_path)
    floor = [make_block(role, level, 1) for role, level in (("floor_a", 8 * MS), ("floor_b", 10 * MS))]
    noisy = replace(measurement, blocks=(*floor, *measurement.blocks))
    assert verdicts(measurement, "speedup=1.8x") == {"speedup": "pass"}
    assert verdicts(noisy, "speedup=1.8x") == {"speedup": "inconclusive"}
    assert verdicts(noisy, "speedup=1.55x") == {"speedup": "pass"}


def test_energy_is_judged_where_it_was_measured(tmp_path: Path) -> None:
    power = {"idle": [[n, 1_000_000] for n in range(20)], "steady": [[n, 2_000_000 + n % 2] for n in range(20)]}
    measurement = make_measurement(tmp_path, against=0)
    blocks = tuple(replace(block, power_uw=power) for block in measurement.blocks)
    assert verdicts(replace(measurement, blocks=blocks), "energy=0.1J") == {"energy": "pass"}
    assert verdicts(replace(measurement, blocks=blocks), "energy=1mJ") == {"energy": "fail"}
    with pytest.raises(MeasurementError, match="energy: absent"):
        judge(measurement, parse_budgets({"energy": "1J"}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("latency_p80=1ms", "no budget 'latency_p80'; did you mean latency_p"),
        ("latency_p90=1min", "latency_p90 has no unit 'min'"),
        ("latency_p90=10", "latency_p90 needs a unit, got '10'; known: ms, ns, s, us"),
        ("accuracy_drop=1%", "accuracy_drop has no unit '%' (got '1%'); known: no unit at all, pp"),
        ("size=5GB", "size has no unit 'GB' (got '5GB'); did you mean"),
        ("verdict=wining", "verdict is one of not-inferior, winning, got 'wining'; did you mean winning"),
        ("size=manyMB", "has no unit 'manyMB'"),
        ("size=-1MB", "size needs a number before its unit"),
        ("size=1e999MB", "size needs a number"),
        ("size", "a budget is NAME=VALUE"),
        ("size=1MB,size=2MB", "once each"),
        ("", "a budget is NAME=VALUE"),
    ],
)
def test_a_budget_that_cannot_be_read_is_one_line(text: str, message: str) -> None:
    with pytest.raises(MeasurementError) as caught:
        parse_budgets(split_budgets(text))
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("changes", "budget", "message"),
    [
        (
            {"against": 0},
            "speedup=1x",
            "nothing was compared in this measurement; bench the ticket's bundle, or name one",
        ),
        ({}, "size=1MB", "the bundle is not at .*; put it back, or bench it where it is now"),
        ({}, "accuracy_drop=1pp", "the bundle is not at"),
    ],
)
def test_what_a_measurement_cannot_say_is_bad_input(
    tmp_path: Path, changes: dict[str, Any], budget: str, message: str
) -> None:
    with pytest.raises(MeasurementError, match=message) as caught:
        verdicts(make_measurement(tmp_path, **changes), budget)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("budget", "status"),
    [
        ("instructions=1234567", "pass"),
        ("instructions=1234566", "fail"),
        ("instructions=1.234567M", "pass"),
        ("instructions=1234K", "fail"),
    ],
)
def test_emulated_instructions_are_judged_to_the_last_digit(tmp_path: Path, budget: str, status: str) -> None:
    counts = (Count("artifact", 1_234_567, "a" * 64, 0.0),)
    header = {name: value for name, value in vars(make_measurement(tmp_path)).items() if name != "blocks"}
    measurement = Emulated(**header, counts=counts)
    (judged,) = judge(measurement, parse_budgets(split_budgets(budget)))
    assert (judged.status, judged.low, judged.high) == (status, 1_234_567, 1_234_567)
    assert "1234567 (emulated" in judged.why or "1.234567M (" in judged.why or "1234.567K (" in judged.why
    with pytest.raises(MeasurementError, match="holds emulated instructions, no samples"):
        verdicts(measurement, "latency_p50=1s")


def test_times_keep_no_budget_of_instructions(tmp_path: Path) -> None:
    with pytest.raises(MeasurementError, match="nothing was counted; count with: bench --emulate"):
        verdicts(make_measurement(tmp_path), "instructions=1M")


def test_a_bundle_that_was_built_anew_is_not_the_one_measured(tmp_path: Path) -> None:
    make_artifact(tmp_path / "bundle")
    with pytest.raises(MeasurementError, match="another model than the one measured"):
        verdicts(make_measurement(tmp_path, artifact_sha256="f" * 64), "size=1MB")


def test_memory_that_the_device_does_not_tell_is_bad_input(tmp_path: Path) -> None:
    measurement = make_measurement(tmp_path, against=0)
    blocks = tuple(replace(block, memory_bytes={}) for block in measurement.blocks)
    with pytest.raises(MeasurementError, match="high-water mark of a process; leave this budget out"):
        verdicts(replace(measurement, blocks=blocks), "memory=1MB")


def with_conditions(measurement: Timed, before: dict[str, Any], after: dict[str, Any]) -> Timed:
    """The second block under these conditions."""
    first, second, *rest = measurement.blocks
    changed = replace(second, conditions_before=before, conditions_after=after)
    return replace(measurement, blocks=(first, changed, *rest))


@pytest.mark.parametrize(("before", "after"), [(0, 0x50005), (0x50005, 0x50005), (0, 0x50000)])
def test_throttling_is_unfair(tmp_path: Path, before: int, after: int) -> None:
    name = "throttling.vcgencmd"
    measurement = with_conditions(make_measurement(tmp_path), {name: before}, {name: after})
    assert "throttled (blocks 2)" in unfairness(measurement, load_target("rpi4"))
    calm = with_conditions(make_measurement(tmp_path), {name: 0x50000}, {name: 0x50000})
    assert unfairness(calm, load_target("rpi4")) == ""


def test_another_governor_than_the_targets_is_unfair_unless_allowed(tmp_path: Path) -> None:
    reading = {"governor.policy0": "ondemand"}
    measurement = with_conditions(make_measurement(tmp_path), reading, reading)
    target = replace(load_target("rpi4"), governor="performance")
    assert "governor" in unfairness(measurement, target)
    assert unfairness(replace(measurement, plan={"allow_governor": True}), target) == ""
    assert unfairness(measurement, replace(target, governor="ondemand")) == ""


def test_a_failure_outweighs_what_is_inconclusive(tmp_path: Path) -> None:
    measurement = make_measurement(tmp_path)

    def code(text: str) -> int:
        return exit_code(judge(measurement, parse_budgets(split_budgets(text))))

    assert code("latency_p50=1s") == 0
    assert code("latency_p50=1s,speedup=2x") == 4
    assert code("latency_p50=1ms,speedup=2x") == 1


def test_the_junit_file_has_a_case_a_budget(tmp_path: Path) -> None:
    measurement = make_measurement(tmp_path)
    judged = judge(measurement, parse_budgets(split_budgets("latency_p50=1s,latency_p90=1ms,speedup=2x")))
    top = ElementTree.fromstring(junit(measurement, judged))
    assert (top.get("tests"), top.get("failures"), top.get("errors")) == ("3", "1", "1")
    (suite,) = top
    assert suite.get("name") == "m"
    found = {case.get("name"): [child.tag for child in case] for case in suite}
    assert found == {"latency_p50": ["system-out"], "latency_p90": ["failure"], "speedup": ["error"]}
    failure = suite.find("testcase[@name='latency_p90']/failure")
    assert failure is not None and "at most 1ms: fail" in str(failure.get("message"))
    unfair = ElementTree.fromstring(junit(measurement, judged, "the device was <throttled>"))
    assert (unfair.get("failures"), unfair.get("errors")) == ("0", "3")
    assert {error.get("message") for error in unfair.iter("error")} == {"the device was <throttled>"}


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run `edgeprune gate` in a folder with a measurement; gives (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def command(*arguments: str, **changes: Any) -> tuple[int, str, str]:
        make_measurement(tmp_path, **changes).save()
        monkeypatch.setattr(sys, "argv", ["edgeprune", "gate", "m.json", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        output = capsys.readouterr()
        return int(stop.value.code or 0), output.out, output.err

    return command


@pytest.mark.parametrize(
    ("budget", "code"),
    [("latency_p90=10ms", 0), ("latency_p90=1ms", 1), ("latency_p9=1ms", 2), ("speedup=2x", 4), ("energy=1J", 2)],
)
def test_the_command_exits_with_what_it_found(gate: Any, budget: str, code: int) -> None:
    found, out, err = gate("--budget", budget, "--junit", "junit.xml")
    assert found == code, err
    assert out == ("" if code == 2 else "junit.xml\n")
    assert Path("junit.xml").exists() == (code != 2)
    assert budget.partition("=")[0] in err and "Traceback" not in err


def test_a_junit_file_that_cannot_be_written_is_named(gate: Any, tmp_path: Path) -> None:
    Path("junit").write_text("in the way")
    code, out, err = gate("--budget", "latency_p90=10ms", "--junit", "junit/junit.xml")
    assert (code, out) == (2, "")
    assert err.splitlines()[-1].startswith("error: cannot write junit/junit.xml: ")
    assert err.endswith("; name another file: --junit\n")


def test_unfair_conditions_outweigh_the_budgets(gate: Any, tmp_path: Path) -> None:
    blocks = with_conditions(make_measurement(tmp_path), {"throttling.vcgencmd": 0}, {"throttling.vcgencmd": 5}).blocks
    code, out, err = gate("--budget", "latency_p90=1s", "--json", blocks=blocks)
    found = json.loads(out)
    assert (code, found["exit_code"]) == (3, 3)
    assert found["unfair"].startswith("the device was throttled") and "unfair: the device was throttled" in err
    assert [(each["budget"]["name"], each["status"]) for each in found["budgets"]] == [("latency_p90", "pass")]


def test_the_targets_budgets_serve_where_none_are_given(gate: Any, tmp_path: Path) -> None:
    text = (Path(__file__).parents[1] / "targets" / "local.toml").read_text()
    Path("mine.toml").write_text(text + '\n[budgets]\nlatency_p90 = "9ms"\nspeedup = "1.5x"\n')
    code, _, err = gate("--target", "./mine.toml")
    assert code == 1 and "latency_p90" in err and "speedup" in err
    assert gate("--target", "./mine.toml", "--budget", "speedup=1.5x")[0] == 0
    code, _, err = gate()
    assert code == 2 and "there is no budget to judge by; give --budget" in err
