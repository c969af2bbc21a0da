"""The page with the slider of the promise level, in a real browser: by keyboard, on a phone, without script."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.booking import faults
from tests.monitoring.desk import Desk
from tests.monitoring.recorded import LIVE, Feeds, promise_levels, with_champion
from tests.monitoring.service import a_service
from tests.servers import running

PHONE, DESK = {"width": 375, "height": 740}, {"width": 1280, "height": 860}
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Monitoring that has heard of a champion."""
    folder = tmp_path_factory.mktemp("promise")
    feeds = Feeds(folder / "feeds.db", with_champion())
    with feeds.served() as upstream:
        feeds.publish(LIVE)
        Desk(upstream, feeds, f"sqlite:///{folder}/var/monitoring.db").run(1)
        app, _ = a_service(folder, upstream, hours=1)
        with running(app) as url:
            yield url


@pytest.fixture(params=[PHONE, DESK], ids=["phone", "desk"])
def page(browser: Browser, url: str, request: pytest.FixtureRequest) -> Iterator[Page]:
    context = browser.new_context(viewport=request.param, base_url=url, has_touch=request.param is PHONE)
    page = context.new_page()
    page.set_default_timeout(10_000)
    page.goto("/promise")
    yield page
    context.close()


def place(page: Page) -> tuple[int, int]:
    """Where the chosen point stands on the screen, from the picture's corner."""
    point, picture = page.locator("#point").bounding_box(), page.locator("main svg").bounding_box()
    assert point is not None
    assert picture is not None
    return round(point["x"] - picture["x"]), round(point["y"] - picture["y"])


def test_the_keyboard_moves_the_level_and_with_it_the_sentence_the_point_and_the_row(page):
    slider, said = page.get_by_label("Promise level"), page.locator("#said")
    expect(said).to_contain_text("Promising 31.3 min on average, about 1 in 10 parcels comes later than promised")
    expect(page.locator("#cost")).to_have_text("no change")
    today = place(page)

    slider.focus()
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    expect(said).to_have_text(
        "Promising 34.3 min on average, about 1 in 16 parcels comes later than promised (6.2 in 100)."
    )
    expect(slider).to_have_attribute("aria-valuetext", said.inner_text())
    expect(page.get_by_text("Without scripts")).to_be_hidden()
    expect(page.locator("#cost")).to_have_text("2.9 min longer, 3.8 fewer late in 100")
    expect(page.locator("#kept")).to_contain_text("within the agreed")
    expect(page.locator("tr[aria-current] th")).to_have_text("1.20")
    right, lower = place(page)
    assert right > today[0]
    assert lower > today[1]

    page.keyboard.press("Home")
    expect(said).to_contain_text("Promising 20.0 min on average, about 5 in 10 parcels come later")
    expect(page.locator("#kept")).to_contain_text("more than the agreed")
    expect(page.locator("#kept")).to_have_class("red")
    assert place(page)[0] < today[0]
    page.keyboard.press("End")
    expect(page.locator("tr[aria-current] th")).to_have_text("1.80")

    page.get_by_role("button", name="back to today's").press("Enter")
    expect(page.locator("#cost")).to_have_text("no change")
    assert place(page) == today


def test_a_finger_or_the_mouse_moves_it_too(page):
    box = page.get_by_label("Promise level").bounding_box()
    assert box is not None
    assert box["height"] >= 44  # a finger's width
    at = box["x"] + box["width"] - 12, box["y"] + box["height"] / 2
    page.touchscreen.tap(*at) if page.evaluate("navigator.maxTouchPoints") else page.mouse.click(*at)
    expect(page.locator("#said")).to_contain_text("about 1 in 95 parcels")


def test_it_fits_the_screen_asks_nobody_else_and_passes_the_accessibility_checker(page, url):
    asked, said = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.reload()
    for key in ("Home", "End"):
        page.get_by_label("Promise level").press(key)
        assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
        assert faults(page) == []
    assert f"{url}/static/promise.js" in asked
    assert [one for one in asked if not one.startswith(url)] == []
    assert [one for one in said if "favicon" not in one] == []


def test_without_script_the_table_tells_it_all(browser, url):
    context = browser.new_context(base_url=url, java_script_enabled=False)
    page = context.new_page()
    page.goto("/promise")
    expect(page.locator("#said")).to_contain_text("Promising 31.3 min on average")
    expect(page.get_by_label("Promise level")).to_be_hidden()
    expect(page.get_by_text("Without scripts there is no slider")).to_be_visible()
    assert page.locator("#levels tbody tr").count() == len(promise_levels())
    expect(page.get_by_role("row", name="1.20 34.3 6.2 +2.9 −3.8 kept")).to_be_visible()
    context.close()


def test_the_slider_shows_what_machines_are_told(page, url):
    told = httpx.get(f"{url}/v1/promise").json()
    rows = page.locator("#levels tbody tr")
    for row, level in zip(rows.all(), told["levels"], strict=True):
        expect(row.locator("td").first).to_have_text(f"{level['promised_min']:.1f}")
    assert int(page.get_by_label("Promise level").get_attribute("max") or 0) == len(told["levels"]) - 1
