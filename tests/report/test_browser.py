from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from edgeprune.report import collect, write_report

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--proxy-server=127.0.0.1:9",
    "--enable-logging=stderr",
    "--virtual-time-budget=15000",
    "--window-size=1280,1000",
)


@pytest.fixture(scope="module")
def loaded(built, tmp_path_factory):
    """(DOM after the scripts ran, the browser's messages) of the real page, without any network."""
    browser = next((path for name in NAMES if (path := shutil.which(name))), None)
    if browser is None:
        pytest.skip("no Chromium is installed, so no browser can draw the page; on Debian: apt-get install chromium")
    path = write_report(collect([], built.out), tmp_path_factory.mktemp("page"))
    profile = tmp_path_factory.mktemp("profile")
    command = [browser, *QUIET, f"--user-data-dir={profile}", "--dump-dom", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    return re.sub(r"<script.*?</script>", "", done.stdout, flags=re.S), done.stderr


def test_plotly_draws_every_figure_over_its_picture(loaded, built):
    dom, _ = loaded
    figures = re.findall(r"<figure[^>]*>", dom)
    assert figures == ['<figure class="drawn">'] * (1 + len(built.measurements))
    assert dom.count('class="main-svg"') >= len(figures)
    for name in ("density-0", "latency-0", "latency-1", "latency-2"):
        part = dom[dom.index(f'id="{name}"') :].split("</figure>")[0]
        assert part.count("js-line") >= 2, name


def test_the_drawn_curve_has_the_names_and_colours_of_the_page(loaded):
    dom, _ = loaded
    part = dom[dom.index('id="density-0"') :].split("</figure>")[0]
    assert "ticket, mean of 3 seeds" in part and "chosen: 16.8 % density" in part
    assert "rgb(31, 95, 191)" in part
    assert "--ticket" not in part


def test_the_browser_has_nothing_to_complain_about(loaded):
    _, messages = loaded
    complaints = [line for line in messages.splitlines() if "CONSOLE" in line]
    assert complaints == []
