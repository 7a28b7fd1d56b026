"""Check the built documentation: ``python tools/check_site.py docs/_build/html``.

From the start page, every public name and every method and property of a public class
is reached in three clicks. The guide links to each page of the API reference, and the
search knows each name. Links within the site lead somewhere, and what a docstring
refers to in skimprint has one. No page of the reference shows what Python says where
we have said nothing. No two pages have the same title, and each figure of an example
says what it shows.
"""

import importlib
import inspect
import pkgutil
import re
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urldefrag

import skimprint

CLICKS = 3
# Hooks of skl2onnx, which nobody calls; and what every tuple has.
HOOKS = ("onnx_converter", "onnx_parser", "onnx_shape_calculator", "count", "index")


# What Python says of fields of tuples, of lists, and of defaults without a short name.
STRAY = ("Alias for field", "Built-in ", "&lt;class ", "&lt;module ", " object at 0x")


class Page(HTMLParser):
    """What a page of the site links to, its own anchors, and what it lacks."""

    def __init__(self, path, root):
        super().__init__()
        self.path, self.root = path, root
        self.links, self.anchors = set(), set()
        text = path.read_text(encoding="utf-8")
        self.stray = [words for words in STRAY if words in re.sub("<[^>]*>", "", text)]
        unlinked = re.sub("<a .*?</a>", "", text, flags=re.DOTALL)
        codes = re.findall('<code class="xref.*?</code>', unlinked, re.DOTALL)
        self.unlinked = {re.sub(r"<[^>]*>|\(\)", "", code) for code in codes}
        self.title = re.search("<title>(.*?)</title>", text, re.DOTALL)
        self.unnamed = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        """Note what a tag links to, and what it is called."""
        attrs = dict(attrs)
        if attrs.get("id"):
            self.anchors.add(attrs["id"])
        # The name of its file is what a figure is called that has no title.
        if tag == "img" and (attrs.get("alt") or "").startswith("plot "):
            self.unnamed.append(attrs["src"])
        href = attrs.get("href") or ""
        if tag != "a" or not href or "://" in href:
            return
        target, anchor = urldefrag(href)
        target = (self.path.parent / target).resolve() if target else self.path
        if target.suffix == ".html" and target.is_relative_to(self.root):
            self.links.add((target, anchor))


def public_names():
    """Yield each public name, and each method and property of each public class."""
    modules = [info.name for info in pkgutil.iter_modules(skimprint.__path__)]
    for name in ["skimprint", *(f"skimprint.{m}" for m in modules if m[0] != "_")]:
        module = importlib.import_module(name)
        for exported in getattr(module, "__all__", ()):
            thing = getattr(module, exported)
            if getattr(thing, "__module__", name) != name and inspect.isclass(thing):
                continue  # its page is that of another module
            full = f"{name}.{exported}"
            yield full
            if inspect.isclass(thing):
                yield from (f"{full}.{member}" for member in members_of(thing))


def members_of(cls):
    """Yield the members of a class, except constants that its base describes."""
    bases = [base for base in cls.__mro__[1:] if base.__module__ == cls.__module__]
    for name in dir(cls):
        value = inspect.getattr_static(cls, name)
        plain = not (callable(value) or hasattr(value, "__get__"))
        described = plain and any(name in vars(base) for base in bases)
        if name[0] != "_" and name not in HOOKS and not described:
            yield name


def reached(start, pages):
    """Return the addresses that are reached in a few clicks."""
    seen, found = {start}, set()
    for _ in range(CLICKS):
        links = set().union(*(pages[page].links for page in seen if page in pages))
        found |= links
        seen |= {page for page, _ in links}
    return found


def main(root):
    root = Path(root).resolve()
    pages = {path: Page(path, root) for path in root.rglob("*.html")}
    anchors = {
        anchor for address, anchor in reached(root / "index.html", pages) if anchor
    }
    guide = [page for path, page in pages.items() if path.parent == root / "guide"]
    of_guide = {target for page in guide for target, _ in page.links}
    index = (root / "searchindex.js").read_text(encoding="utf-8")

    names = sorted(set(public_names()))
    problems = [
        f"no page of the guide links to {path.name}"
        for path in (root / "reference/generated").glob("*.html")
        if path not in of_guide
    ]
    for name in names:
        if name not in anchors:
            problems.append(f"{name} is not reached in {CLICKS} clicks")
        if f'"{name.rpartition(".")[2]}"' not in index:
            problems.append(f"{name} is not found by search")
    problems += [
        f"{path.relative_to(root)} links to {target.relative_to(root)}#{anchor}, "
        "which is not there"
        for path, page in pages.items()
        for target, anchor in page.links
        if target not in pages or (anchor and anchor not in pages[target].anchors)
    ]
    problems += [
        f"{path.name} says {words!r}"
        for path, page in pages.items()
        for words in page.stray
        if path.parent == root / "reference/generated"
    ]
    problems += [
        f"{path.name} refers to {name} without a link"
        for path, page in pages.items()
        for name in page.unlinked
        if name in names or f"skimprint.{name}" in names
    ]
    titles = Counter(page.title[1] for page in pages.values() if page.title)
    problems += [
        f"{n} pages have the title {title!r}" for title, n in titles.items() if n > 1
    ]
    problems += [
        f"{path.name} has a figure without a title: {image}"
        for path, page in pages.items()
        for image in page.unnamed
    ]
    print(*problems, sep="\n")
    print(f"{len(pages)} pages, {len(names)} public names, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
