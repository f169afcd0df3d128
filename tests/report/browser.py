"""Chromium without a screen, spoken to over a pipe: what a page asks for, and what it says."""

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run")


class Browser:
    """One page of a browser (https://chromedevtools.github.io/devtools-protocol/).

    Attributes:
      events: (method, parameters) of everything that has happened so far.
    """

    def __init__(self, reader: Any, writer: Any):
        self._reader, self._writer = reader, writer
        self._count, self._session = 0, None
        self.events: list[tuple[str, dict]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Network", "Log", "Runtime", "Page"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict:
        """The result of a command."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._writer.write(json.dumps(message).encode() + b"\0")
        self._writer.flush()
        while True:
            answer = self._read()
            if answer.get("id") == self._count:
                assert "error" not in answer, answer
                return answer["result"]

    def open(self, path: Path) -> None:
        """Load a file, all of it."""
        self.events.clear()
        self.call("Page.navigate", url=path.as_uri())
        while not any(name == "Page.loadEventFired" for name, _ in self.events):
            self._read()

    def value(self, expression: str) -> Any:
        """What an expression gives in the page."""
        return self.call("Runtime.evaluate", expression=expression)["result"].get("value")

    def requests(self) -> list[str]:
        """The addresses that the page has asked for, other than what it holds itself."""
        asked = [found for name, found in self.events if name == "Network.requestWillBeSent"]
        urls = [one["request"]["url"] for one in asked]
        return [url for url in urls if not url.startswith("data:")]

    def complaints(self) -> list[str]:
        """What stands in the console."""
        names = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
        return [json.dumps(found) for name, found in self.events if name in names]

    def _read(self) -> dict:
        message = bytearray()
        while (byte := self._reader.read(1)) != b"\0":
            assert byte, "the browser has gone"
            message += byte
        found = json.loads(message)
        if "method" in found:
            self.events.append((found["method"], found.get("params", {})))
        return found


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """A browser that cannot reach anything but files."""
    assert CHROMIUM is not None
    to_read, to_write = os.pipe(), os.pipe()
    flags = (*FLAGS, "--remote-debugging-pipe", "--host-resolver-rules=MAP * ~NOTFOUND")
    words = shlex.join([CHROMIUM, *flags, f"--user-data-dir={profile}"])
    # It reads from descriptor 3 and writes to 4.
    process = subprocess.Popen(
        ["bash", "-c", f"exec {words} 3<&{to_write[0]} 4>&{to_read[1]}"],
        pass_fds=(to_write[0], to_read[1]),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(to_write[0])
    os.close(to_read[1])
    try:
        with os.fdopen(to_read[0], "rb") as reader, os.fdopen(to_write[1], "wb") as writer:
            yield Browser(reader, writer)
    finally:
        process.kill()
        process.wait()
