"""Chromium without a window, over WebDriver (JSON over HTTP): https://www.w3.org/TR/webdriver2/"""

import json
import re
import shutil
import subprocess
import urllib.error
import urllib.request

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
KEYS = {"left": "\ue012", "right": "\ue014", "home": "\ue011", "end": "\ue010", "space": " "}


def programs():
    """-> paths of chromedriver and of the browser; None if one is not installed."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return shutil.which("chromedriver"), next(filter(None, map(shutil.which, names)), None)


class Browser:
    """with Browser(profile folder) as browser: a browser that ends with the block."""

    def __init__(self, profile, size=(1200, 900)):
        self.profile, self.size = profile, size

    def __enter__(self):
        driver, browser = programs()
        self.process = subprocess.Popen(
            [driver, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        try:
            started = re.compile(r"started successfully on port (\d+)")
            port = next(match[1] for line in self.process.stdout if (match := started.search(line)))
            self.address = f"http://127.0.0.1:{port}/session"
            width, height = self.size
            window = [f"--user-data-dir={self.profile}", f"--window-size={width},{height}"]
            wanted = {
                "goog:chromeOptions": {"binary": browser, "args": [*FLAGS, *window]},
                "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
            }
            session = self.call("", {"capabilities": {"alwaysMatch": wanted}})
            self.address += f"/{session['sessionId']}"
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exception):
        try:
            self.call("", method="DELETE")
        finally:
            self.stop()

    def stop(self):
        self.process.terminate()
        self.process.wait(10)
        self.process.stdout.close()

    def call(self, path, content=None, method="POST"):
        """A WebDriver command -> its value. Raises AssertionError with the browser's message."""
        body = None if content is None else json.dumps(content).encode()
        header = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.address + path, body, header, method=method)
        proxy = urllib.request.ProxyHandler({})  # none: straight to this machine
        try:
            with urllib.request.build_opener(proxy).open(request, timeout=60) as reply:
                return json.load(reply)["value"]
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(json.load(error)["value"]["message"]) from None

    def open(self, path):
        self.call("/url", {"url": path.as_uri()})

    def run(self, script):
        """JavaScript -> what it returns."""
        return self.call("/execute/sync", {"script": script, "args": []})

    def emulate(self, width=0, height=0, scheme=""):
        """A screen of this size in pixels, and a color scheme; without arguments as before."""
        size = dict(width=width, height=height, deviceScaleFactor=1, mobile=bool(width))
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        for command, parameters in (
            ("setDeviceMetricsOverride", size),
            ("setEmulatedMedia", {"features": features}),
        ):
            call = {"cmd": f"Emulation.{command}", "params": parameters}
            self.call("/goog/cdp/execute", call)

    def press(self, *keys):
        strokes = [
            {"type": kind, "value": KEYS[key]} for key in keys for kind in ("keyDown", "keyUp")
        ]
        self.call("/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": strokes}]})

    def click(self, selector):
        found = self.call("/element", {"using": "css selector", "value": selector})
        self.call(f"/element/{next(iter(found.values()))}/click", {})

    def console(self):
        """-> messages on the console since the last call."""
        return [entry["message"] for entry in self.call("/se/log", {"type": "browser"})]

    def requests(self):
        """-> addresses requested since the last call, without embedded data and start pages."""
        entries = self.call("/se/log", {"type": "performance"})
        events = [json.loads(entry["message"])["message"] for entry in entries]
        addresses = [
            event["params"]["request"]["url"]
            for event in events
            if event["method"] == "Network.requestWillBeSent"
        ]
        return [address for address in addresses if not address.startswith(("data:", "chrome:"))]
