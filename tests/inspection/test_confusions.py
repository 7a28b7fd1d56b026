"""The matrix opens to its queries; of many classes, pairs are shown."""

import re

import numpy as np
from memory import less_memory_than
from sklearn.utils import Bunch

from skimprint import ImprintClassifier
from skimprint.inspection import _confusions, _findings, report


def test_cells_hold_their_queries_beside_their_reasons(whole, data):
    clf, made = whole
    found = made.findings
    for i, j in zip(*np.nonzero(found.confusion), strict=True):
        panel = re.search(rf'id="cell-{i}-{j}".*?</section>', made.html, re.S)[0]
        n = len(clf.classes_)
        codes = np.where(found.codes < 0, n, found.codes)
        got = np.where(found.predicted < 0, n, found.predicted)
        rows = np.flatnonzero((codes == i) & (got == j))
        shown = [int(row) for row in re.findall(r"query text (\d+)", panel)]
        assert set(shown) <= set(rows.tolist())
        more = re.search(r"and (\d+) more", panel)
        assert len(shown) + (int(more[1]) if more else 0) == len(rows)
        why = clf.explain(data[2][shown[:1]])
        assert f"train text {why.rows[0, 0]}<" in panel
        assert f"<b>{why.label[0]}</b>" in panel


def test_many_classes_show_the_most_confused_pairs():
    rng = np.random.default_rng(0)
    y = np.arange(400) % 40
    X = rng.normal(size=(40, 8))[y] + rng.normal(size=(400, 8))
    clf = ImprintClassifier("mean").fit(X[:200], y[:200])
    made = report(clf, X[200:], y[200:])
    assert 'class="matrix"' not in made.html
    wrong = made.findings.confusion.copy()
    np.fill_diagonal(wrong, 0)
    pairs = re.findall(
        r"<summary><b>(\d+)</b> taken for <b>(\d+)</b> "
        r"<span class=count>· (\d+) of",
        made.html,
    )
    assert len(pairs) == 30
    counts = [int(n) for *_, n in pairs]
    assert counts == sorted(wrong.ravel().tolist(), reverse=True)[:30]
    for i, j, n in pairs:
        assert wrong[int(i), int(j)] == int(n)
    assert "The 30 pairs confused most often, of 40 classes." in made.html
    one = report(clf, [*clf.proxies_, clf.proxies_[0]], [*clf.classes_, 1])
    assert "The pair confused most often, of 40 classes." in one.html


def test_many_classes_take_no_memory_for_pairs_without_queries():
    n, rng = 3000, np.random.default_rng(0)
    codes, predicted = rng.integers(-1, n, (2, 400))
    codes[:200] = predicted[:200]
    # The matrix is what the report returns.
    with less_memory_than(1.1 * 4 * (n + 1) ** 2):
        found = Bunch(
            classes=np.arange(n),
            codes=codes,
            predicted=predicted,
            confusion=_findings.confusion(codes, predicted, n),
            why=Bunch(margin=rng.random(400)),
        )
        chosen = _confusions.chosen_queries(found)
    assert len(chosen) == 30
