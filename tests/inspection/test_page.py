"""A page is well-formed, escapes what users wrote, and stands alone."""

import re
from pathlib import Path

import numpy as np
import pytest
from reports import Outline

from skimprint import ImprintClassifier, Rejection
from skimprint.inspection import _page, report

EVIL = "<script>alert('&\"')</script>"


class TestPage:
    def test_it_is_well_formed_and_names_what_it_shows(self, whole):
        _, made = whole
        page = Outline(made.html)
        ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
        assert len(ids) == len(set(ids))
        for link in page.all("a"):
            assert link["href"][1:] in ids
        for button in page.all("button"):
            assert button["aria-controls"] in ids
            assert button["aria-label"]
        for chart in page.all("img", **{"class": "chart"}):
            assert chart["alt"]
        assert [a for a in page.all("html") if a["lang"] == "en"]

    def test_text_from_right_to_left_turns_no_numbers_around(self, digits):
        X, y = digits
        names = np.array(["שלום", "مرحبا"])[y % 2]
        clf = ImprintClassifier("mean").fit(X[:40], names[:40])
        page = report(clf, X[40:], names[40:]).html
        assert "<summary><bdi>שלום</bdi> <span class=count>" in page
        assert re.search(r"<td class=\"words\"><bdi>שלום</bdi> \(\d+\)", page)
        assert "b, .text { unicode-bidi: isolate; }" in page

    def test_whatever_comes_from_the_user_is_escaped(self, data):
        X, y, queries, labels = data
        y = np.where(y == "digit 2", EVIL, y)
        labels = np.where(labels == "digit 2", EVIL, labels)
        clf = ImprintClassifier("kmeans", n_proxies=2, random_state=0)
        clf.set_params(rejection=Rejection(EVIL + "?", threshold=0.9)).fit(X, y)
        made = report(
            clf,
            queries,
            labels,
            [EVIL] * len(queries),
            X_train=X,
            y_train=y,
            train_items=[EVIL] * len(X),
        )
        assert "<script>alert" not in made.html
        page = Outline(made.html)
        assert len(page.all("script")) == 2
        assert sum(text.count(EVIL) for text in page.text) > 20
        assert "<script>alert" not in made._repr_html_()

    def test_half_a_surrogate_pair_is_shown_as_an_escape(self, tmp_path):
        """A name of a file that is no UTF-8 has one, where Python reads it."""
        pytest.importorskip("PIL", reason="needs pillow")
        clf = ImprintClassifier("mean").fit(np.eye(2), ["a\udcff", "b"])
        made = report(clf, np.eye(2), ["a\udcff", "b"], [Path("c\udcfe"), "d\udcfd"])
        made.save(tmp_path / "report.html")
        page = (tmp_path / "report.html").read_text("utf-8")
        assert page == made.html
        assert all(text in page for text in (r"a\udcff", r"c\udcfe", r"d\udcfd"))

    @pytest.mark.parametrize("are_known", [True, False])
    def test_of_many_classes_those_that_do_worst_are_listed(
        self, monkeypatch, are_known
    ):
        monkeypatch.setattr(_page, "_MAX_CLASSES", 15)
        names = np.array([f"name {i:02d}" for i in range(40)])
        clf = ImprintClassifier("mean").fit(np.eye(40), names)
        is_taken = np.isin(np.arange(40), [3, 18])  # for the first class
        X = np.where(is_taken[:, None], np.eye(40)[0], np.eye(40))
        y = names if are_known else [f"other {name}" for name in names]
        page = report(clf, X, y).html
        table = re.findall(r"<tr><th scope=row>(name \d+)</th>", page)
        learnt = re.findall(r"<summary><bdi>(name \d+)</bdi>", page)
        assert len(learnt) == 15
        assert learnt == sorted(learnt)
        if are_known:
            assert table[:2] == ["name 03", "name 18"]
            assert sorted(table) == learnt
            assert "come first, 15 of 40, by" in page
            assert "<summary>15 of 40 classes: those that do worst</summary>" in page
        else:
            assert table == []
            assert "<summary>15 of 40 classes</summary>" in page
        monkeypatch.undo()
        page = report(clf, X, y).html
        assert len(re.findall(r"<summary><bdi>name \d+</bdi>", page)) == 40
        assert "<summary>All 40 classes</summary>" in page

    def test_nothing_is_loaded(self, whole):
        _, made = whole
        page = Outline(made.html)
        for _, attrs in page.tags:
            assert not {"srcset", "action", "data"} & attrs.keys()
            assert attrs.get("src", "data:").startswith("data:")
            assert attrs.get("href", "#").startswith("#")
        assert "url(" not in made.html
        assert "://" not in made.html
        (policy,) = page.all("meta", **{"http-equiv": "Content-Security-Policy"})
        assert policy["content"].startswith("default-src 'none'; img-src data:")
