"""What the tests of the report's page ask of a browser's tab, see tests.helpers.chromium."""

from pathlib import Path


def count(tab) -> str:
    return tab.value("document.getElementById('count').textContent")


def filled_in(name: str, value: str, event: str = "change") -> str:
    """The script that gives a field a value."""
    return (
        f"(() => {{ const s = document.querySelector('[name={name}]'); s.value = {value!r};"
        f"s.dispatchEvent(new Event({event!r})); }})()"
    )


def select(tab, name: str, value: str) -> None:
    tab.value(filled_in(name, value))


def quiet(tab, file: Path) -> None:
    """Nothing on the console, and no request but for the page itself."""
    assert tab.messages == []
    assert set(tab.requests) == {file.as_uri()}


def low_contrast(tab) -> list:
    """The elements whose text contrasts less with its ground than WCAG AA asks, 4.5 to 1, and the contrasts."""
    return tab.value("""(() => {
      const rgb = (text) => text.match(/[0-9.]+/g).map(Number);
      const linear = (c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4);
      const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
      const ground = (e) => {
        for (let at = e; at; at = at.parentElement) {
          const c = rgb(getComputedStyle(at).backgroundColor);
          if (c.length === 3 || c[3] === 1) return c;
        }
        return [255, 255, 255];
      };
      const found = [];
      for (const e of document.querySelectorAll("body *:not(svg *, script, style, noscript)")) {
        if (![...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim()) || !e.offsetParent) continue;
        const [a, b] = [luminance(rgb(getComputedStyle(e).color)), luminance(ground(e))].sort((x, y) => y - x);
        const least = e.matches(".key i") ? 3 : 4.5; // a marker is a graphic, as WCAG has it
        if ((a + 0.05) / (b + 0.05) < least) found.push([e.outerHTML.slice(0, 90), (a + 0.05) / (b + 0.05)]);
      }
      return found;
    })()""")
