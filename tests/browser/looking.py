"""Looks at a page as people with different screens and eyes do, and keeps the pictures."""

from __future__ import annotations

import os
from pathlib import Path

from playwright.sync_api import Page

from running_server import DATABASE, REPOSITORY

SCREENSHOTS = Path(os.environ.get("GATEWRIGHT_ARTIFACTS", REPOSITORY / "target" / "artifacts")) / "screenshots"
VIEWS = {"desktop": (1280, 800), "phone": (390, 844)}

# WCAG 2 relative luminance of every visible text against the colour behind it; 4.5, or 3 for large text.
LOW_CONTRAST = """() => {
  const parse = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const over = (top, bottom) => { const a = top[3] ?? 1; return [0, 1, 2].map((i) => top[i] * a + bottom[i] * (1 - a)); };
  const luminance = (rgb) => { const [r, g, b] = rgb.map((v) => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = (element) => { const layers = []; for (let e = element; e; e = e.parentElement) { const s = getComputedStyle(e);
      if (s.backgroundImage !== 'none') return null; const c = parse(s.backgroundColor); if ((c[3] ?? 1) > 0) { layers.push(c); if ((c[3] ?? 1) === 1) break; } }
    const dark = matchMedia('(prefers-color-scheme: dark)').matches; return layers.reverse().reduce((below, c) => over(c, below), dark ? [18, 18, 18] : [255, 255, 255]); };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim(), element = walker.currentNode.parentElement;
    if (!text || !element.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true })) continue;
    const box = element.getBoundingClientRect(), style = getComputedStyle(element);
    if (box.width < 2 || box.height < 2 || style.clip === 'rect(0px, 0px, 0px, 0px)' || style.clipPath !== 'none' || element.closest('svg')) continue;
    const ground = behind(element); if (!ground) continue;
    const a = luminance(over(parse(style.color), ground)), b = luminance(ground), ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    if (ratio < (large ? 3 : 4.5) - 0.05) found.push(`${ratio.toFixed(2)} "${text.slice(0, 40)}"`);
  }
  return found;
}"""

UNNAMED = """() => [...document.querySelectorAll('input:not([type=hidden]), select, textarea, button, a[href]')]
  .filter((e) => e.checkVisibility() && !e.closest('[aria-hidden=true]') && e.getAttribute('aria-hidden') !== 'true')
  .filter((e) => !(e.labels?.length || e.getAttribute('aria-label') || e.getAttribute('aria-labelledby') || e.textContent.trim() || e.title))
  .map((e) => e.outerHTML.slice(0, 120))"""

SIDEWAYS = "() => document.scrollingElement.scrollWidth - innerWidth"


def look(page: Page, name: str) -> None:
    """Pictures on desktop and phone, light and dark; no sideways scroll down to 320 px; text legible; controls named."""
    folder = SCREENSHOTS / DATABASE.split(":")[0]
    folder.mkdir(parents=True, exist_ok=True)
    before = page.viewport_size
    for view, (width, height) in VIEWS.items():
        page.set_viewport_size({"width": width, "height": height})
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            page.wait_for_timeout(150)
            page.screenshot(path=folder / f"{name}.{view}.{scheme}.png", full_page=True)
            assert page.evaluate(LOW_CONTRAST) == [], f"{name} {view} {scheme}: low contrast"
    for width in (320, 1280):
        page.set_viewport_size({"width": width, "height": 700})
        assert page.evaluate(SIDEWAYS) <= 0, f"{name} scrolls sideways at {width} px"
    assert page.evaluate(UNNAMED) == [], f"{name}: controls without a name"
    assert page.locator("h1").count() == 1, f"{name}: one main heading"
    assert page.locator("html").get_attribute("lang"), f"{name}: no language"
    assert page.title().strip(), f"{name}: no title"
    page.emulate_media(color_scheme="light")
    if before:
        page.set_viewport_size(before)
