"""The built site in a headless Chromium: `python -m tests.built_site FOLDER [PICTURES]`.

For every page, offline: links and images lead somewhere, one title and no level of headings left
out, nothing wider than a window of 400 or 1400 pixels, text that stands out from its background in
light and dark, and a Tab key that reaches visible things. With PICTURES it also takes a picture of
some pages at both widths.
"""

import itertools
import re
import sys
import urllib.parse
from pathlib import Path

from tests import browser

SIZES = {"phone": (400, 800), "desk": (1400, 900)}
PICTURES = ("index", "start", "tutorials/jacobians", "gallery/index", "gallery/chaos", "api/scan")
CODES = {"Tab": 9}
CONTRAST = 4.5  # WCAG 2, level AA; 3 for large text

IMAGES = "return [...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)"
LINKS = "return [...document.querySelectorAll('a[href]')].map(a => a.href)"
HEADINGS = """
return [...document.querySelectorAll('article h1, article h2, article h3, article h4')]
    .map(h => Number(h.tagName[1]))"""
WIDTH = "return [document.documentElement.scrollWidth, window.innerWidth]"
COLOURS = """
const rgba = text => {
    const n = text.match(/[\\d.]+/g).map(Number);
    return n.length < 4 ? [...n, 1] : n;
};
const over = (a, b) => a.slice(0, 3).map((v, i) => v * a[3] + b[i] * (1 - a[3]));
const light = c => {
    const linear = v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
    const [r, g, b] = c.map(v => linear(v / 255));
    return .2126 * r + .7152 * g + .0722 * b;
};
const behind = element => {
    const layers = [];
    for (let e = element; e; e = e.parentElement) {
        const c = rgba(getComputedStyle(e).backgroundColor);
        if (c[3]) layers.push(c);
        if (c[3] === 1) break;
    }
    return layers.reverse().reduce((below, c) => over(c, below), [255, 255, 255]);
};
const seen = {};
const walker = document.createTreeWalker(document.querySelector('.page'), NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim(), element = walker.currentNode.parentElement;
    const style = getComputedStyle(element), box = element.getBoundingClientRect();
    if (!text || !box.width || style.visibility !== 'visible' || style.opacity < .1) continue;
    if (element.closest('svg, script, style, .visually-hidden')) continue;
    const below = behind(element), colour = over(rgba(style.color), below);
    const [a, b] = [light(colour), light(below)].sort((x, y) => y - x);
    const ratio = (a + .05) / (b + .05), size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    const where = `${element.tagName}.${element.className}`;
    const key = `${where} ${style.color} on ${below.map(Math.round)}`;
    if (ratio < (large ? 3 : LIMIT)) seen[key] = `${ratio.toFixed(2)} '${text.slice(0, 30)}'`;
}
return seen"""
FOCUS = """
const e = document.activeElement, s = getComputedStyle(e), b = e.getBoundingClientRect();
const marked = s.outlineStyle !== 'none' || s.boxShadow !== 'none';
const name = (e.textContent || e.ariaLabel || e.name || '').trim().slice(0, 30);
return [e.tagName + ' ' + name, marked]"""


def broken_links(site, page, hrefs):
    """Links of a page to files or places in files that are not there."""
    for href in sorted(set(hrefs)):
        parts = urllib.parse.urlsplit(href)
        if parts.scheme != "file":
            continue
        path = Path(urllib.parse.unquote(parts.path))
        if not path.exists():
            yield f"{page}: {path.relative_to(site)} is not there"
        elif parts.fragment and path.suffix == ".html":
            place = urllib.parse.unquote(parts.fragment)
            if not re.search(rf'id="{re.escape(place)}"', path.read_text()):
                yield f"{page}: {path.relative_to(site)} has no place {place}"


def show(window, size=None, scheme=None):
    """Set the window's size, or light or dark."""
    if size:
        width, height = SIZES[size]
        window.devtools(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
    if scheme:
        feature = {"name": "prefers-color-scheme", "value": scheme}
        window.devtools("Emulation.setEmulatedMedia", features=[feature])


def key(window, name):
    """Press a key."""
    for kind in ("keyDown", "keyUp"):
        code = {"key": name, "code": name, "windowsVirtualKeyCode": CODES[name]}
        window.devtools("Input.dispatchKeyEvent", type=kind, **code)


def faults(window, site, page):
    """What is wrong with one page."""
    name = page.relative_to(site)
    window.call("url", url=page.as_uri())
    yield from (f"{name}: no image {src}" for src in window.run(IMAGES))
    yield from broken_links(site, name, window.run(LINKS))
    levels = window.run(HEADINGS)
    skipped = any(b > a + 1 for a, b in itertools.pairwise(levels))
    if (levels.count(1) != 1 or skipped) and page.name != "search.html":  # its script writes them
        yield f"{name}: levels of headings {levels}"
    for size in SIZES:
        show(window, size)
        wide, room = window.run(WIDTH)
        if wide > room:
            yield f"{name}: {wide} pixels wide in a window of {room}"
    for scheme in ("light", "dark"):
        show(window, scheme=scheme)
        for what, ratio in window.run(COLOURS.replace("LIMIT", str(CONTRAST))).items():
            yield f"{name}, {scheme}: {what}: contrast {ratio}"
    show(window, scheme="light")
    for said in window.errors():
        if said["level"] == "SEVERE":
            yield f"{name}: console: {said['message']}"


def tabs(window, page, count=12):
    """What the first presses of Tab reach, and whether each is marked."""
    window.call("url", url=page.as_uri())
    for _ in range(count):
        key(window, "Tab")
        yield window.run(FOCUS)


def main(site, pictures=None):
    """Print what is wrong; the status is 1 if anything is."""
    pages = sorted(p for p in site.rglob("*.html") if "_modules" not in p.parts)
    found = []
    with browser.opened(pages[0]) as window:
        for page in pages:
            found += faults(window, site, page)
        print("Tab reaches, with a mark or none:")
        for what, marked in tabs(window, site / "index.html"):
            print(" ", what, "" if marked else "(none)")
        for name in PICTURES if pictures else ():
            for size in SIZES:
                window.call("url", url=(site / f"{name}.html").as_uri())
                show(window, size)
                window.picture(pictures / f"{name.replace('/', '_')}_{size}.png")
    print(*found, f"{len(pages)} pages, {len(found)} faults", sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    folders = [Path(name).resolve() for name in sys.argv[1:]]
    if len(folders) not in (1, 2):
        raise SystemExit(__doc__)
    raise SystemExit(main(*folders))
