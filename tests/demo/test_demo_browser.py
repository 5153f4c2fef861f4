"""The page in a real browser; see `browser_kit`."""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from browser_kit import chromium, needs_chromium
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from rslit.front import Front, read_scores

pytestmark = [pytest.mark.slow, needs_chromium]

# A loaded machine takes its time; what counts as quick is measured, not waited for.
_PATIENCE = 120_000


@pytest.fixture(scope="module")
def address(runs: Callable[[str], Path]) -> Iterator[str]:
    """`rslit demo` on the ball's runs, as a person starts it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "rslit", "demo", str(runs("locomotion")), "--port", str(port)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as server:
        assert server.stdout is not None
        try:
            assert server.stdout.readline() == f"demo on http://127.0.0.1:{port} (Ctrl-C stops it)\n"
            _until_open(port)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(60)


def _until_open(port: int) -> None:
    for _ in range(600):
        with socket.socket() as caller:
            if caller.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError("the server did not open its port within a minute")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture
def visitor(browser: Browser, address: str) -> Iterator[Page]:
    """A new visitor, who notes what the page asks for and complains about."""
    asked: list[str] = []
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    context.on("request", lambda request: asked.append(request.url))
    page = _open(context, address)
    yield page
    context.close()
    port = address.rpartition(":")[2]
    own = (f"http://127.0.0.1:{port}/", f"ws://127.0.0.1:{port}/", "data:", "blob:", "about:")
    assert asked
    assert [url for url in asked if not url.startswith(own)] == []


def _open(context: BrowserContext, address: str) -> Page:
    context.set_default_timeout(_PATIENCE)
    page = context.new_page()
    page.goto(address)
    expect(_slider(page, "risky")).to_be_visible(timeout=_PATIENCE)
    return page


def _slider(page: Page, name: str) -> Locator:
    return page.get_by_role("slider", name=f"λ of {name}")


def _at(page: Page, risky: float) -> None:
    """Waits until the sliders, the button and the episodes are of this λ."""
    lam = f"risky {risky:.4g}, cautious {round(1 - risky, 4):.4g}"
    expect(_slider(page, "risky")).to_have_value(f"{risky:g}", timeout=_PATIENCE)
    expect(_slider(page, "cautious")).to_have_value(f"{round(1 - risky, 4):g}", timeout=_PATIENCE)
    expect(page.get_by_role("button", name=f"Export the soup at λ: {lam}")).to_be_visible(timeout=_PATIENCE)
    heading = page.frame_locator("iframe").get_by_role("heading", name=f"soup at λ: {lam}")
    expect(heading).to_be_visible(timeout=_PATIENCE)


def test_a_click_on_the_front(visitor: Page, runs: Callable[[str], Path]) -> None:
    _at(visitor, 0.5)
    front = Front.from_table(read_scores(runs("locomotion") / "sweep" / "scores.parquet"), "soup")
    assert front.lams is not None
    for expert in (0, 1):  # the ends of the front, where no other point is near
        index = int(front.expert_points()[expert])
        # The first trace is the curve, the second the soups.
        point = visitor.locator(".scatterlayer .trace").nth(1).locator("path.point").nth(index)
        point.scroll_into_view_if_needed()
        box = point.bounding_box()
        assert box is not None
        visitor.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        _at(visitor, float(front.lams[index, 0]))


def test_keys_alone_move_sliders_and_a_reload_keeps_them(visitor: Page) -> None:
    for _ in range(40):
        visitor.keyboard.press("Tab")
        if visitor.evaluate("document.activeElement.type") == "range":
            break
    expect(_slider(visitor, "risky")).to_be_focused()
    for _ in range(3):
        visitor.keyboard.press("ArrowLeft")
    _at(visitor, 0.47)
    visitor.keyboard.press("Tab")
    expect(_slider(visitor, "cautious")).to_be_focused()
    visitor.keyboard.press("End")
    _at(visitor, 0.0)
    visitor.keyboard.press("ArrowLeft")
    _at(visitor, 0.01)
    visitor.reload()
    _at(visitor, 0.01)


def test_export(visitor: Page, runs: Callable[[str], Path]) -> None:
    _slider(visitor, "risky").focus()
    visitor.keyboard.press("ArrowRight")
    _at(visitor, 0.51)
    visitor.get_by_role("button", name="Export the soup").click()
    shown = visitor.locator("code", has_text="soups")
    expect(shown).to_be_visible(timeout=_PATIENCE)
    folder = Path(str(shown.text_content()))
    assert folder == runs("locomotion") / "sweep" / "soups" / "risky=51_100,cautious=49_100"
    assert (folder / "weights.safetensors").is_file()


def test_two_visitors_keep_their_lam(visitor: Page, browser: Browser, address: str) -> None:
    context = browser.new_context()
    other = _open(context, address)
    _slider(visitor, "risky").focus()
    _slider(other, "risky").focus()
    for step in range(1, 4):
        visitor.keyboard.press("ArrowLeft")
        other.keyboard.press("ArrowRight")
        _at(visitor, round(0.5 - step / 100, 2))
        _at(other, round(0.5 + step / 100, 2))
    context.close()


def test_a_slider_answers_quickly(visitor: Page, capsys: pytest.CaptureFixture[str]) -> None:
    """From the key to the page with the new λ. The bound is generous: tests share the machine with others."""
    _at(visitor, 0.5)
    _slider(visitor, "risky").focus()
    seconds = []
    for step in range(1, 8):
        began = time.perf_counter()
        visitor.keyboard.press("ArrowRight")
        # Not expect, which looks again only after 100 ms and more.
        text = f"risky {0.5 + step / 100:.4g}, "
        visitor.wait_for_function(
            "text => [...document.querySelectorAll('button')].some(b => b.textContent.includes(text))",
            arg=text, polling="raf",
        )  # fmt: skip
        seconds.append(time.perf_counter() - began)
        _at(visitor, round(0.5 + step / 100, 2))
    with capsys.disabled():
        print(f"\na slider answers in {1000 * statistics.median(seconds):.0f} ms (median of {len(seconds)})")
    assert statistics.median(seconds) < 3


def test_a_phone_needs_no_sideways_scrolling(browser: Browser, address: str) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = _open(context, address)
    _at(page, 0.5)
    wide = page.evaluate("document.scrollingElement.scrollWidth")
    assert wide <= 390
    for name in ("risky", "cautious"):
        box = _slider(page, name).bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390
    context.close()
