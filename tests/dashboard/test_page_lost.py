"""The page when the daemon dies, comes back, or the dashboard itself ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.dashboard.page_stage import needs_chromium, open_page, open_stage

pytestmark = [pytest.mark.slow, needs_chromium]


def test_a_killed_daemon_is_lost_and_found_again(tmp_path: Path) -> None:
    with open_stage(tmp_path) as stage, open_page(tmp_path) as page:
        stage.start_dashboard()
        page.open(stage.url)
        pid = page.text("header.top .facts")
        assert page.text("#lost") == ""
        job = stage.submit("good-1", hold=True)
        page.wait(lambda: page.all(f'tr[data-job="{job}"]'), "the job")

        stage.kill_daemon()
        page.wait(lambda: page.text("#link").endswith("lost"), "that it is lost")
        assert "duckd does not answer" in page.text("#lost")
        assert page.driver.title.startswith("lost")
        # What was last known is still to be read; an action says why it cannot be.
        assert page.all(f'tr[data-job="{job}"]')
        page.press('#providers tbody[data-provider="good"]', "Check")
        page.wait(lambda: "Failed" in page.text(".notices"), "why not")

        stage.start_daemon()
        page.wait_live()
        page.wait(lambda: page.text("#lost") == "", "that it is found")
        page.wait(lambda: page.text("header.top .facts") != pid, "the new pid")
        page.wait(lambda: "held" in page.text(f'tr[data-job="{job}"]'), "the job")
        stage.ask("good-after")
        page.wait(lambda: "good-after" in page.text("#events"), "new events")


def test_an_empty_daemon_says_what_to_do(tmp_path: Path) -> None:
    with open_stage(tmp_path) as stage, open_page(tmp_path) as page:
        stage.start_dashboard()
        page.open(stage.url)
        page.wait(lambda: "duck submit" in page.text("#jobs"), "how to make a job")
        assert "has happened yet" in page.text("#events")
        assert page.complaints() == []
        page.driver.get(stage.url)
        assert "duck dashboard" in page.body
        assert "Queue" not in page.body


def test_an_ended_dashboard_says_so(tmp_path: Path) -> None:
    with open_stage(tmp_path) as stage, open_page(tmp_path) as page:
        stage.start_dashboard()
        page.open(stage.url)
        stage.end_dashboard()
        page.wait(lambda: page.text("#link").endswith("lost"), "that it is lost")
        assert "is duck dashboard still running" in page.text("#lost")
