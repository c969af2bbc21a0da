"""The product's pages in a real browser: by mouse, by keyboard, on a phone, without script, and asking nobody else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from chassis.tokens import read_token
from tests.browser.booking import choose_places, faults, press_next
from tests.product.conftest import Tandem, a_tandem, eventually
from tests.product.neighbours import a_map

PHONE, DESK = {"width": 375, "height": 740}, {"width": 1280, "height": 860}
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tandem(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tandem]:
    with ExitStack() as entered:
        yield a_tandem(tmp_path_factory.mktemp("pages"), entered)


def url(tandem: Tandem) -> str:
    return str(tandem.client.base_url).rstrip("/")


@pytest.fixture
def page(browser: Browser, tandem: Tandem) -> Iterator[Page]:
    context = browser.new_context(viewport=DESK, base_url=url(tandem))
    page = context.new_page()
    page.set_default_timeout(10_000)
    yield page
    context.close()


def booked(tandem: Tandem) -> str:
    trip = tandem.quote().trip_id
    tandem.book(trip)
    return trip


def reported(tandem: Tandem, trip: str, event: str) -> None:
    at = tandem.clock.now()
    eventually(lambda: tandem.clock.now() > at, "a moment has passed")
    assert tandem.report(trip, event, at).status_code == 200


def test_a_customer_quotes_books_watches_and_rates(page, tandem):
    page.goto("/")
    page.locator("[data-zone='101']").click()
    page.locator("[data-zone='118']").click()
    expect(page.get_by_label("Pick up in")).to_have_value("101")
    expect(page.get_by_label("Bring to")).to_have_value("118")
    page.get_by_role("button", name="Show price and time").click()
    expect(page.locator(".offer")).to_contain_text("of booking")
    page.get_by_role("button", name="Book this trip").click()
    expect(page.get_by_role("heading")).to_have_text("A courier is coming")

    trip = page.url.rsplit("/", 1)[1]
    reported(tandem, trip, "picked_up")
    expect(page.get_by_role("heading")).to_have_text("On its way")  # by itself: the page looks every two seconds
    reported(tandem, trip, "delivered")
    expect(page.get_by_role("heading")).to_contain_text("Delivered at")

    page.locator("label[for=star4]").click()
    page.get_by_label("Anything to add?").fill("kind courier")
    page.get_by_role("button", name="Send rating").click()
    expect(page.get_by_role("img", name="4 of 5 stars")).to_be_visible()
    assert tandem.client.get(f"/api/trips/{trip}").json()["stars"] == 4


def test_back_to_a_trip_shows_its_whole_page_and_looks_again(page, tandem):
    trip = booked(tandem)
    page.goto(f"/trips/{trip}")
    page.wait_for_event("response", lambda got: got.url.endswith(trip) and "hx-request" in got.request.headers)
    page.get_by_role("link", name="Send a parcel").click()
    expect(page.get_by_label("Pick up in")).to_be_visible()
    page.go_back()
    expect(page.locator(".steps .done")).to_have_count(1)
    expect(page.get_by_role("link", name="Send a parcel")).to_be_visible()
    reported(tandem, trip, "picked_up")
    expect(page.locator(".steps .done")).to_have_count(2)


def test_the_same_by_keyboard_alone(page):
    page.goto("/")
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to content")).to_be_focused()
    page.get_by_label("Pick up in").focus()
    page.keyboard.type("Square 3")
    page.keyboard.press("Tab")
    page.keyboard.type("Square 9")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("radio", name="Scooter")).to_be_checked()
    page.keyboard.press("Tab")
    page.keyboard.type("2.5")
    page.keyboard.press("Enter")
    expect(page.locator(".offer")).to_be_visible()
    expect(page.locator("polygon.from")).to_have_attribute("data-zone", "103")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Book this trip")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading")).to_have_text("A courier is coming")


def test_without_script_the_form_still_sells(browser, tandem):
    context = browser.new_context(base_url=url(tandem), java_script_enabled=False)
    page = context.new_page()
    page.goto("/")
    page.get_by_label("Pick up in").select_option("101")
    page.get_by_label("Bring to").select_option("102")
    page.get_by_text("Van", exact=True).click()
    page.get_by_label("Parcel weight").fill("2.5")
    page.get_by_role("button", name="Show price and time").click()
    expect(page.locator(".offer")).to_contain_text("From Square 1 to Square 2 by van, 2.5 kg")
    expect(page.get_by_label("Pick up in")).to_have_value("101")  # the form still says what was asked
    expect(page.get_by_label("Bring to")).to_have_value("102")
    expect(page.get_by_role("radio", name="Van")).to_be_checked()
    expect(page.get_by_label("Parcel weight")).to_have_value("2.5")
    page.get_by_role("button", name="Book this trip").click()
    assert page.get_by_role("heading").inner_text() == "A courier is coming"
    context.close()


@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_an_offer_says_by_keyboard_too_what_adds_or_saves_minutes(browser, tandem, size):
    context = browser.new_context(viewport=size, base_url=url(tandem))
    page = context.new_page()

    def explained() -> bool:
        """An offer by the model's own estimate: some quotes are audits, some answers late."""
        page.goto("/")
        choose_places(page)
        assert press_next(page)
        return page.locator(".offer").get_by_text("A typical trip takes about 24 min.").count() == 1

    eventually(explained, "an offer has reasons", patience_s=60)
    words = page.locator(".offer .reasons")
    expect(words).to_contain_text("The shorter way saves 9 min, the weather adds 3 min")
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    assert faults(page) == []
    assert press_next(page)  # reasons do not stand between the offer and its button
    expect(page.get_by_role("heading", name="A courier is coming")).to_be_visible()
    context.close()


def offered(page: Page, pickup: str, dropoff: str) -> Locator:
    """The card of a price asked for by the form's lists."""
    page.get_by_label("Pick up in").select_option(pickup)
    page.get_by_label("Bring to").select_option(dropoff)
    page.get_by_role("button", name="Show price and time").click()
    card = page.locator(".offer")
    expect(card).to_be_visible()
    return card


@pytest.mark.parametrize(
    "change",
    [
        lambda page: page.get_by_label("Bring to").select_option("124"),
        lambda page: page.get_by_role("radio", name="Van").check(force=True),
        lambda page: page.get_by_label("Parcel weight").fill("30"),
        lambda page: page.locator("[data-zone='110']").click(),
    ],
    ids=["place", "vehicle", "weight", "map"],
)
def test_an_offer_says_what_it_is_for_and_goes_when_something_else_is_asked(page, change):
    page.goto("/")
    card = offered(page, "101", "102")
    expect(card).to_contain_text("From Square 1 to Square 2 by bike")
    change(page)
    expect(card).to_have_count(0)


def test_an_offer_on_its_way_does_not_come_once_the_form_asks_for_something_else(page):
    page.goto("/")
    page.route("**/quotes", lambda _route: None)  # no answer, until asked anew
    page.get_by_label("Pick up in").select_option("101")
    page.get_by_label("Bring to").select_option("102")
    button = page.get_by_role("button", name="Show price and time")
    with page.expect_request("**/quotes"):
        button.click()
    page.get_by_label("Bring to").select_option("124")
    expect(button).to_be_enabled()
    page.unroute("**/quotes")
    button.click()
    expect(page.locator(".offer")).to_contain_text("From Square 1 to Square 24")


def test_a_bad_form_is_explained_in_place(page):
    page.goto("/")
    page.get_by_label("Pick up in").select_option("101")
    page.get_by_label("Bring to").select_option("102")
    page.get_by_label("Parcel weight").fill("900")
    page.get_by_role("button", name="Show price and time").click()

    expect(page.get_by_role("alert")).to_contain_text("Parcel kg: Input should be less than or equal to 500")


def test_staff_log_in_and_see_the_late_ones_first(page, tandem):
    trips = [booked(tandem) for _ in range(3)]
    page.goto("/dispatch")
    page.get_by_label("Staff token").fill("guess")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("not the staff token")
    page.get_by_label("Staff token").fill(read_token(tandem.settings.tokens_file, "staff"))
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Dispatch")).to_be_visible()
    for trip in trips:
        expect(page.locator(f"a[href='/trips/{trip}']")).to_be_visible()
    promises = [row.split(" ")[0] for row in page.locator("tbody td:first-child").all_inner_texts()]
    assert promises == sorted(promises)
    reported(tandem, trips[0], "delivered")
    expect(page.locator(f"a[href='/trips/{trips[0]}']")).to_have_count(0, timeout=15_000)  # it renews itself


@pytest.fixture
def board(browser: Browser, tandem: Tandem) -> Iterator[Page]:
    """The dispatcher's page, on a phone, with trips under way."""
    for _ in range(3):
        booked(tandem)
    context = browser.new_context(viewport=PHONE, base_url=url(tandem))
    page = context.new_page()
    page.goto("/dispatch")
    page.get_by_label("Staff token").fill(read_token(tandem.settings.tokens_file, "staff"))
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Dispatch")).to_be_visible()
    yield page
    context.close()


def renewed(page: Page) -> None:
    """Wait until the page has taken what it asked for anew."""
    said = page.locator("h1").inner_text()
    expect(page.locator("h1")).not_to_have_text(said, timeout=10_000)


def test_the_board_renews_itself_under_a_dispatchers_hands(board, tandem):
    links = board.locator("tbody a")
    first, second = (links.nth(place).get_attribute("href") for place in (0, 1))
    links.nth(1).focus()
    table = board.get_by_role("region", name="Trips under way")
    table.evaluate("it => it.scrollLeft = 200")
    scrolled = table.evaluate("it => it.scrollLeft")
    assert scrolled > 0

    reported(tandem, first.removeprefix("/trips/"), "delivered")
    expect(board.locator(f"a[href='{first}']")).to_have_count(0, timeout=10_000)
    renewed(board)
    assert board.evaluate("document.activeElement.getAttribute('href')") == second
    assert table.evaluate("it => it.scrollLeft") == scrolled


def test_the_board_stays_while_we_cannot_renew_it(board):
    notice = "<main><div role='alert'>That did not work</div></main>"
    board.route("**/dispatch", lambda route: route.fulfill(status=503, body=notice, content_type="text/html"))
    board.wait_for_event("response", lambda got: got.status == 503)
    board.wait_for_event("response", lambda got: got.status == 503)
    expect(board.get_by_role("heading", name="Dispatch")).to_be_visible()
    board.unroute("**/dispatch")
    renewed(board)


def test_a_dispatcher_whose_token_went_is_asked_for_it(board):
    board.context.clear_cookies()
    expect(board.get_by_label("Staff token")).to_be_visible(timeout=10_000)
    expect(board.get_by_role("link", name="Send a parcel")).to_be_visible()


def test_a_trip_says_since_when_nobody_answers_and_until_then_shows_what_was_known(page, tandem):
    page.goto(f"/trips/{booked(tandem)}")
    said = page.get_by_role("status")
    expect(said).to_have_text("")
    page.context.set_offline(True)
    expect(said).to_have_text(re.compile(r"No answer since \d\d:\d\d:\d\d on your clock; trying again"))
    expect(said).to_be_in_viewport()
    assert faults(page) == []
    expect(page.locator(".steps .done")).to_have_count(1)
    page.context.set_offline(False)
    expect(said).to_have_text("")


def test_a_server_that_hangs_or_is_out_of_order_is_said_not_to_answer(page, tandem):
    page.clock.install()
    page.goto(f"/trips/{booked(tandem)}")
    said = page.get_by_role("status")
    page.route("**/trips/*", lambda _route: None)
    with page.expect_request("**/trips/*"):
        page.clock.run_for(2_100)
    expect(said).to_have_text("")
    page.clock.run_for(20_000)
    expect(said).to_contain_text("No answer since")
    page.unroute("**/trips/*")
    page.clock.run_for(2_100)
    expect(said).to_have_text("")
    page.route("**/trips/*", lambda route: route.fulfill(status=503, body="<p>fault</p>", content_type="text/html"))
    page.clock.run_for(2_100)
    expect(said).to_contain_text("No answer since")
    expect(page.locator(".steps .done")).to_have_count(1)


def test_a_form_that_nobody_answers_says_so_and_can_be_sent_again(page):
    page.goto("/")
    page.get_by_label("Pick up in").select_option("101")
    page.get_by_label("Bring to").select_option("102")
    page.context.set_offline(True)
    page.get_by_role("button", name="Show price and time").click()
    expect(page.get_by_role("status")).to_have_text("No answer. Please try again in a moment.")
    page.context.set_offline(False)
    page.get_by_role("button", name="Show price and time").click()
    expect(page.locator(".offer")).to_be_visible()
    expect(page.get_by_role("status")).to_have_text("")


def test_a_listener_is_told_what_happens_to_the_parcel_and_not_what_time_it_is(page, tandem):
    trip = booked(tandem)
    page.goto(f"/trips/{trip}")
    heading = page.get_by_role("heading", level=1)
    expect(heading).to_have_text("Running late", timeout=10_000)  # from here on only the time moves
    page.evaluate("""() => {
        window.told = [];
        const listen = new MutationObserver(() => window.told.push(document.querySelector("h1").innerText));
        const live = document.querySelectorAll("[aria-live]");
        live.forEach((part) => listen.observe(part, { subtree: true, childList: true, characterData: true }));
    }""")
    city = page.get_by_text("in the city")
    for _ in range(2):
        expect(city).not_to_have_text(city.inner_text(), timeout=10_000)
    assert page.evaluate("window.told") == []
    expect(page.locator("[aria-live]").filter(has=heading)).to_have_count(1)


@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_the_accessibility_checker_finds_nothing(browser, tandem, size):
    context = browser.new_context(viewport=size, base_url=url(tandem))
    page = context.new_page()
    for path in ("/", f"/trips/{booked(tandem)}", f"/trips/{tandem.quote().trip_id}", "/trips/no-such-trip"):
        page.goto(path)
        assert faults(page) == [], path
    page.goto("/dispatch")
    assert faults(page) == []
    page.get_by_label("Staff token").fill(read_token(tandem.settings.tokens_file, "staff"))
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Dispatch")).to_be_visible()
    assert faults(page) == []
    context.close()


@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_pages_fit_the_screen_and_ask_nobody_else(browser, tandem, size):
    context = browser.new_context(viewport=size, base_url=url(tandem))
    page, asked, said = context.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    for path in ("/", f"/trips/{booked(tandem)}", f"/trips/{tandem.quote().trip_id}"):
        page.goto(path)
        expect(page.locator("h1")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"], path
    assert said == []
    page.goto("/dispatch")
    page.goto("/trips/no-such-trip")
    expect(page.get_by_role("alert")).to_contain_text("no-such-trip")
    assert len(asked) > 10
    assert [one for one in asked if not one.startswith(url(tandem))] == []
    context.close()


def test_the_starting_page_gives_way_when_the_city_comes(browser, tmp_path):
    with ExitStack() as entered:
        tandem = a_tandem(tmp_path, entered, knows=False)
        page = browser.new_page(base_url=url(tandem))
        page.goto("/")
        expect(page.get_by_role("alert")).to_contain_text("just starting")
        tandem.city.publish(a_map())
        expect(page.get_by_label("Pick up in")).to_be_visible(timeout=15_000)
        page.close()


def test_a_late_parcel_is_owned_up_to(browser, tmp_path):
    with ExitStack() as entered:
        tandem = a_tandem(tmp_path, entered)
        trip = tandem.quote().trip_id
        promised = datetime.fromisoformat(tandem.book(trip).json()["promised_by"])
        page = browser.new_page(base_url=url(tandem))
        page.goto(f"/trips/{trip}")
        eventually(lambda: tandem.clock.now() > promised, "the promise has passed")
        expect(page.get_by_role("heading")).to_have_text("Running late")
        reported(tandem, trip, "delivered")
        expect(page.get_by_text("goes back to you")).to_be_visible()
        page.close()
