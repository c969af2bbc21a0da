"""The page on which people try out a service's API, in a real browser that can reach nobody else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from contracts.estimates import EstimatesRequest
from tests.bundles import a_trip
from tests.serving.conftest import Service, a_champion, a_place

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with a_place(tmp_path_factory.mktemp("api")) as place, a_champion(place) as service:
        yield service


@pytest.fixture(params=[{"width": 375, "height": 740}, {"width": 1280, "height": 860}], ids=["phone", "desk"])
def page(browser: Browser, service: Service, request: pytest.FixtureRequest) -> Iterator[Page]:
    context = browser.new_context(viewport=request.param, base_url=str(service.client.base_url))
    page = context.new_page()
    page.set_default_timeout(10_000)
    yield page
    context.close()


def test_an_estimate_is_tried_out_and_nobody_else_is_asked_for_anything(page, service):
    home, strangers, said = str(service.client.base_url).rstrip("/"), [], []

    def only_home(route: Route) -> None:
        if route.request.url.startswith((home, "data:")):
            route.continue_()
        else:
            strangers.append(route.request.url)
            route.abort()

    page.route("**/*", only_home)
    page.on("console", lambda message: said.append(message.text))
    page.goto("/docs")
    expect(page).to_have_title("serving: API")
    operation = page.locator(".opblock").filter(has_text="/v1/estimates").first
    operation.locator(".opblock-summary-control").press("Enter")
    operation.get_by_role("button", name="Try it out").click()
    asked = EstimatesRequest(trips=[a_trip("t-docs")])
    operation.locator("textarea").fill(asked.model_dump_json())
    operation.get_by_role("button", name="Execute").click()
    expect(operation.locator(".live-responses-table .response-col_status").last).to_contain_text("200")
    expect(operation.locator(".live-responses-table")).to_contain_text("t-docs")
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    assert strangers == []
    assert said == []
