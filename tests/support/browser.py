"""A real Chromium, driven over the DevTools protocol through a pair of pipes.

No package for it: the protocol is JSON with a NUL after each message. Waiting is always for an
event or an answer, with one deadline for a stuck browser, never for a time to pass.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
PATIENCE_S = 60.0
# The browser reads file descriptor 3 and writes 4; we cannot choose which numbers we get.
LAUNCH = (
    "import os, sys; r, w = int(sys.argv[1]), int(sys.argv[2]); r, w = os.dup(r), os.dup(w);"
    "r, w = [fd if fd > 4 else os.dup(os.dup(os.dup(fd))) for fd in (r, w)];"
    "os.dup2(r, 3); os.dup2(w, 4); os.execvp(sys.argv[3], sys.argv[3:])"
)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
]


class BrowserError(AssertionError):
    pass


class Browser:
    """A started Chromium with a profile of its own; use it as a context."""

    def __init__(self) -> None:
        program = next((found for name in NAMES if (found := shutil.which(name))), None)
        if program is None:
            raise BrowserError(
                "No Chromium is installed, and these claims are about a real browser: run "
                "`make test-browser`, which installs it."
            )
        self._profile = tempfile.mkdtemp(prefix="neuralake-browser-")
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        command = [program, *FLAGS, f"--user-data-dir={self._profile}"]
        self._process = subprocess.Popen(
            [sys.executable, "-c", LAUNCH, str(theirs_in), str(theirs_out), *command],
            pass_fds=[theirs_in, theirs_out],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._buffer = b""
        self._number = 0
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.call("Browser.close")
        except BrowserError:
            self._process.kill()
        self._process.wait(PATIENCE_S)
        os.close(self._in)
        os.close(self._out)
        shutil.rmtree(self._profile, ignore_errors=True)

    def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """Send one command and return its answer; events that come first are kept."""
        self._number += 1
        number = self._number
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            found = self._receive(method)
            if found.get("id") == number:
                if "error" in found:
                    raise BrowserError(f"{method}: {found['error']}")
                result: dict[str, Any] = found["result"]
                return result
            self.events.append(found)

    def wait(self, is_wanted: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
        """The first event, kept or coming, that `is_wanted`; it is taken out of the list."""
        for event in self.events:
            if is_wanted(event):
                self.events.remove(event)
                return event
        while True:
            event = self._receive(what)
            if is_wanted(event):
                return event
            self.events.append(event)

    def page(self, *, width: int = 1280, height: int = 900) -> Page:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        return Page(self, session, target, width, height)

    def _receive(self, what: str) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], PATIENCE_S)
            part = os.read(self._in, 1 << 16) if ready else b""
            if not part:
                raise BrowserError(f"The browser {'closed' if ready else 'is stuck'} at {what}.")
            self._buffer += part
        text, _, self._buffer = self._buffer.partition(b"\0")
        found: dict[str, Any] = json.loads(text)
        return found


class Page:
    """One tab, which writes down its requests, its console and its policy violations."""

    def __init__(
        self, browser: Browser, session: str, target: str, width: int, height: int
    ) -> None:
        self._browser, self._session, self._target = browser, session, target
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.resize(width, height)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        return self._browser.call(method, self._session, **params)

    def close(self) -> None:
        self._browser.call("Target.closeTarget", targetId=self._target)

    def resize(self, width: int, height: int) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )

    def dark(self, is_dark: bool) -> None:
        """What the system prefers."""
        value = "dark" if is_dark else "light"
        self.call(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": value}],
        )

    def open(self, url: str) -> None:
        self.forget()
        # A new fragment alone would load nothing, and no load event would come.
        self.call("Page.navigate", url="about:blank")
        self._loaded()
        self.call("Page.navigate", url=url)
        self._loaded()

    def does(self, act: Callable[[], None]) -> None:
        """`act`, and then wait for the page that it opens."""
        self.forget()
        act()
        self._loaded()

    def forget(self) -> None:
        self._browser.events = [e for e in self._browser.events if not self._is_mine(e)]

    def run(self, script: str) -> Any:
        """The value of `script`, a JavaScript expression; promises are awaited."""
        found = self.call(
            "Runtime.evaluate",
            expression=script,
            returnByValue=True,
            awaitPromise=True,
            userGesture=True,
        )
        if "exceptionDetails" in found:
            raise BrowserError(f"{script}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def type(self, text: str) -> None:
        self.call("Input.insertText", text=text)

    def press(self, key: str, *, modifiers: int = 0) -> None:
        codes = {"Enter": 13, "Tab": 9, "Escape": 27, "ArrowUp": 38, "ArrowDown": 40, "/": 191}
        codes |= {"ArrowRight": 39, "ArrowLeft": 37, "End": 35, "Home": 36, "k": 75}
        values: dict[str, Any] = {"key": key, "windowsVirtualKeyCode": codes[key]}
        text = {"Enter": "\r", "/": "/"}.get(key)
        down = {**values, "modifiers": modifiers} | ({"text": text} if text else {})
        self.call("Input.dispatchKeyEvent", type="keyDown", **down)
        self.call("Input.dispatchKeyEvent", type="keyUp", modifiers=modifiers, **values)

    def click(self, selector: str) -> None:
        """A real click in the middle of the element."""
        box = self.run(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'center'}); const b = e.getBoundingClientRect();"
            "return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        at = {"x": box[0], "y": box[1], "button": "left", "clickCount": 1}
        self.call("Input.dispatchMouseEvent", type="mousePressed", **at)
        self.call("Input.dispatchMouseEvent", type="mouseReleased", **at)

    @property
    def path(self) -> str:
        found: str = self.run("location.pathname")
        return found

    def requests(self) -> list[str]:
        """Addresses asked for since the last `open`, in order."""
        return [
            event["params"]["request"]["url"]
            for event in self._browser.events
            if self._is_mine(event) and event["method"] == "Network.requestWillBeSent"
        ]

    def complaints(self) -> list[str]:
        """Errors and warnings of the console: exceptions, missing files, policy violations."""
        self.run("0")  # What was reported before this answer has arrived with it.
        found = []
        for event in self._browser.events:
            if not self._is_mine(event):
                continue
            if event["method"] == "Runtime.exceptionThrown":
                found.append(json.dumps(event["params"]["exceptionDetails"]))
            elif event["method"] == "Log.entryAdded":
                entry = event["params"]["entry"]
                if entry["level"] in ("error", "warning"):
                    found.append(f"{entry['text']} {entry.get('url', '')}")
        return found

    def _is_mine(self, event: dict[str, Any]) -> bool:
        return event.get("sessionId") == self._session

    def _loaded(self) -> None:
        self._browser.wait(
            lambda e: self._is_mine(e) and e["method"] == "Page.loadEventFired", "loading"
        )
