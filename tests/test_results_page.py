"""The page of results is made from result files, and every figure that another page quotes is in one of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from edgeprune.typed import WrongContent
from tests.test_docs import PAGES, load_script

RESULTS = Path(__file__).parents[1] / "docs" / "results"
MEASURED = re.compile(r"(?<![\w.])\d[\d.,]*(?= ?(?:x|×|us|µs|kB|MB)(?!\w)| times (?:smaller|larger|as fast))")
# What a page names because the program was set so, not because it was measured.
SETTINGS = {"docs/kernels.md": {"1.4", "1.75", "0.4"}}


@pytest.fixture
def results_page(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return load_script("results_page", monkeypatch)


def test_every_result_file_is_whole(results_page: ModuleType) -> None:
    machines, results = results_page.read()
    assert len(results) >= 30
    for file, result in results.items():
        assert result.machine in machines and file.startswith(f"{result.machine}-"), file
        assert re.fullmatch(r"20\d\d-\d\d-\d\d", result.date) and result.commands, file
        assert result.tables or result.notes, file
        for table in result.tables:
            assert {len(row) for row in table.rows} == {len(table.columns)}, file
            assert not table.bars or [len(bars) + 1 for bars in table.bars] == [len(row) for row in table.rows], file


def test_a_field_that_is_wrong_is_named(results_page: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "machines.json").write_text('{"mine": {"name": "Mine", "description": "a board"}}')
    (tmp_path / "mine-speed.json").write_text('{"title": "Speed", "machine": "mine", "date": "2026-01-01"}')
    with pytest.raises(WrongContent, match=r"mine-speed\.json.*commands"):
        results_page.read(tmp_path)


def test_figures_are_written_with_their_bars_and_what_misses_one_is_bold(results_page: ModuleType) -> None:
    rows = (("a", 4.3, (1.5, 1.61)), ("b", 12.34, 1234567), ("c", "none", 123.4))
    table = results_page.Table(("", "x", "y"), rows, unit="x", bars=((3.3, 1.6), (None, None), (None, None)))
    cells = [[results_page._cell(table, row, column) for column in range(3)] for row in range(3)]
    assert cells == [["a", "4.30x (3.3)", "**1.50x**, 1.61x (1.6)"], ["b", "12.3x", "1,234,567"], ["c", "none", "123x"]]
    result = results_page.Result("Speed", "mine", "2026-01-01", ("bench",), tables=(table,))
    assert results_page._line("mine-speed.json", result).endswith(
        "[Speed](results/mine-speed.json): 1 of 2 figures below the bar"
    )


def test_the_newest_machine_stands_first_and_what_it_has_shown_is_not_repeated(results_page: ModuleType) -> None:
    machines, results = results_page.read()
    page = results_page.results()
    assert re.findall(r"^## (.*)$", page, re.MULTILINE) == [machine.name for machine in machines.values()]
    titles = re.findall(r"^### (.*)$", page, re.MULTILINE)
    assert sorted(titles) == sorted({result.title for result in results.values()})
    newest = page[: page.index("## Emerald Rapids")]
    assert "### Sparse kernels against dense ONNX Runtime" in newest and "4.43x (3.3)" in newest


def numbers(text: str) -> set[float]:
    return {float(number.replace(",", "").rstrip(".")) for number in re.findall(r"(?<![\w.])\d[\d,]*\.?\d*", text)}


def quoted(name: str) -> Iterator[str]:
    """The measured figures in a page's prose: outside of code and of what is generated."""
    prose = re.sub(
        r"```.*?```|<!-- generated.*?<!-- end -->|^    .*?$|`[^`]*`", "", PAGES[name], flags=re.DOTALL | re.M
    )
    yield from (figure.rstrip(".,") for figure in MEASURED.findall(prose))


@pytest.mark.parametrize("name", [name for name in PAGES if name != "CHANGELOG.md"])
def test_every_figure_that_a_page_quotes_is_in_a_result_file(name: str) -> None:
    known = {number for file in RESULTS.glob("*.json") for number in numbers(file.read_text())}
    unknown = [
        figure
        for figure in quoted(name)
        if figure not in SETTINGS.get(name, ()) and float(figure.replace(",", "")) not in known
    ]
    assert not unknown, f"{name} quotes {', '.join(unknown)}: put them into docs/results/, or link to docs/results.md"


def test_a_figure_that_nothing_measured_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PAGES, "made-up.md", "It is 31.7x as fast, and 12.5 times smaller, in `1.1x` and 4x4 blocks.")
    assert list(quoted("made-up.md")) == ["31.7", "12.5"]
