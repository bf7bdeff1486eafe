"""A real daemon, real upstreams on loopback, the real dashboard, and a real browser.

Each is a process of its own, but for the upstreams, which are threads here. Nothing
sleeps: each wait is for a line, or for what the page shows.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, cast

import attrs
import httpx
import pytest

selenium = pytest.importorskip(
    "selenium", reason="the page's tests need: pip install 'duckservice[browser]'"
)

from selenium import webdriver  # noqa: E402 - only where it is installed
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.remote.webelement import WebElement  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

PROJECT: Final = Path(__file__).parents[2]
PATIENCE: Final = 30.0
_CHROMIUM: Final = shutil.which("chromium")
_DRIVER: Final = shutil.which("chromedriver")

needs_chromium = pytest.mark.skipif(
    _CHROMIUM is None or _DRIVER is None,
    reason="the page's tests need Chromium: apt-get install chromium chromium-driver",
)

CONFIG: Final = """
[service]
state_dir = "{folder}"

[providers.good]
adapter = "openai-compatible"
base_url = "http://127.0.0.1:{port}/v1"
models = ["good-*"]
limits = {{ requests_per_minute = 1000 }}
price = {{ input = 1000, output = 1000 }}

[providers.shaky]
adapter = "openai-compatible"
base_url = "http://127.0.0.1:{port}/v1"
models = ["bad-*"]
price = {{ input = 1000, output = 1000 }}
breaker = {{ failure_threshold = 2, reset_timeout = "10m" }}

[providers.keyed]
adapter = "openai-compatible"
base_url = "http://127.0.0.1:{port}/v1"
models = ["keyed-*"]
api_keys = ["env:NOT_SET:key-of-the-stage-0001", "env:NOT_SET:key-of-the-stage-0002"]
limits = {{ requests_per_minute = 1000 }}
key_limits = {{ requests_per_minute = 40, tokens_per_minute = 20000 }}
price = {{ input = 1000, output = 1000 }}

[providers.single]
adapter = "openai-compatible"
base_url = "http://127.0.0.1:{port}/v1"
models = ["single-*"]
api_key = "env:NOT_SET:key-of-the-stage-0003"
key_limits = {{ requests_per_minute = 30 }}
price = {{ input = 1000, output = 1000 }}

[retry]
max_attempts = 1

[budgets.daily]
limit_usd = 50.0
"""


class _Handler(BaseHTTPRequestHandler):
    """Answers ``good-*``, fails for ``bad-*``, and keeps ``good-slow`` waiting."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self._answer(200, {"object": "list", "data": []})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        model = body["model"]
        if model.startswith("bad"):
            self._answer(503, {"error": {"message": "<b>overloaded</b>"}})
            return
        if model == "good-slow":
            cast(Upstream, self.server).may_answer.wait(PATIENCE)
        said = body["messages"][-1]["content"]
        message = {"role": "assistant", "content": f"You said: {said}"}
        usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        reply = {"id": "1", "object": "chat.completion", "created": 1, "model": model}
        self._answer(200, {**reply, "choices": [choice], "usage": usage})

    def _answer(self, status: int, body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        # The daemon hangs up on what was cancelled.
        with suppress(OSError):
            self.wfile.write(data)


class Upstream(ThreadingHTTPServer):
    """A provider on loopback."""

    daemon_threads = True

    def __init__(self) -> None:
        self.may_answer = threading.Event()
        super().__init__(("127.0.0.1", 0), _Handler)


@attrs.define
class Stage:
    """The daemon, and the dashboard beside it."""

    folder: Path
    config: Path
    upstream: Upstream
    closing: ExitStack
    daemon: subprocess.Popen[str] | None = None
    dashboard: subprocess.Popen[str] | None = None
    url: str = ""

    @property
    def socket(self) -> Path:
        return self.folder / "duckd.sock"

    def start_daemon(self) -> None:
        """Start it, and wait until it is ready."""
        command = [sys.executable, "-m", "duckservice", "--socket", str(self.socket)]
        self.daemon = self._start([*command, "--config", str(self.config)], "stderr")
        _line_with(self.daemon.stderr, '"daemon.ready"')

    def kill_daemon(self) -> None:
        """Take it away, as a power cut would."""
        assert self.daemon is not None
        self.daemon.send_signal(signal.SIGKILL)
        self.daemon.wait(PATIENCE)

    def start_dashboard(self) -> str:
        """Start ``duck dashboard``, and return the address that it prints."""
        duck = "from duckservice.cli import main; exit(main())"
        options = ["--json", "--socket", str(self.socket), "dashboard"]
        self.dashboard = self._start([sys.executable, "-c", duck, *options], "stdout")
        self.url = json.loads(_line_with(self.dashboard.stdout, "url"))["url"]
        return self.url

    def end_dashboard(self) -> None:
        """End it as Ctrl-C does."""
        assert self.dashboard is not None
        self.dashboard.send_signal(signal.SIGINT)
        self.dashboard.wait(PATIENCE)

    def _start(self, command: list[str], read: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command,
            cwd=PROJECT,
            env={"PATH": os.environ["PATH"], "HOME": str(self.folder)},
            text=True,
            **{"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            | {read: subprocess.PIPE},
        )
        self.closing.callback(_end, process)
        return process

    # What a program would do.

    def ask(self, model: str, prompt: str = "quack?") -> int:
        """Ask through the socket; return the status."""
        answer = self._call("POST", "/v1/chat/completions", _chat(model, prompt))
        return answer.status_code

    def submit(self, model: str, prompt: str = "quack?", **more: Any) -> str:
        """Submit a job, and return its id."""
        body = {"request": _chat(model, prompt), **more}
        answer = self._call("POST", "/v1/jobs", body)
        assert answer.status_code == 202, answer.text
        return answer.json()["id"]

    def get(self, path: str) -> Any:
        """GET what is there."""
        answer = self._call("GET", path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str) -> None:
        """POST to it; it must be done."""
        assert self._call("POST", path).status_code == 200

    def _call(self, method: str, path: str, body: Any = None) -> httpx.Response:
        transport = httpx.HTTPTransport(uds=str(self.socket))
        with httpx.Client(transport=transport, timeout=PATIENCE) as client:
            return client.request(method, f"http://duck{path}", json=body)


def _chat(model: str, prompt: str) -> Any:
    messages = [{"role": "user", "content": prompt}]
    return {"model": model, "max_tokens": 10, "messages": messages}


def _line_with(stream: Any, word: str) -> str:
    """Read until a line holds *word*; the rest is read, and thrown away, in a thread."""
    read = list[str]()
    for line in stream:
        read.append(line)
        if word in line:
            threading.Thread(target=stream.read, daemon=True).start()
            return line
    raise AssertionError(f"it ended without {word}:\n{''.join(read)}")


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait(PATIENCE)
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            with suppress(ValueError):  # the thread that reads may be in it
                stream.close()


@contextmanager
def open_stage(folder: Path) -> Generator[Stage]:
    """Start the upstream and the daemon; what is started on it ends with the block."""
    upstream = Upstream()
    serving = threading.Thread(target=upstream.serve_forever, daemon=True)
    serving.start()
    config = folder / "config.toml"
    port = upstream.server_address[1]
    config.write_text(CONFIG.format(folder=folder / "state", port=port))
    (folder / "state").mkdir(mode=0o700)
    try:
        with ExitStack() as closing:
            stage = Stage(folder, config, upstream, closing)
            stage.start_daemon()
            yield stage
    finally:
        upstream.may_answer.set()
        upstream.shutdown()
        upstream.server_close()


@attrs.define
class Page:
    """The page in a browser, and what a person finds on it."""

    driver: webdriver.Chrome

    def open(self, url: str) -> None:
        """Go there, and wait until the page is live."""
        self.driver.get(url)
        self.wait_live()

    def wait_live(self) -> None:
        """Wait until it shows what the daemon says."""
        self.wait(lambda: self.text("#link").endswith("live"), "live")
        self.wait(lambda: "up" in self.text("header.top .facts"), "the daemon's facts")

    def go(self, hash_: str) -> None:
        """Change what is behind the ``#``."""
        self.driver.execute_script("location.hash = arguments[0]", hash_)

    def wait(self, is_so: Callable[[], Any], what: str) -> Any:
        """Wait until it is so, and return what that was; elements may come and go."""
        ignored = (
            selenium.common.exceptions.StaleElementReferenceException,
            selenium.common.exceptions.NoSuchElementException,
        )
        wait = WebDriverWait(
            self.driver, PATIENCE, poll_frequency=0.05, ignored_exceptions=ignored
        )
        try:
            return wait.until(lambda _: is_so())
        except selenium.common.exceptions.TimeoutException:
            raise AssertionError(f"never {what}; there is:\n{self.body}") from None

    def find(self, css: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, css)

    def all(self, css: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, css)

    def text(self, css: str) -> str:
        """Return the text of what is found first, as it is shown."""
        return self.find(css).text

    def button(self, css: str, label: str) -> WebElement:
        """Return the button of that label in what is found."""
        (found,) = [its for its in self.all(f"{css} button") if its.text == label]
        return found

    def press(self, css: str, label: str) -> None:
        """Press a button, once it is there."""

        def pressed() -> bool:
            button = self.button(css, label)
            self.script("arguments[0].scrollIntoView({block: 'center'})", button)
            button.click()
            return True

        self.wait(
            lambda: any(b.text == label for b in self.all(f"{css} button")), label
        )
        self.wait(pressed, f"pressing {label}")

    def answer(self, label: str) -> None:
        """Answer the question that is open."""
        self.wait(lambda: self.find("dialog[open]").is_displayed(), "a question")
        self.press("dialog[open]", label)
        self.wait(lambda: not self.all("dialog[open]"), "the question is closed")

    def notice(self, words: str) -> None:
        """Wait for a notice that says so."""
        self.wait(lambda: words in self.text(".notices"), words)

    def script(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    @property
    def body(self) -> str:
        return self.text("body")

    def emulate(self, method: str, **parameters: Any) -> None:
        """Call one of the browser's own commands."""
        self.driver.execute_cdp_cmd(f"Emulation.{method}", parameters)

    def complaints(self) -> list[str]:
        """Return what the console and the content policy have to complain about."""
        log = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        said = [its["message"] for its in log if its["level"] == "SEVERE"]
        return said + self.script("return window.violations ?? ['nobody listens']")


_LISTEN: Final = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) =>
  window.violations.push(`${event.violatedDirective}: ${event.blockedURI}`));
window.alert = () => { window.hacked = true; };
"""


@contextmanager
def open_page(folder: Path) -> Generator[Page]:
    """Start a browser that has never been anywhere."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(_CHROMIUM)
    for flag in (
        "headless",
        "no-sandbox",
        "disable-gpu",
        "disable-quic",
        "disable-dev-shm-usage",
        "no-first-run",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        "window-size=1440,1000",
        f"user-data-dir={folder / 'browser'}",
    ):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    # The driver's path is given: selenium is not to look for one, let alone load it.
    driver = webdriver.Chrome(options=options, service=Service(str(_DRIVER)))
    try:
        listen = {"source": _LISTEN}
        driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", listen)
        yield Page(driver)
    finally:
        driver.quit()
