"""The search page in a browser, against the server as a process of its own."""

from __future__ import annotations

import base64
import os
import re
import shutil
import signal
import subprocess
import sys
from importlib import resources

import pytest

pytest.importorskip("selenium")
from selenium import webdriver
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

TOKEN = "a-token-of-many-letters"
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="needs Debian's chromium and chromium-driver"
)


@pytest.fixture(scope="module", params=["open", "token"])
def address(request, workplace):
    """The page's address: of a server that asks for nothing, and of one that asks for a token."""
    pytest.importorskip("uvicorn")
    command = [sys.executable, "-m", "msiam", "serve", "pictures", "--port", "0"]
    environment = dict(os.environ) | ({"MSIAM_TOKEN": TOKEN} if request.param == "token" else {})
    process = subprocess.Popen(
        command, cwd=workplace, stderr=subprocess.PIPE, text=True, env=environment
    )
    line = process.stderr.readline()
    found = re.search(r"http://\S+", line)
    assert found, line + process.stderr.read()
    yield found[0]
    process.send_signal(signal.SIGINT)
    rest = process.stderr.read()
    assert process.wait(60) == 0 and rest == "ended\n"  # no warning, no traceback, no token


@pytest.fixture(scope="module")
def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


class Page:
    """What a person does with the page."""

    def __init__(self, browser, address):
        self.browser = browser
        self.look(1000, 800)
        browser.get(address)
        self.execute("sessionStorage.clear()")
        browser.get(address)
        self.until(lambda: self("#gate").is_displayed() or self("#count").text)
        if self("#gate").is_displayed():
            self.active.send_keys("a wrong token", Keys.ENTER)
            self.until(lambda: self("#problem").is_displayed())
            assert "token" in self("#problem").text
            self("#token").clear()
            self("#token").send_keys(TOKEN, Keys.ENTER)
            self.until(lambda: self("#count").text)
        browser.get_log("browser")

    def __call__(self, selector):
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def execute(self, script, *arguments):
        return self.browser.execute_script(script, *arguments)

    def look(self, width, height, dark=False):
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})

    def until(self, condition):
        return WebDriverWait(self.browser, 30, 0.02).until(lambda _: condition())

    @property
    def active(self):
        return self.browser.switch_to.active_element

    @property
    def hits(self):
        """Ids of what is shown."""
        return self.execute(
            "return [...document.querySelectorAll('.hit')].map((h) => h.dataset.id)"
        )

    def wait(self):
        """Until the answer is there, with its pictures."""
        self.until(
            lambda: self.execute(
                "return !document.getElementById('results').hasAttribute('aria-busy')"
                " && document.getElementById('status').textContent !== ''"
                " && [...document.images].every((i) => i.complete && i.naturalWidth > 0)"
            )
        )
        return self.hits

    def search(self, text):
        self("#text").clear()
        self("#text").send_keys(text, Keys.ENTER)
        return self.wait()


@pytest.fixture
def page(browser, address):
    made = Page(browser, address)
    yield made
    # Nothing was refused by the content security policy, and no script failed.
    wrong = [e["message"] for e in browser.get_log("browser") if "status of 4" not in e["message"]]
    assert wrong == []


def test_a_sentence_finds_pictures_with_scores(page):
    first = page.wait()
    assert first == [f"k{n}" for n in range(20)] and page("#count").text == "30 records"
    ids = page.search("a red cat")
    assert len(ids) == 20 and ids != first
    assert re.fullmatch(r"20 results in \d+ ms", page("#status").text)
    scores = page.execute(
        "return [...document.querySelectorAll('.score')].map((s) => +s.textContent)"
    )
    assert scores == sorted(scores, reverse=True)
    assert page.execute("return document.querySelectorAll('.hit img').length") == 20
    assert "q=a+red+cat" in page.browser.current_url
    page.browser.refresh()
    assert page.wait() == ids
    page.browser.back()
    page.until(lambda: page.hits == first)


def test_more_like_this_and_back(page):
    ids = page.search("a red cat")
    page(".hit .link").click()
    page.until(lambda: page("#asked").is_displayed())
    others = page.wait()
    assert ids[0] not in others and "Like a " in page("#asked").text
    page.browser.back()
    page.until(lambda: page.hits == ids)


def test_a_filter_and_what_is_wrong_with_it(page):
    page("#where").send_keys("colour = 'blue'")
    assert sorted(page.search("a red cat")) == [f"k{n}" for n in range(10, 15)]
    page("#where").clear()
    page("#where").send_keys("coulour = 'blue'", Keys.ENTER)
    page.until(lambda: page("#problem").is_displayed())
    said = page("#problem").text
    assert "did you mean 'colour'" in said
    page("#where").clear()
    page("#where").send_keys("colour = 'red' and", Keys.ENTER)
    page.until(lambda: page("#problem").text not in ("", said))
    assert page.active == page("#where")
    assert page.execute("return document.activeElement.selectionStart") == 18  # at the end
    assert page("#where").get_attribute("aria-invalid") == "true" and page.hits == []


def test_a_picture_is_dropped_and_chosen(page, png, workplace):
    page.execute(
        """
        const raw = Uint8Array.from(atob(arguments[0]), (c) => c.charCodeAt(0));
        const data = new DataTransfer();
        data.items.add(new File([raw], "thing.png", { type: "image/png" }));
        for (const kind of ["dragenter", "dragover", "drop"])
          document.body.dispatchEvent(
            new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true }));
        """,
        base64.b64encode(png).decode(),
    )
    page.until(lambda: page("#asked").is_displayed())
    ids = page.wait()
    assert page("#asked").text.startswith("Like thing.png") and len(ids) == 20
    page("#asked .link").click()
    assert page.active == page("#text")
    page.until(lambda: page.hits[0] == "k0" and not page("#asked").is_displayed())
    page("#picture").send_keys(str(workplace / "files/3.png"))
    page.until(lambda: page("#asked").is_displayed())
    assert page.wait() == ids
    page.browser.back()
    page.until(lambda: not page("#asked").is_displayed())


def test_what_is_no_picture_is_told(page, tmp_path):
    (tmp_path / "notes.png").write_text("no picture")
    page("#picture").send_keys(str(tmp_path / "notes.png"))
    page.until(lambda: page("#problem").is_displayed())
    assert "picture: is none" in page("#problem").text


def test_by_keyboard_alone(page):
    assert page.active == page("#text")
    page.active.send_keys("a red cat", Keys.ENTER)
    ids = page.wait()

    def here():
        return page.active.get_attribute("data-id")

    page.active.send_keys(Keys.ARROW_DOWN)
    assert here() == ids[0]
    width = page.execute("return getComputedStyle(document.activeElement).outlineWidth")
    assert width == "3px"
    page.active.send_keys(Keys.ARROW_RIGHT)
    assert here() == ids[1]
    page.active.send_keys(Keys.END)
    assert here() == ids[-1]
    page.active.send_keys(Keys.HOME, Keys.ARROW_DOWN)
    assert here() not in (None, ids[0])  # one row further down
    page.active.send_keys(Keys.HOME, Keys.ENTER)
    page.until(lambda: page("#asked").is_displayed())
    others = page.wait()
    page.until(lambda: here() == others[0])
    page.active.send_keys("/")
    assert page.active == page("#text")
    seen = []
    for _ in range(8):
        ActionChains(page.browser).send_keys(Keys.TAB).perform()
        seen.append(page.active.get_attribute("id") or page.active.get_attribute("class"))
    # The button to search, then the options, then one result with what is in it.
    assert [name for name in seen if name] == ["where", "k", "picture", "link", "hit", "link"]


def test_every_control_has_a_name(page):
    page.search("a red cat")
    for kind in ("input", "select", "button", "article", "img", "ol"):
        for element in page.browser.find_elements(By.CSS_SELECTOR, f".hit {kind}, form {kind}"):
            if element.is_displayed():
                assert element.accessible_name, element.get_attribute("outerHTML")
    assert (
        page("#status").aria_role == "status" and page("#problem").get_attribute("role") == "alert"
    )


def test_on_a_phone_nothing_is_wider_than_it(page):
    page.look(360, 740)
    page.search("a red cat")
    assert page.execute("return document.documentElement.scrollWidth") <= 360
    sizes = page.execute(
        "return [...document.querySelectorAll('#search button, #search input[type=text]')]"
        ".map((e) => e.getBoundingClientRect().height)"
    )
    assert min(sizes) >= 40


def test_in_the_dark_it_is_dark_and_can_be_read(page):
    def contrast():
        return page.execute(
            """
            const light = (colour) => {
              const [r, g, b] = colour.match(/[\\d.]+/g).map((v) => v / 255)
                .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
              return 0.2126 * r + 0.7152 * g + 0.0722 * b;
            };
            const paper = light(getComputedStyle(document.body).backgroundColor);
            const inks = ["body", ".score", ".link", "#status", "button[type=submit]"].map((s) => {
              const style = getComputedStyle(document.querySelector(s));
              const own = s.startsWith("button") ? light(style.backgroundColor) : paper;
              const [high, low] = [light(style.color), own].sort((a, b) => b - a);
              return (high + 0.05) / (low + 0.05);
            });
            return [paper, Math.min(...inks)];
            """
        )

    page.search("a red cat")
    paper, least = contrast()
    assert paper > 0.9 and least >= 4.5
    page.look(1000, 800, dark=True)
    paper, least = contrast()
    assert paper < 0.05 and least >= 4.5


def test_a_record_is_never_read_as_html(page):
    """Its words are put into the page as words."""
    names = page.execute("return performance.getEntriesByType('resource').map((e) => e.name)")
    scripts = [name.rpartition("/")[2] for name in names if name.endswith(".js")]
    assert sorted(set(scripts)) == ["page.js", "results.js", "server.js"]
    for script in scripts:
        text = resources.files("msiam.serving.page").joinpath(script).read_text()
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text)
