"""In a real browser: JupyterLab runs a notebook to its end, the tour's widgets react, the site has no broken link.

Run by `make browser`, which installs what it needs and sets STUDY_BROWSER; left out of `make test`. Chromium is the
system's, at STUDY_CHROMIUM or found on the path. Screenshots go to build/screenshots.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

if "STUDY_BROWSER" not in os.environ:
    pytest.skip("left out: no browser wanted; `make browser` runs it", allow_module_level=True)

from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).parents[1]
SHOTS = ROOT / "build" / "screenshots"
MINUTES = 15
BEGUN = """() => [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].some(
    cell => /\\[(\\d+|\\*)\\]:/.test(cell.textContent))"""
SETTLED = """() => {
    const cells = [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].map(cell => cell.textContent);
    return cells.length > 0 && cells.every(text => /\\[\\d+\\]:/.test(text));
}"""


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


@pytest.fixture(scope="module")
def browser():
    chromium = os.environ.get("STUDY_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    assert chromium, "no Chromium: apt-get install chromium, or set STUDY_CHROMIUM to where it is"
    SHOTS.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        # Chromium's own sandbox does not work for root, which containers mostly run as.
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        opened = playwright.chromium.launch(executable_path=chromium, args=options)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """JupyterLab as `make lab` starts it, on copies of its own."""
    folder = tmp_path_factory.mktemp("lab") / "notebooks"
    port = free_port()
    options = f"--no-browser --port={port} --IdentityProvider.token=study"
    options += " --allow-root" if os.geteuid() == 0 else ""
    # JupyterLab draws the cells in sight alone, and the others then show no prompt and no output: draw them all.
    tracker = folder.parent / "settings" / "@jupyterlab" / "notebook-extension" / "tracker.jupyterlab-settings"
    tracker.parent.mkdir(parents=True)
    tracker.write_text('{"windowingMode": "none"}')
    log = (SHOTS / "lab.log").open("w")
    server = subprocess.Popen(
        ["make", "lab", f"BOOKS={folder}", f"LAB={options}"], cwd=ROOT, stdout=log, stderr=log, start_new_session=True,
        env=os.environ | {"JUPYTERLAB_SETTINGS_DIR": str(folder.parent / "settings")},
    )  # fmt: skip
    for _ in range(120):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/api?token=study", timeout=1).close()
            break
        except (urllib.error.URLError, OSError):
            assert server.poll() is None, f"JupyterLab did not start: see {log.name}"
            time.sleep(1)
    yield f"http://127.0.0.1:{port}/lab/workspaces/%s/tree/%s.ipynb?token=study"
    end = urllib.request.Request(f"http://127.0.0.1:{port}/api/shutdown?token=study", method="POST")
    urllib.request.urlopen(end, timeout=30).close()
    server.wait(60)
    log.close()


def run_all(browser, lab: str, notebook: str) -> Page:
    page = browser.new_page(viewport={"width": 1300, "height": 1000})
    page.goto(lab % (notebook, notebook))  # a workspace of its own: else what another test had open opens here too
    page.wait_for_selector(".jp-CodeCell", timeout=90_000)
    choice = page.locator(".jp-Dialog button.jp-mod-accept")
    for _ in range(10):  # which kernel, JupyterLab may ask while it connects to the one that it has started
        page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status=idle]", timeout=90_000)
        page.wait_for_timeout(2000)
        if not choice.count():
            break
        choice.click()
    for _ in range(5):  # what is asked of a kernel that is not yet connected is lost without a word
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        page.wait_for_timeout(5000)
        if page.evaluate(BEGUN):
            break
    deadline = time.monotonic() + 60 * MINUTES
    while not page.evaluate(SETTLED):
        page.screenshot(path=SHOTS / "running.png")
        assert time.monotonic() < deadline, f"{notebook} was not done in {MINUTES} minutes: see {SHOTS}"
        assert not page.query_selector('[data-mime-type="application/vnd.jupyter.error"]'), page.inner_text(
            '[data-mime-type="application/vnd.jupyter.error"]'
        )
        page.wait_for_timeout(1000)
    return page


def test_a_notebook_runs_to_its_end_in_jupyterlab(browser, lab):
    page = run_all(browser, lab, "02_unimodal")
    assert page.locator(".jp-OutputArea-output table").count() >= 2
    assert "MiniLM-L6" in page.locator(".jp-OutputArea-output table").first.inner_text() or (
        "MiniLM-L6" in page.locator(".jp-OutputArea-output").all_inner_texts().__repr__()
    )
    figures = page.locator(".jp-OutputArea-output img")
    assert figures.count() >= 1
    figures.first.scroll_into_view_if_needed()
    page.screenshot(path=SHOTS / "02_unimodal.png")
    assert not page.query_selector('[data-mime-type="application/vnd.jupyter.error"]')
    page.close()


def test_the_tour_s_widgets_react(browser, lab):
    page = run_all(browser, lab, "00_tour")
    encoder = page.locator(".widget-dropdown select").first
    encoder.scroll_into_view_if_needed()
    said = page.locator(".widget-html-content")
    before = said.all_inner_texts()
    picture = page.locator("img.widget-image").first.get_attribute("src")
    encoder.select_option("pixels")
    page.wait_for_function(
        "before => document.querySelector('.widget-html-content').innerText !== before", arg=before[0]
    )
    page.locator(".widget-dropdown select").nth(1).select_option("128")
    page.wait_for_function("before => document.querySelector('img.widget-image').src !== before", arg=picture)
    page.screenshot(path=SHOTS / "00_tour.png")
    assert said.all_inner_texts() != before


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built from what has been executed, served on a port of its own."""
    folder = tmp_path_factory.mktemp("built") / "site"
    subprocess.run([sys.executable, "-m", "studylib.cli", "site", str(folder)], cwd=ROOT, check=True)
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/", folder
    server.shutdown()


def test_every_page_of_the_site_opens_without_a_complaint(browser, site):
    address, folder = site
    page, complaints, outside = browser.new_page(), [], []
    page.on(
        "console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda sent: None if sent.url.startswith((address, "data:")) else outside.append(sent.url))
    page.on("requestfailed", lambda sent: complaints.append(sent.url))
    pages = sorted(folder.rglob("*.html"))
    assert len(pages) > 5
    for file in pages:
        page.goto(address + file.relative_to(folder).as_posix())
        links = page.eval_on_selector_all("a[href]", "all => all.map(a => a.href)")
        for link in {link.split("#")[0] for link in links if link.startswith(address)}:
            assert (folder / link.removeprefix(address)).is_file(), f"{file.name}: {link}"
        alts = page.eval_on_selector_all("img", "all => all.map(img => img.alt)")
        assert all(len(alt) > 10 for alt in alts), f"{file.name}: a figure without alternative text"
    assert not complaints
    assert not outside


def test_the_site_fits_a_phone(browser, site):
    address, folder = site
    page = browser.new_page(viewport={"width": 360, "height": 740})
    for file in sorted(folder.rglob("*.html")):
        page.goto(address + file.relative_to(folder).as_posix())
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, f"{file.name} is wider than a phone"
    page.goto(address)
    page.screenshot(path=SHOTS / "site_phone.png")
