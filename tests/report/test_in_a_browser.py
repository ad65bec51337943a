"""The report in headless Chromium, where there is one: it logs nothing, fits a phone in light and dark, and prints."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess

import pytest

from report.full_sample import everything
from tunewright.report import render

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")]
LIGHT, DARK = 1, 0  # as Blink counts colour schemes

LOOK = """\
<!doctype html><iframe src="report.html" style="border:0;width:{width}px;height:900px"></iframe><pre id="found"></pre>
<script>
document.querySelector("iframe").onload = (loaded) => {{
  const page = loaded.target.contentDocument;
  const wide = [...page.querySelectorAll("main > *, section > *")].filter(
    (one) => one.getBoundingClientRect().right > {width} + 1).map((one) => one.outerHTML.slice(0, 80));
  document.getElementById("found").textContent = JSON.stringify({{
    width: page.documentElement.scrollWidth, wide,
    paper: getComputedStyle(page.body).backgroundColor, ink: getComputedStyle(page.body).color,
    stops: [...page.querySelectorAll("a[href], summary, [tabindex='0']")].length,
    folded: [...page.querySelectorAll("details > :not(summary)")].filter((one) => !one.checkVisibility()).length,
  }});
}};
</script>
"""


def looked(folder, width, scheme, page):
    """What the page measures in a frame of `width` pixels, and what the browser logged of it."""
    (folder / "report.html").write_text(page, encoding="utf-8")
    (folder / "look.html").write_text(LOOK.format(width=width))
    done = subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--allow-file-access-from-files",
            "--enable-logging=stderr", f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=5000",
            f"--blink-settings=preferredColorScheme={scheme}", "--dump-dom", (folder / "look.html").as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    found = re.search(r'<pre id="found">(.*?)</pre>', done.stdout)
    assert found, done.stderr
    return json.loads(html.unescape(found[1])), [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.parametrize(("scheme", "paper"), [(LIGHT, "rgb(252, 251, 248)"), (DARK, "rgb(23, 25, 26)")])
@pytest.mark.parametrize("width", [360, 1200])
def test_it_fits_and_logs_nothing(tmp_path, width, scheme, paper):
    found, logged = looked(tmp_path, width, scheme, render(everything()))
    assert logged == []
    assert found["wide"] == []
    assert found["width"] <= width
    assert found["paper"] == paper
    assert found["stops"] > 9
    assert found["folded"] > 0


def test_paper_is_white_and_shows_what_a_screen_folds(tmp_path):
    """The rules for print, held to be for every medium: a page of A4 between its margins, in the dark scheme."""
    page = render(everything()).replace("@media print", "@media all")
    page = re.sub(r'<meta http-equiv="Content-Security-Policy".*?>', "", page)  # it names the style by its digest
    found, logged = looked(tmp_path, 718, DARK, page)
    assert logged == []
    assert found["wide"] == []
    assert found["paper"] == "rgb(255, 255, 255)"
    assert found["ink"] == "rgb(0, 0, 0)"
    assert found["folded"] == 0
