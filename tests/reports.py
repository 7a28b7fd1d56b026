"""Classifiers to report on, and what a report has."""

from html.parser import HTMLParser

from skimprint import ImprintClassifier


class Outline(HTMLParser):
    """Reads a page, and refuses tags that are not closed in order."""

    VOID = frozenset({"br", "img", "link", "meta"})

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.text = [], [], []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.text.append(data)

    def all(self, tag, **attrs):
        return [a for t, a in self.tags if t == tag and attrs.items() <= a.items()]


def fitted(data, **params):
    clf = ImprintClassifier(**{"n_proxies": 3, "random_state": 0, **params})
    return clf.fit(*data[:2])
