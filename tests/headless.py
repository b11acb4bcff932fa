"""A headless Chromium, asked over its DevTools pipe: what a page looks like and what it does."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "chrome")
PATIENCE = 60  # seconds
OWN = ("file:", "data:", "about:")


def browser() -> str | None:
    """The program, or None where this machine has none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Page:
    """One tab. `requests` and `complaints` (console, exceptions, the log) are of the page that was opened last."""

    def __init__(self, to: int, back: int) -> None:
        self._to, self._back = to, back
        self._buffer = b""
        self._number = 0
        self._session: str | None = None
        self._loaded = False
        self.requests: list[str] = []
        self.complaints: list[str] = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """Send one command and wait for its answer; events on the way are taken note of."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                result: dict[str, Any] = answer["result"]
                return result
            self._note(answer)

    def open(self, path: Path, *, width: int, height: int = 844, scheme: str = "light") -> None:
        """Load a file as a screen of that width and colour scheme shows it."""
        self.requests.clear()
        self.complaints.clear()
        self._loaded = False
        self.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 700
        )
        self.medium("screen", scheme)
        self.ask("Page.navigate", url=path.as_uri())
        while not self._loaded:
            self._note(self._read())

    def medium(self, name: str, scheme: str = "light") -> None:
        self.ask("Emulation.setEmulatedMedia", media=name, features=[{"name": "prefers-color-scheme", "value": scheme}])

    def value(self, expression: str) -> Any:
        """What an expression is in the page."""
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def screenshot(self) -> bytes:
        """What the screen shows, as PNG."""
        return base64.b64decode(self.ask("Page.captureScreenshot", format="png")["data"])

    def _read(self) -> dict[str, Any]:
        until = time.monotonic() + PATIENCE
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._back], [], [], max(0.0, until - time.monotonic()))
            assert ready, "the browser does not answer"
            more = os.read(self._back, 1 << 16)
            assert more, "the browser ended"
            self._buffer += more
        told, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(told)
        return message

    def _note(self, event: dict[str, Any]) -> None:
        params = event.get("params", {})
        match event.get("method"):
            case "Page.loadEventFired":
                self._loaded = True
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
            case "Runtime.consoleAPICalled" | "Runtime.exceptionThrown" | "Log.entryAdded":
                self.complaints.append(json.dumps(params))


@contextmanager
def page(program: str, home: Path) -> Iterator[Page]:
    """A tab of a browser that ends with the block and leaves nothing behind but its profile in `home`."""
    (low_read, to_write), (back_read, low_write) = os.pipe(), os.pipe()
    # The browser reads commands from descriptor 3 and answers on 4: ours must be neither when they become those.
    to_read, back_write = (fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, 10) for low in (low_read, low_write))
    shell = f'exec 3<&{to_read} 4>&{back_write}; exec "$@"'
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe",
               "--no-first-run", "--hide-scrollbars", f"--user-data-dir={home}"]  # fmt: skip
    with (home / "browser.log").open("wb") as log:
        process = subprocess.Popen(
            ["bash", "-c", shell, "bash", program, *options],
            pass_fds=(to_read, back_write), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            env={**os.environ, "HOME": str(home)},
        )  # fmt: skip
    for mine in (low_read, low_write, to_read, back_write):
        os.close(mine)
    try:
        yield Page(to_write, back_read)
    finally:
        os.close(to_write)
        process.terminate()
        process.wait(PATIENCE)
        os.close(back_read)
