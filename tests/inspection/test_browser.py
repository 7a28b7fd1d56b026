"""A report in a real browser: `make test-browser`.

Needs selenium, and Chromium with its driver as Debian packages them.
"""

import json
import shutil

import numpy as np
import pytest

from skimprint import ImprintClassifier, Rejection
from skimprint.inspection import report

EVIL = "<script>document.title = 'broken'</script>"


@pytest.fixture(scope="module")
def browser():
    webdriver = pytest.importorskip(
        "selenium.webdriver", reason="needs selenium: make test-browser"
    )
    paths = [shutil.which("chromium"), shutil.which("chromedriver")]
    if None in paths:
        pytest.skip("needs Chromium and its driver: make test-browser")
    options = webdriver.ChromeOptions()
    options.binary_location = paths[0]
    for option in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(option)
    options.set_capability(
        "goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"}
    )
    service = webdriver.ChromeService(paths[1])
    with webdriver.Chrome(options=options, service=service) as driver:
        yield driver


@pytest.fixture(scope="module")
def page(digits, tmp_path_factory):
    pytest.importorskip("PIL", reason="needs pillow")
    X, y = digits
    known = y[:250] < 8
    names = np.array([EVIL if label == 2 else f"digit {label}" for label in y])
    names[np.flatnonzero(y[:250] == 0)[:2]] = "digit 7"  # which look wrong
    clf = ImprintClassifier("kmeans", n_proxies=2, random_state=0)
    clf.set_params(rejection=Rejection("other", threshold=0.5))
    clf.fit(X[:250][known], names[:250][known])
    rng = np.random.default_rng(0)
    pictures = [*rng.integers(0, 256, (250, 40, 40, 3), dtype=np.uint8)]
    train = [EVIL] * int(known.sum())
    made = report(
        clf,
        X[250:],
        names[250:],
        pictures,
        X_train=X[:250][known],
        y_train=names[:250][known],
        train_items=train,
    )
    path = tmp_path_factory.mktemp("report") / "report.html"
    made.save(path)
    return path.as_uri()


@pytest.fixture(params=[(1200, "light"), (1200, "dark"), (400, "light"), (400, "dark")])
def opened(request, browser, page):
    """The page as it opens at a width, in light or in dark."""
    width, scheme = request.param
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    features = [
        {"name": "prefers-color-scheme", "value": scheme},
        {"name": "prefers-reduced-motion", "value": "reduce"},  # scrolls at once
    ]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.get_log("browser")
    browser.get_log("performance")
    browser.get(page)
    return browser


def find(browser, selector):
    return browser.find_elements("css selector", selector)


def assert_quiet(browser, page):
    """No error was logged, and nothing was asked for but the file itself."""
    assert browser.get_log("browser") == []
    messages = [
        json.loads(entry["message"])["message"]
        for entry in browser.get_log("performance")
    ]
    asked = {
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    }
    assert {url for url in asked if not url.startswith("data:image/")} <= {page}


def test_it_opens_and_fits(opened, page):
    assert opened.title == "ImprintClassifier of 8 classes"
    width = opened.execute_script("return document.documentElement.clientWidth")
    needed = opened.execute_script("return document.documentElement.scrollWidth")
    assert needed <= width
    assert_quiet(opened, page)


def test_names_of_classes_stay_in_few_lines(opened):
    """A matrix that is wider than a phone takes no room from the names of its rows."""
    names = [th for th in find(opened, ".matrix tbody th") if "digit" in th.text]
    assert len(names) == 7
    for name in [*names, find(opened, ".matrix thead td")[0]]:
        assert name.rect["width"] > 40


def test_suspects_that_are_texts_have_lines_to_read(opened):
    cards = find(opened, ".cards.small li")
    assert len(cards) >= 2
    for card in cards:
        assert card.rect["width"] > 280


def test_a_cell_opens_to_its_pictures(opened, page):
    cells = find(opened, ".matrix button")
    panels = find(opened, ".panel")
    assert len(cells) == len(panels) > 8
    assert not any(panel.is_displayed() for panel in panels)
    opened.execute_script("arguments[0].scrollIntoView({block: 'center'})", cells[0])
    cells[0].click()
    assert [panel.is_displayed() for panel in panels] == [True] + [False] * (
        len(panels) - 1
    )
    images = panels[0].find_elements("css selector", "img")
    assert images
    for image in images:
        assert opened.execute_script(
            "return arguments[0].decode().then(() => arguments[0].naturalWidth)", image
        )
        assert image.get_attribute("alt").startswith("query ")
    opened.execute_script("arguments[0].scrollIntoView({block: 'center'})", cells[1])
    cells[1].click()
    assert not panels[0].is_displayed()
    assert panels[1].is_displayed()
    opened.execute_script("arguments[0].scrollIntoView({block: 'center'})", cells[1])
    cells[1].click()
    assert not any(panel.is_displayed() for panel in panels)
    assert_quiet(opened, page)


def test_the_keyboard_does_all_of_it(opened, page):
    from selenium.webdriver.common.keys import Keys

    def press(*keys):
        for key in keys:
            opened.switch_to.active_element.send_keys(key)
        return opened.switch_to.active_element

    find(opened, "body")[0].send_keys(Keys.TAB)
    assert opened.switch_to.active_element.text == "Skip to the content"
    cell = opened.switch_to.active_element
    for _ in range(60):
        cell = press(Keys.TAB)
        if cell.tag_name == "button":
            break
    assert cell.get_attribute("data-row") == cell.get_attribute("data-column") == "0"
    cell = press(Keys.ARROW_DOWN, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_LEFT)
    assert cell.tag_name == "button"
    cell = press(Keys.ENTER)
    assert cell.get_attribute("aria-expanded") == "true"
    panel = opened.find_element("id", cell.get_attribute("aria-controls"))
    assert panel.is_displayed()
    press(Keys.ESCAPE)
    assert not panel.is_displayed()
    after = press(Keys.TAB)
    assert not after.get_attribute("data-row")  # the matrix is one stop
    summary = find(opened, "summary")[0]
    opened.execute_script("arguments[0].focus()", summary)
    press(Keys.ENTER)
    assert summary.find_element("xpath", "..").get_attribute("open")
    assert_quiet(opened, page)


def test_what_users_wrote_is_text(opened, page):
    """A script in a label or an item shows, and does not run."""
    assert opened.title != "broken"
    for part in find(opened, "details"):
        opened.execute_script("arguments[0].open = true", part)
    text = find(opened, "main")[0].text
    assert text.count(EVIL) > 10
    assert_quiet(opened, page)


def test_text_can_be_read(opened):
    """Text has the contrast to its ground that WCAG asks for, in light and dark."""
    cells = find(opened, ".matrix button")
    opened.execute_script("arguments[0].click()", cells[0])
    for part in find(opened, "details"):
        opened.execute_script("arguments[0].open = true", part)
    worst = opened.execute_script(CONTRAST)
    assert worst["ratio"] >= 4.5, worst


def test_it_prints_dark_on_white(opened):
    """Whatever the screen shows: browsers leave grounds out, and dark ones cost ink."""
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    worst = opened.execute_script(CONTRAST)
    assert worst["ratio"] >= 4.5, worst
    look = "const style = getComputedStyle(arguments[0]); return style."
    body = find(opened, "body")[0]
    assert opened.execute_script(look + "backgroundColor", body) == "rgb(255, 255, 255)"
    for part in find(opened, ".bar i, .bar b, .matrix button"):
        assert opened.execute_script(look + "printColorAdjust", part) == "exact"
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


CONTRAST = """
const options = {willReadFrequently: true};
const canvas = document.createElement("canvas").getContext("2d", options);
const rgb = (color, under) => {
  canvas.fillStyle = `rgb(${under})`; canvas.fillRect(0, 0, 1, 1);
  canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
};
const groundOf = (part) => {
  const chain = [];
  for (let at = part; at; at = at.parentElement) chain.unshift(at);
  let color = [255, 255, 255];
  for (const at of chain) color = rgb(getComputedStyle(at).backgroundColor, color);
  return color;
};
const light = (color) => color.map((v) => v / 255)
  .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
let worst = {ratio: 99};
for (const part of document.querySelectorAll("body *")) {
  const own = [...part.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
  if (!own || !part.checkVisibility()) continue;
  if (part.closest("svg, .none, .skip, script, style")) continue;
  const ground = groundOf(part), text = rgb(getComputedStyle(part).color, ground);
  const [high, low] = [light(ground), light(text)].sort((a, b) => b - a);
  const ratio = (high + 0.05) / (low + 0.05);
  const html = part.outerHTML.slice(0, 150);
  if (ratio < worst.ratio) worst = {ratio, html, text, ground};
}
return worst;
"""
