"""Monitoring's status page and what it links to, in a real browser: renewed in place, silent servers, accessibility."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.browser.booking import faults
from tests.monitoring.desk import Desk
from tests.monitoring.recorded import LIVE, Feeds, RecordedCity, with_champion
from tests.monitoring.service import a_service
from tests.servers import running

PHONE, DESK = {"width": 375, "height": 740}, {"width": 1280, "height": 860}
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Monitoring that has seen an incident, so that there are decisions to link to."""
    folder = tmp_path_factory.mktemp("status")
    incident = RecordedCity(seed=6, bridge_closed_h=0, slowdown=1.8).events(8)
    feeds = Feeds(folder / "feeds.db", with_champion() + incident)
    with feeds.served() as upstream:
        feeds.publish(LIVE)
        Desk(upstream, feeds, f"sqlite:///{folder}/var/monitoring.db").run(8)
        app, _ = a_service(folder, upstream, hours=8)
        with running(app) as url:
            yield url


@pytest.fixture(params=[PHONE, DESK], ids=["phone", "desk"])
def page(browser: Browser, url: str, request: pytest.FixtureRequest) -> Iterator[Page]:
    context = browser.new_context(viewport=request.param, base_url=url)
    page = context.new_page()
    page.set_default_timeout(10_000)
    page.goto("/")
    expect(page.get_by_role("heading", name="Watching something")).to_be_visible()
    yield page
    context.close()


def renewed(page: Page) -> None:
    """Wait until the page has taken what it asked for anew."""
    decided = page.locator(".now small")
    decided.evaluate("it => it.textContent = 'of before'")
    expect(decided).to_contain_text("city time now", timeout=10_000)


@pytest.mark.parametrize("path", ["/", "/decisions", "/requirements", "/dictionary"])
def test_the_accessibility_checker_finds_nothing(page, path):
    page.goto(path)
    assert faults(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]


def test_a_chart_tells_a_listener_what_it_shows_and_its_decisions_can_be_followed(page):
    chart = page.get_by_label("p90 coverage, all trips, champion now")
    expect(chart).to_be_visible()
    link = chart.get_by_role("link").first
    decision = link.get_attribute("href")
    link.focus()
    page.keyboard.press("Enter")
    page.wait_for_url(f"**{decision}")


def test_it_renews_itself_under_the_readers_hands(page):
    table = page.get_by_role("region", name="Requirements we watch")
    table.evaluate("it => it.scrollLeft = 100")
    scrolled = table.evaluate("it => it.scrollLeft")
    assert (scrolled > 0) == (page.viewport_size == PHONE)
    link = page.get_by_role("link", name="watch").first
    link.focus()
    renewed(page)
    expect(link).to_be_focused()
    assert table.evaluate("it => it.scrollLeft") == scrolled
    table.focus()
    renewed(page)
    expect(table).to_be_focused()


def test_a_listener_is_told_of_another_decision_and_of_nothing_else(page, url):
    page.evaluate("""() => {
        window.told = [];
        for (const part of document.querySelectorAll("[aria-live]")) {
            const tell = () => window.told.push(part.innerText.trim());
            new MutationObserver(tell).observe(part, { subtree: true, childList: true, characterData: true });
        }
    }""")
    renewed(page)
    assert page.evaluate("window.told") == []

    def decided(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, body=answer.text().replace("Watching something", "Retrain the model"))

    page.route(f"{url}/", decided)
    expect(page.get_by_role("heading", name="Retrain the model")).to_be_visible()
    assert page.evaluate("window.told") == ["Retrain the model"]


def test_it_says_since_when_nobody_answers(page):
    said = page.get_by_role("status")
    expect(said).to_have_text("")
    page.context.set_offline(True)
    expect(said).to_contain_text(re.compile(r"No answer since \d\d:\d\d:\d\d on your clock; trying again"))
    page.evaluate("scrollTo(0, 600)")
    expect(said).to_be_in_viewport()
    assert faults(page) == []
    expect(page.get_by_role("heading", name="Watching something")).to_be_attached()
    page.context.set_offline(False)
    expect(said).to_have_text("")


@pytest.mark.parametrize(
    "way", [lambda route: route.fulfill(status=500, body="{}"), lambda _route: None], ids=["out of order", "hangs"]
)
def test_an_error_or_a_server_that_hangs_is_no_answer(page, url, way):
    said = page.get_by_role("status")
    page.route(f"{url}/", way)
    expect(said).to_contain_text("No answer since", timeout=20_000)
    page.unroute(f"{url}/")
    expect(said).to_have_text("", timeout=20_000)
