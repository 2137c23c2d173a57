"""A headless Chromium, which its own driver drives over HTTP."""

import base64
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

DRIVER = shutil.which("chromedriver")
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
MISSING = "no chromium with its chromedriver: apt-get install chromium chromium-driver"
FLAGS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]


class Page:
    """A page under a driver."""

    def __init__(self, root):
        self.root = root

    def call(self, path, **body):
        """What the driver answers."""
        request = urllib.request.Request(
            f"{self.root}/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]

    def run(self, script):
        """What a script returns."""
        return self.call("execute/sync", script=script, args=[])

    def devtools(self, command, **params):
        """A command of the browser's own protocol."""
        return self.call("goog/cdp/execute", cmd=command, params=params)

    def errors(self):
        """What the console complains of."""
        return self.call("se/log", type="browser")

    def picture(self, path):
        """A picture of the whole page."""
        data = self.devtools("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(data))


@contextmanager
def opened(path):
    """A page of a file."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    driver = subprocess.Popen([DRIVER, f"--port={port}"], stdout=subprocess.DEVNULL)
    try:
        page = Page(f"http://127.0.0.1:{port}")
        options = {"args": FLAGS, "binary": BROWSER}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        for _ in range(100):
            try:
                session = page.call("session", capabilities={"alwaysMatch": wanted})
                break
            except urllib.error.URLError:  # it is not up yet
                time.sleep(0.1)
        page.root += f"/session/{session['sessionId']}"
        page.call("url", url=path.as_uri())
        yield page
        page.call("window/new", type="tab")
    finally:
        driver.terminate()
        driver.wait()
