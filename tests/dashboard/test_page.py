"""The dashboard's page in a real Chromium, with a real daemon behind it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Generator

import httpx
import pytest

from duckservice.cli.text import size
from tests.dashboard.page_stage import (
    Page,
    Stage,
    needs_chromium,
    open_page,
    open_stage,
)

pytestmark = [pytest.mark.slow, needs_chromium]

HOSTILE = (
    '<script>window.hacked=true</script><img src=x onerror="window.hacked=true">'
    "'\" \u202etxet desrever\u202c </script><b>bold</b> javascript:alert(1) \x1b[31m"
)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Generator[Stage]:
    with open_stage(tmp_path_factory.mktemp("stage")) as stage:
        stage.start_dashboard()
        yield stage


@pytest.fixture(scope="module")
def browser(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Generator[Page]:
    with open_page(tmp_path_factory.mktemp("page")) as page:
        page.open(stage.url)
        yield page


@pytest.fixture
def page(browser: Page) -> Generator[Page]:
    """The page as one finds it, and without a complaint at the end."""
    # `#` alone would not load it again.
    browser.open(browser.driver.current_url.split("#")[0])
    yield browser
    assert browser.complaints() == []
    assert browser.script("return window.hacked ?? null") is None


def job_row(job: str) -> str:
    return f'#jobs tr[data-job="{job}"]'


def provider_row(name: str) -> str:
    return f'#providers tbody[data-provider="{name}"]'


def tree_row(path: str) -> str:
    return f'#tree tr[data-path="{path}"]'


# What it shows.


def test_the_address_lets_in_once(page: Page, stage: Stage) -> None:
    assert "token" not in page.driver.current_url
    again = httpx.get(stage.url, follow_redirects=True)
    assert again.status_code == 403
    assert "duck dashboard" in again.text
    assert "set-cookie" not in again.headers


def test_tiles_and_charts_show_what_really_happens(page: Page, stage: Stage) -> None:
    for _ in range(6):
        assert stage.ask("good-1") == 200
    assert stage.ask("bad-tile") == 502

    def number(tile: str) -> float:
        shown = re.sub(r"[^\d.]", "", page.text(f"#tile-{tile} .tile-value"))
        return float(shown or 0)  # a dash: nothing is known yet

    page.wait(lambda: number("rate") > 0, "requests a minute")
    page.wait(lambda: number("failures") > 0, "failures a minute")
    page.wait(lambda: "s" in page.text("#tile-p50 .tile-value"), "a latency")
    # 15 tokens at 1,000 USD a million, each time.
    page.wait(lambda: number("spend") >= 0.09, "the spend of today")
    assert page.text("#tile-store .tile-value") == "ok"
    # Points of --chart-1 of the light page: the bars of what was answered.
    blue = (
        "const its = document.querySelector('#chart-throughput canvas');"
        "const {data} = its.getContext('2d').getImageData(0, 0, its.width, its.height);"
        "let count = 0;"
        "for (let i = 0; i < data.length; i += 4)"
        " count += data[i] === 47 && data[i + 1] === 111 && data[i + 2] === 214;"
        "return count"
    )
    page.wait(lambda: page.script(blue) > 50, "bars in the chart")
    page.wait(lambda: "s" in page.text("#chart-latency .legend b"), "its legend")


WATCH = """
window.titles = [];
new MutationObserver(() => window.titles.push(document.title)).observe(
  document, {subtree: true, childList: true, characterData: true});
window.labels = {};
const its = CanvasRenderingContext2D.prototype;
const fillText = its.fillText;
its.fillText = function (text, x, ...rest) {
  const right = this.textAlign === "center" ? x + this.measureText(text).width / 2 : x;
  const chart = this.canvas.closest("figure").id;
  (window.labels[chart] ??= []).push({ text, x, room: this.canvas.width - right });
  return fillText.call(this, text, x, ...rest);
};
"""


def test_the_page_does_not_begin_lost_and_charts_have_clean_labels(page: Page) -> None:
    watch = {"source": WATCH}
    command = "Page.addScriptToEvaluateOnNewDocument"
    added = page.driver.execute_cdp_cmd(command, watch)
    try:
        page.driver.refresh()
        page.wait_live()
        page.wait(lambda: page.script("return window.labels['chart-load']"), "labels")
        labels = page.script("return window.labels")
        titles = page.script("return window.titles")
    finally:
        page.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)
    assert "duck" in titles
    assert not [title for title in titles if "lost" in title]
    assert [its for chart in labels.values() for its in chart if its["room"] < 0] == []
    drawn = labels["chart-load"][::-1]
    # The labels of the upright axis, of the last time, have one place.
    upright = itertools.takewhile(lambda its: its["x"] == drawn[0]["x"], drawn)
    texts = [its["text"] for its in upright]
    assert all(text.isdecimal() for text in texts)
    # Each is there once a drawing; a drawing ends with the highest.
    last = texts[: texts.index("0") + 1]
    assert len(last) >= 2
    assert len(set(last)) == len(last)


def test_the_store_is_as_large_as_the_cli_says(page: Page, stage: Stage) -> None:
    def both_agree() -> bool:
        store = stage.get("/v1/status")["store"]
        assert store["used_bytes"] != store["bytes"]
        said = size(store["used_bytes"])
        return said in page.text("#tile-store .tile-below").replace("\u202f", " ")

    page.wait(both_agree, "the same figure")


def test_providers_show_limits_and_figures(page: Page, stage: Stage) -> None:
    assert stage.ask("good-1") == 200
    row = provider_row("good")
    page.wait(lambda: "/ 1K requests" in page.text(row), "the limit")
    page.wait(lambda: page.text(f'{row} [data-label="p50"]').endswith("ms"), "latency")
    assert "closed" in page.text(row)
    page.find(f"{row} .fold").click()
    page.wait(lambda: "good-1" in page.text(f"{row} .models"), "figures by model")


def test_a_limit_of_each_key_has_a_bar_at_its_key_and_counts_for_all(
    page: Page, stage: Stage
) -> None:
    assert stage.ask("keyed-1") == 200
    assert stage.ask("single-1") == 200
    keyed, single = provider_row("keyed"), provider_row("single")

    def used(css: str) -> list[str]:
        texts = (its.text for its in page.all(f"{css} .meter > span:last-child"))
        return [text.replace("\u202f", " ") for text in texts]

    keys, limits = f'{keyed} [data-label="Keys"]', f'{keyed} [data-label="Limits"]'
    page.wait(lambda: used(limits)[0] == "1 / 80 requests", "of both keys together")
    assert sorted(used(keys)[::2]) == ["0 / 40 req", "1 / 40 req"]
    assert min(used(keys)[1::2]) == "0 / 20K tok"
    assert used(limits)[1].endswith(" / 40K tokens")
    bars = page.all(f"{keys} .bar")
    assert "requests used of the limit of key …0001 of keyed" in {
        bar.get_attribute("aria-label") for bar in bars
    }
    page.wait(
        lambda: used(f'{single} [data-label="Limits"]') == ["1 / 30 requests"],
        "an only key's limit is its provider's",
    )


def test_an_open_breaker_is_seen_and_can_be_reset(page: Page, stage: Stage) -> None:
    for _ in range(2):
        stage.ask("bad-1")
    row = provider_row("shaky")
    page.wait(lambda: "open" in page.text(f'{row} [data-label="Breaker"]'), "open")
    page.press(row, "Reset")
    page.notice("shaky: the breaker is closed")
    page.wait(lambda: "closed" in page.text(f'{row} [data-label="Breaker"]'), "closed")


def test_a_provider_is_taken_out_and_back(page: Page, stage: Stage) -> None:
    row = provider_row("shaky")
    page.press(row, "Disable")
    page.answer("Disable")
    page.wait(lambda: "disabled" in page.text(row), "disabled")
    its = {each["name"]: each for each in stage.get("/v1/providers")["providers"]}
    assert not its["shaky"]["enabled"]
    page.press(row, "Enable")
    page.wait(lambda: "disabled" not in page.text(row), "enabled")


def test_a_notice_lets_clicks_through(page: Page) -> None:
    page.press(provider_row("good"), "Check")
    page.notice("good answers, in")
    under = (
        "const {x, y, width, height} = arguments[0].getBoundingClientRect();"
        "const its = document.elementFromPoint(x + width / 2, y + height / 2);"
        "return its.closest('.notices') === null"
    )
    assert page.script(under, page.find(".notice"))


def test_what_is_left_alone_stays(page: Page, stage: Stage) -> None:
    page.press(provider_row("good"), "Disable")
    page.answer("Leave it")
    its = {each["name"]: each for each in stage.get("/v1/providers")["providers"]}
    assert its["good"]["enabled"]


def test_a_check_says_what_the_provider_said(page: Page) -> None:
    page.press(provider_row("good"), "Check")
    page.notice("good answers, in")


def test_the_queue_is_paused_and_goes_on(page: Page, stage: Stage) -> None:
    page.press("#queue", "Pause")
    page.answer("Pause")
    page.wait(lambda: "paused" in page.text("#queue .panel-head"), "paused")
    assert stage.get("/v1/queue")["paused"]
    page.press("#queue", "Resume")
    page.wait(lambda: "running" in page.text("#queue .panel-head"), "running")


def test_a_restart_shows_in_the_tree_and_in_the_events(page: Page) -> None:
    row = tree_row("providers/good/rate_limiter")
    before = int(page.text(f"{row} td:nth-of-type(2)").removeprefix("↻ "))
    page.press(row, "Restart")
    page.answer("Restart")
    page.notice("providers/good/rate_limiter was crashed")
    page.wait(lambda: f"↻ {before + 1}" in page.text(row), "a restart more")
    page.wait(lambda: "RestartRequested" in page.text(row), "its last crash")
    page.wait(lambda: "rate_limiter" in page.text("#events .news"), "the event")


def test_the_tree_folds_and_is_searched(page: Page) -> None:
    row = tree_row("providers/good/rate_limiter")
    page.find(f"{tree_row('providers')} .fold").click()
    page.wait(lambda: not page.all(row), "folded")
    page.find("#tree input").send_keys("good/rate")
    page.wait(lambda: len(page.all("#tree tbody tr")) == 1 and page.all(row), "found")


def test_budgets_show_what_is_spent(page: Page, stage: Stage) -> None:
    stage.ask("good-1")
    page.wait(lambda: "of $50.00" in page.text("#budgets"), "the limit")
    assert page.all('#budgets [role="meter"]')


# Jobs.


def test_a_job_is_cancelled_and_tried_again_by_clicks(page: Page, stage: Stage) -> None:
    job = stage.submit("good-1", hold=True)
    page.wait(lambda: "suspended" in page.text(job_row(job)), "a job that is held")
    assert "held" in page.text(job_row(job))
    page.press(job_row(job), "Cancel")
    page.answer("Cancel")
    page.wait(lambda: "cancelled" in page.text(job_row(job)), "cancelled")
    page.press(job_row(job), "Retry")
    page.wait(lambda: "completed" in page.text(job_row(job)), "completed")
    assert stage.get(f"/v1/jobs/{job}")["state"] == "completed"


def test_a_job_is_held_and_released_at_its_own_address(
    page: Page, stage: Stage
) -> None:
    job = stage.submit("good-1", not_before=3600)
    page.wait(lambda: "not before, in" in page.text(job_row(job)), "why it waits")
    page.find(f"{job_row(job)} a").click()
    page.wait(lambda: f"#/jobs/{job}" in page.driver.current_url, "its own address")
    page.wait(lambda: "not to begin before" in page.text(".waits"), "why it waits")
    assert "until" in page.text(".waits")
    page.press("#job", "Hold")
    page.wait(lambda: "held until somebody" in page.text(".waits"), "held")
    page.press("#job", "Release")
    page.wait(lambda: "scheduled" in page.text("#job .panel-head"), "released")


def test_a_job_shows_its_attempts_and_its_result(page: Page, stage: Stage) -> None:
    job = stage.submit("good-1", hold=True)
    page.go(f"#/jobs/{job}")
    page.press("#job", "Release")
    page.wait(lambda: "completed" in page.text("#job .panel-head"), "completed")
    page.wait(lambda: "Attempt 1" in page.text(".timeline"), "its attempt")
    page.wait(lambda: "You said: quack?" in page.text("#result"), "its result")


def test_a_failed_job_shows_its_errors(page: Page, stage: Stage) -> None:
    stage.post("/v1/providers/shaky/reset")
    job = stage.submit("bad-1", max_attempts=1)
    page.go(f"#/jobs/{job}")
    page.wait(lambda: "discarded" in page.text("#job .panel-head"), "the end")
    assert "failed" in page.text("#job .panel-head")
    page.wait(lambda: "provider_error" in page.text(".errors"), "the error")
    page.wait(lambda: "provider error" in page.text(".timeline"), "the attempt")


def test_a_job_that_there_is_not_is_said_so(page: Page) -> None:
    page.go("#/jobs/job_none%2F..%2Fstatus")
    page.wait(lambda: "Not loaded" in page.text("#job"), "that there is none")
    assert "Loading" not in page.body
    assert not page.all("#request, #result")
    # The browser tells of each of the three requests, too: that is as it should be.
    said: list[str] = []

    def all_said() -> bool:
        said.extend(page.complaints())
        return len(said) == 3

    page.wait(all_said, "three complaints")
    assert all("404" in one for one in said)


def test_hostile_text_stays_text(page: Page, stage: Stage) -> None:
    tags = {"note": "<img src=x onerror=window.hacked=true>", "url": "javascript:1"}
    job = stage.submit("good-1", HOSTILE, tags=tags)
    page.wait(lambda: "<img src=x" in page.text(job_row(job)), "the tag")
    page.go(f"#/jobs/{job}")
    for part in ("#request", "#result"):
        page.wait(lambda part=part: "</script>" in page.text(part), part)
        shown = page.text(part)
        assert "<script>window.hacked=true</script><img src=x onerror=" in shown
        assert "U+202E" in shown
        assert "U+001B" in shown
        assert "\u202e" not in page.script(
            "return document.querySelector(arguments[0]).textContent", part
        )
    assert page.all("main script, main b b, main .words b, main img") == []
    page.go("#/")
    page.wait(lambda: page.all("#jobs"), "the overview")


def test_jobs_are_filtered(page: Page, stage: Stage) -> None:
    mine = stage.submit("good-filter", tags={"team": "filter"}, hold=True)
    other = stage.submit("good-other", tags={"team": "other"})
    ids = "return [...document.querySelectorAll('#jobs tr[data-job]')].map((row) => row.dataset.job)"

    def shows_mine_only() -> bool:
        shown = page.script(ids)
        return mine in shown and other not in shown

    page.wait(lambda: {mine, other} <= set(page.script(ids)), "both")
    for css, keys in (
        ('#jobs input[aria-label="model"]', "good-filter"),
        ('#jobs input[aria-label="tag"]', "team=filter"),
        ('#jobs select[aria-label="state"]', "suspended"),
    ):
        page.find(css).send_keys(keys)
        page.wait(shows_mine_only, f"only mine, by {keys}")
        page.press("#jobs", "Clear")
        page.wait(lambda: other in page.script(ids), "both again")
    page.find('#jobs input[aria-label="model"]').send_keys("none-such")
    page.wait(lambda: "No job is like that" in page.text("#jobs"), "the empty list")


def test_jobs_are_turned_page_by_page(page: Page, stage: Stage) -> None:
    ours = [stage.submit("good-page", hold=True) for _ in range(25)]
    page.find('#jobs input[aria-label="model"]').send_keys("good-page")
    ids = "return [...document.querySelectorAll('#jobs tr[data-job]')].map((row) => row.dataset.job)"
    newest = ours[:4:-1]
    page.wait(lambda: page.script(ids) == newest, "the newest twenty")
    page.press("#jobs", "Older →")
    page.wait(lambda: page.script(ids) == ours[4::-1], "the other five")
    page.press("#jobs", "← Newer")
    page.wait(lambda: page.script(ids) == newest, "the newest again")


# Events.


def test_events_are_chosen_and_stopped(page: Page, stage: Stage) -> None:
    stage.ask("good-tail")
    page.wait(lambda: "good-tail" in page.text("#events .news"), "the request")
    assert "request.start" not in page.text("#events .news")
    page.press("#events", "Starts")
    page.wait(lambda: "request.start" in page.text("#events .news"), "its start")
    page.press("#events", "Pause")
    stage.ask("good-unseen")
    page.wait(lambda: re.search(r"Resume \([1-9]", page.text("#events")), "how many")
    assert "good-unseen" not in page.text("#events .news")
    resume = page.find("#events .panel-head > button")
    resume.click()
    page.wait(lambda: "good-unseen" in page.text("#events .news"), "the rest")


# How it is to use.


def test_it_is_dark_or_light_as_the_system_says_or_the_user_chose(page: Page) -> None:
    ground = "return getComputedStyle(document.body).backgroundColor"

    def system(scheme: str) -> None:
        feature = {"name": "prefers-color-scheme", "value": scheme}
        page.emulate("setEmulatedMedia", features=[feature])

    dark, light = "rgb(15, 20, 27)", "rgb(244, 245, 247)"
    system("dark")
    assert page.script(ground) == dark
    system("light")
    assert page.script(ground) == light
    for _ in range(2):  # light, then dark
        page.find("button.theme").click()
    page.wait(lambda: page.script(ground) == dark, "dark")
    page.driver.refresh()
    page.wait_live()
    assert page.script(ground) == dark
    page.find("button.theme").click()
    page.wait(lambda: page.script(ground) == light, "as the system says")


@pytest.mark.parametrize("width", [360, 720, 900, 1024, 1200, 1280, 1440])
def test_nothing_is_cut_or_hidden_behind_a_scrollbar(page: Page, width: int) -> None:
    page.emulate(
        "setDeviceMetricsOverride",
        width=width,
        height=900,
        deviceScaleFactor=1,
        mobile=width < 500,
    )
    cut = (
        "const all = '.tile-value, .tile-below, .branch, #tree .scroll, #tree th,"
        " #tree td, #providers .scroll';"
        "return [...document.querySelectorAll(all)].filter((its) => its.offsetParent"
        " && (its.scrollWidth > its.clientWidth + 1"
        " || its.matches('.tile *') && its.scrollHeight > its.clientHeight + 1))"
        ".map((its) => `${its.className}: ${its.textContent.slice(0, 60)}`)"
    )
    try:
        page.wait(lambda: page.all("#tree tbody tr"), "the tree")
        assert page.script(cut) == []
        state = page.find(f"{tree_row('providers/good/rate_limiter')} .state")
        assert state.text.endswith("running")
    finally:
        page.emulate("clearDeviceMetricsOverride")


@pytest.mark.parametrize("width", [360, 768, 1280, 2560])
def test_nothing_sticks_out_at_any_width(page: Page, stage: Stage, width: int) -> None:
    job = stage.submit("good-" + "wide" * 40, "w" * 4000, tags={"k" * 60: "v" * 200})
    page.emulate(
        "setDeviceMetricsOverride",
        width=width,
        height=900,
        deviceScaleFactor=1,
        mobile=width < 500,
    )
    sticks_out = (
        "const its = document.documentElement; return its.scrollWidth - its.clientWidth"
    )
    try:
        page.wait(lambda: page.all(job_row(job)), "the job")
        assert page.script(sticks_out) <= 0
        page.go(f"#/jobs/{job}")
        page.wait(lambda: "wwww" in page.text("#request"), "the request")
        assert page.script(sticks_out) <= 0
        page.go("#/")
    finally:
        page.emulate("clearDeviceMetricsOverride")


def test_everything_is_reached_by_the_keyboard(page: Page, stage: Stage) -> None:
    stage.submit("good-keyboard", hold=True)
    page.wait(lambda: "good-keyboard" in page.text("#jobs"), "a job")
    unreachable = page.script(
        "return [...document.querySelectorAll('[onclick], a, button, input, select, summary')]"
        ".filter((its) => its.tabIndex < 0 || (its.tagName === 'A' && !its.hasAttribute('href')))"
        ".map((its) => its.outerHTML)"
    )
    assert unreachable == []
    nameless = page.script(
        "return [...document.querySelectorAll('button, input, select')]"
        ".filter((its) => !(its.getAttribute('aria-label') || its.textContent.trim()))"
        ".map((its) => its.outerHTML)"
    )
    assert nameless == []


def test_a_job_is_cancelled_without_a_mouse(page: Page, stage: Stage) -> None:
    job = stage.submit("good-1", hold=True)
    page.wait(lambda: page.all(job_row(job)), "the job")
    page.script(
        "document.querySelector(arguments[0]).focus()",
        f'button[aria-label="cancel {job}"]',
    )
    page.driver.switch_to.active_element.send_keys("\ue007")  # Enter
    page.wait(lambda: page.all("dialog[open]"), "the question")
    # The harmless answer has the focus; Escape would be one, too.
    assert page.driver.switch_to.active_element.text == "Leave it"
    page.driver.switch_to.active_element.send_keys("\ue004")  # Tab
    outline = page.script(
        "return getComputedStyle(document.activeElement).outlineStyle"
    )
    assert outline == "solid"
    page.driver.switch_to.active_element.send_keys("\ue007")
    page.wait(lambda: "cancelled" in page.text(job_row(job)), "cancelled")


def test_nothing_moves_when_figures_come(page: Page, stage: Stage) -> None:
    page.script(
        "window.shifts = 0; window.snapshots = 0;"
        "new PerformanceObserver((list) => list.getEntries().forEach((its) => {"
        " if (!its.hadRecentInput) window.shifts += its.value; }))"
        ".observe({type: 'layout-shift'});"
        "new EventSource('/stream').addEventListener('snapshot', () => window.snapshots++);"
    )
    for _ in range(5):
        stage.ask("good-1")
    page.wait(lambda: page.script("return window.snapshots") >= 4, "four snapshots")
    assert page.script("return window.shifts") < 0.01


def test_a_hidden_page_draws_nothing(page: Page, stage: Stage) -> None:
    hide = (
        "Object.defineProperty(document, 'hidden', {configurable: true, value: %s});"
        "document.dispatchEvent(new Event('visibilitychange'));"
    )
    page.script(
        hide % "true" + "window.changes = 0; window.snapshots = 0;"
        "new EventSource('/stream').addEventListener('snapshot', () => {"
        # What was under way when it was hidden may still come.
        " if (++window.snapshots === 3) new MutationObserver((all) => window.changes +="
        " all.length).observe(document.body, {subtree: true, childList: true,"
        " characterData: true, attributes: true}); });"
    )
    stage.ask("good-hidden")
    page.wait(lambda: page.script("return window.snapshots") >= 6, "six snapshots")
    assert page.script("return window.changes") == 0
    page.script(hide % "false")
    page.wait(lambda: "good-hidden" in page.text("#events .news"), "what it missed")


def test_motion_is_reduced_where_that_is_wished(page: Page) -> None:
    feature = {"name": "prefers-reduced-motion", "value": "reduce"}
    page.emulate("setEmulatedMedia", features=[feature])
    row = tree_row("providers/good/client")
    page.press(row, "Restart")
    page.answer("Restart")
    page.wait(lambda: page.all(f"{row} .flash"), "the restart")
    animation = page.script(
        "return getComputedStyle(document.querySelector(arguments[0])).animationName",
        f"{row} .flash",
    )
    assert animation == "none"
    page.emulate("setEmulatedMedia", features=[])
