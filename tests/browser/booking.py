"""A customer with a keyboard and nothing else, and a look at the pages through an accessibility checker."""

from __future__ import annotations

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, TimeoutError

MOST_STEPS = 9
WHOLE = "document.documentElement.outerHTML"
SETTLED = "() => !document.querySelector('.htmx-request, button[disabled]')"


def steps_to_book(page: Page) -> int:
    """Presses of Enter from the first page to a booked trip, by Tab, arrows and Enter alone; `MOST_STEPS` is given up.

    A step is a press of Enter on a button. The customer presses the next button after the one pressed last, as Tab
    finds it.
    """
    page.goto("/")
    choose_places(page)
    for step in range(1, MOST_STEPS):
        if not press_next(page):
            return MOST_STEPS
        if page.get_by_role("heading", name="A courier is coming").count():
            return step
    return MOST_STEPS


def press_next(page: Page) -> bool:
    """Press the next button, as Tab finds it, and wait for what comes; whether anything did."""
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.tagName") == "BUTTON":
            break
    before = page.evaluate(WHOLE)
    page.keyboard.press("Enter")
    try:
        page.wait_for_function(f"before => {WHOLE} !== before", arg=before, timeout=5_000)
        page.wait_for_load_state("networkidle")
        page.wait_for_function(SETTLED, timeout=5_000)
    except TimeoutError:
        return False
    return True


def choose_places(page: Page) -> None:
    """Where from and where to, by arrows; the focus is left on the second."""
    page.locator("select").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")


def faults(page: Page) -> list[str]:
    """What axe finds on the page as it stands, a line each."""
    return [f"{item['id']}: {item['help']}" for item in Axe().run(page).response["violations"]]
