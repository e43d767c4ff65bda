"""The page in a real Chromium: the whole way of a visitor, at three widths.

Screenshots go to the folder that DECONVNET_SCREENSHOTS names, to be looked at.
"""

import json
import os
import re
import shutil
import socket
import threading
import time
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from web.conftest import encoded, pixels

pytestmark = pytest.mark.browser

WIDTHS = (360, 820, 1280)
PATIENCE = 90_000  # milliseconds: the machine may be busy


@pytest.fixture(scope="module")
def browser():
    sync = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium, then run again")
    with sync.sync_playwright() as playwright:
        opened = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def address(served):
    """The tests' networks, served from a thread."""
    from deconvnet.web.app import create_app
    from deconvnet.web.limits import Limits
    from deconvnet.web.serve import _Server

    limits = Limits()
    server = _Server(create_app(served, limits), limits)
    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.fixture
def open_page(browser, address):
    """Opens the page; the test fails if anything was complained about on the console."""
    complaints, contexts = [], []

    def complain(kind, text):
        expected = "status of 503" in text or "status of 422" in text  # the page says these
        if kind == "error" and not expected:
            complaints.append(text)

    def open_one(width=1280, *, path="/", **options):
        context = browser.new_context(
            viewport={"width": width, "height": 800}, locale="en-US", **options
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("console", lambda message: complain(message.type, message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        outside = []
        page.on("request", lambda request: outside.append(request.url))
        page.goto(address + path)
        page.locator("#examples img[src]").nth(5).wait_for()
        assert all(url.startswith((address, "blob:", "data:")) for url in outside)
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert complaints == []


def shot(page, name):
    """Keep a picture of the page, if asked to."""
    folder = os.environ.get("DECONVNET_SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.evaluate("scrollTo(0, 0)")
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)


def start(page, picture=1):
    page.locator("#examples button").nth(picture).click()
    done(page)


def done(page):
    page.locator("#save-mask:not([disabled])").wait_for()


def assert_no_sideways_scroll(page):
    assert page.evaluate(
        "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    )


@pytest.mark.parametrize("width", WIDTHS)
def test_a_visitor_segments_compares_and_looks_inside(open_page, width):
    page = open_page(width)
    shot(page, f"{width}-start")
    assert_no_sideways_scroll(page)

    start(page)
    rows = page.locator("#segment-classes label")
    assert rows.count() >= 1
    shares = [
        float(re.sub(r"[^\d.]", "", text))
        for text in page.locator("#segment-classes .share").all_inner_texts()
    ]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(100, abs=0.5)
    frame = page.locator("#segment-stage .frame")
    frame.hover()
    assert re.search(r"\w+ · \d+ % sure", page.locator("#segment-stage .readout").inner_text())
    shot(page, f"{width}-segment")
    assert_no_sideways_scroll(page)

    page.click("#tab-compare")
    page.locator("#shares tbody tr").first.wait_for()
    assert re.fullmatch(r"[\d.]+ %", page.locator("#agreement").inner_text())
    page.fill("#divider", "20")
    assert page.locator(".handle").evaluate("one => one.style.left") == "20%"
    shot(page, f"{width}-compare")
    assert_no_sideways_scroll(page)

    page.click("#tab-inside")
    page.locator("#grid .cell").first.wait_for()
    names = page.locator("#layers .layer").evaluate_all("all => all.map(x => x.dataset.layer)")
    assert names[0] == "image"
    assert names[-1] == "scores"
    assert "unpool5" in names
    page.locator("#layers [data-layer=pool2]").click()
    page.get_by_text("pool2, channel").wait_for()
    page.locator("#grid .cell").nth(1).click()
    page.get_by_text("pool2, channel 1").wait_for()
    page.locator("#trace-stage .frame").hover()
    page.get_by_text("steps back to the picture").wait_for()
    shot(page, f"{width}-inside")
    assert_no_sideways_scroll(page)


def test_the_mask_shown_is_the_mask_of_the_answer(open_page):
    page = open_page()
    content = encoded()
    page.set_input_files("#file", {"name": "a.png", "mimeType": "image/png", "buffer": content})
    done(page)
    with page.expect_download() as saved:
        page.click("#save-json")
    answer = json.loads(Path(saved.value.path()).read_text())
    with page.expect_download() as saved:
        page.click("#save-mask")
    mask = np.array(PIL.Image.open(saved.value.path()))
    page.click("#all-classes")
    painted = page.locator("#segment-stage .paint").evaluate(
        "c => [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]"
    )
    painted = np.array(painted, np.uint8).reshape(*mask.shape, 4)
    colors = np.array(
        [[int(c["color"][i : i + 2], 16) for i in (1, 3, 5)] for c in answer["classes"]]
    )
    line = (painted[..., :3] == 255).all(-1)
    assert line.mean() < 0.5
    np.testing.assert_array_equal(painted[..., :3][~line], colors[mask][~line])
    with page.expect_download() as saved:
        page.click("#save-overlay")
    assert PIL.Image.open(saved.value.path()).size == mask.shape[::-1]


def test_classes_are_toggled_and_the_opacity_changes(open_page):
    page = open_page()
    start(page)
    paint = page.locator("#segment-stage .paint")
    shown = "c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some(v => v)"
    page.click("#all-classes")
    assert paint.evaluate(shown)
    page.click("#no-classes")
    assert not paint.evaluate(shown)
    page.locator("#segment-classes input").first.check()
    assert paint.evaluate(shown)
    page.fill("#opacity", "15")
    assert paint.evaluate("c => c.style.opacity") == "0.15"


def test_the_map_grows_and_can_be_stopped(open_page):
    page = open_page()
    start(page)
    page.fill("#proposals", "50")
    page.click("#grow")
    page.get_by_text(re.compile(r"Window \d+ of \d+")).wait_for()
    shot(page, "growing")
    page.click("#grow")
    stopped = page.get_by_text(re.compile(r"Stopped after \d+ of \d+ windows"))
    stopped.first.wait_for()
    assert page.locator("#grow").inner_text() == "Grow the map"
    assert page.locator("#save-mask").is_enabled()
    page.fill("#proposals", "5")
    page.click("#grow")
    stopped.first.wait_for(state="detached")  # six windows may be done before one is seen
    page.locator("#segment-stage [aria-busy]").wait_for(state="detached")
    page.locator("#grow:text('Grow the map')").wait_for()
    assert page.locator("#segment-stage .note").count() == 0


def test_the_network_chosen_inside_is_the_one_described_where_pictures_are_segmented(open_page):
    page = open_page(path="/#inside")
    page.locator("#examples button").nth(2).click()
    page.locator("#grid .cell").first.wait_for()
    before = page.locator("#segment-about").text_content()
    names = page.locator("#inside-model option").all_text_contents()
    other = next(name for name in names if name != page.input_value("#inside-model"))
    page.select_option("#inside-model", other)
    page.click("#tab-segment")
    assert page.input_value("#segment-model") == other
    assert page.locator("#segment-about").text_content() != before


def test_the_decoder_plays_to_the_scores(open_page):
    page = open_page(path="/#inside")
    page.locator("#examples button").nth(2).click()
    page.locator("#grid .cell").first.wait_for()
    assert page.locator("#layer-title").inner_text().startswith("fc6_deconv")
    page.click("#play")
    page.get_by_text(re.compile("^scores, channel")).wait_for()
    page.locator("#play:text('Play the decoder')").wait_for()
    assert page.input_value("#scrub") == page.get_attribute("#scrub", "max")


def test_everything_works_by_keyboard(open_page):
    page = open_page()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.locator("#examples button").first.focus()
    page.keyboard.press("Enter")
    done(page)
    page.locator("#segment-stage .frame").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowDown")
    assert re.match(r"210, 151: ", page.locator("#live").text_content())
    page.locator("#tab-segment").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.id") == "tab-inside"
    page.locator("#grid .cell").first.wait_for()
    page.locator("#layers [data-layer=fc6_deconv]").focus()
    page.keyboard.press("ArrowRight")
    page.get_by_text("unpool5, channel").wait_for()


def test_every_control_has_a_name_and_every_picture_words(open_page):
    page = open_page()
    start(page)
    for tab in ("segment", "compare", "inside"):
        page.click(f"#tab-{tab}")
        if tab == "inside":
            page.locator("#grid .cell").first.wait_for()
        nameless = page.locator("button, select, input:not([hidden])").evaluate_all(
            """all => all.filter(one => one.checkVisibility()).filter(one =>
                 !(one.getAttribute("aria-label") || one.textContent.trim() || one.title ||
                   [...(one.labels ?? [])].some(label => label.textContent.trim()) ||
                   one.querySelector("img[alt]:not([alt=''])")))
               .map(one => one.outerHTML)"""
        )
        assert nameless == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_enough_from_what_is_behind_them(open_page, scheme):
    page = open_page(color_scheme=scheme)
    start(page)
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 20
    faint = [one for one in contrasts if one["contrast"] < 4.5]
    assert faint == []


CONTRASTS = """() => {
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (one) => {
    for (; one; one = one.parentElement) {
      const color = rgb(getComputedStyle(one).backgroundColor);
      if (color.length === 3 || color[3] === 1) return color;
    }
    return [255, 255, 255];
  };
  return [...document.querySelectorAll("body *")].filter((one) => one.checkVisibility() &&
      !one.disabled && [...one.childNodes].some((n) => n.nodeType === 3 && n.data.trim()))
    .map((one) => {
      const [a, b] = [light(rgb(getComputedStyle(one).color)), light(behind(one))];
      return { words: one.textContent.trim().slice(0, 30),
        contrast: (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) };
    });
}"""


def test_korean_is_chosen_by_the_browser_and_by_the_switch(open_page, browser, address):
    page = open_page()
    page.click("#language")
    assert page.evaluate("document.documentElement.lang") == "ko"
    page.get_by_text("그림을 여기에 놓으세요").wait_for()
    start(page)
    shot(page, "korean")
    page.reload()
    page.get_by_text("그림을 여기에 놓으세요").wait_for()
    context = browser.new_context(locale="ko-KR")
    other = context.new_page()
    other.goto(address)
    other.get_by_text("그림 고르기").wait_for()
    context.close()


def test_both_languages_have_words_for_everything():
    from importlib import resources

    folder = resources.files("deconvnet.web") / "static"
    words = (folder / "words.js").read_text(encoding="utf-8")
    table = dict(re.findall(r'^  (\w+): \[\s*"((?:[^"]*)",\s*"[^"]*)",?\s*\]', words, re.M))
    used = set()
    for file in folder.iterdir():
        text = file.read_text(encoding="utf-8")
        used |= set(re.findall(r'data-t(?:-label)?="(\w+)"', text))
        used |= set(re.findall(r'\bt\("(\w+)"', text))
    assert used - set(table) == set()
    for key, both in table.items():
        english, korean = re.split(r'",\s*"', both)
        fields = [sorted(re.findall(r"\{(\w+)\}", text)) for text in (english, korean)]
        assert fields[0] == fields[1], key


def test_a_problem_is_shown_where_it_arose_and_can_be_tried_again(open_page):
    page = open_page()
    buffer = {"name": "a.png", "mimeType": "image/png", "buffer": b"no picture"}
    page.route("**/api/picture", lambda route: route.fulfill(**refusal(422, "picture")))
    page.set_input_files("#file", buffer)
    page.locator("#source-problem [role=alert]").wait_for()
    page.unroute("**/api/picture")
    page.route("**/api/segment", lambda route: route.fulfill(**refusal(503, "busy")))
    page.locator("#examples button").first.click()
    alert = page.locator("#segment-stage [role=alert]")
    alert.wait_for()
    assert "The server is busy" in alert.inner_text()
    assert "A sentence of the server." in alert.inner_text()
    shot(page, "problem")
    page.unroute("**/api/segment")
    alert.get_by_text("Try again").click()
    done(page)
    assert alert.count() == 0


def refusal(status, code):
    details = {"title": "T", "status": status, "detail": "A sentence of the server."}
    return {
        "status": status,
        "content_type": "application/problem+json",
        "body": json.dumps({"type": "about:blank", "code": code, **details}),
    }


def test_large_pictures_are_reduced_unless_asked_otherwise(open_page):
    page = open_page()
    content = encoded(pixels((1600, 1200)), "JPEG")
    page.set_input_files(
        "#file", {"name": "l.jpg", "mimeType": "image/jpeg", "buffer": content}
    )
    done(page)
    assert "1600 × 1200, reduced to 1155 × 866" in page.locator("#picture-note").inner_text()


def test_a_tiff_is_shown_by_way_of_the_server(open_page):
    page = open_page()
    content = encoded(kind="TIFF")
    page.set_input_files(
        "#file", {"name": "a.tif", "mimeType": "image/tiff", "buffer": content}
    )
    done(page)
    assert "a.tif: 48 × 40" in page.locator("#picture-note").inner_text()


def test_a_picture_can_be_dropped_and_pasted(open_page):
    page = open_page()
    content = list(encoded())
    for kind in ("drop", "paste"):
        page.evaluate(
            """([kind, bytes]) => {
                const data = new DataTransfer();
                const named = kind + '.png';
                data.items.add(new File([new Uint8Array(bytes)], named, {type: "image/png"}));
                const Kind = kind === "drop" ? DragEvent : ClipboardEvent;
                const field = kind === "drop" ? "dataTransfer" : "clipboardData";
                const about = {bubbles: true, cancelable: true, [field]: data};
                document.body.dispatchEvent(new Kind(kind, about));
            }""",
            [kind, content],
        )
        page.locator("#picture-note", has_text=f"{kind}.png: 48 × 40").wait_for()
        done(page)
