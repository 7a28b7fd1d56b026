"""What a report finds, and what it refuses."""

import html
import re

import numpy as np
import pytest
from reports import Outline, fitted
from settings import spelt
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skimprint import ImprintClassifier, Rejection
from skimprint.aggregation import Votes
from skimprint.inspection import Report, report


class TestFindings:
    def test_numbers_are_those_of_the_classifier(self, whole, data):
        clf, made = whole
        found = made.findings
        _, _, queries, labels = data
        known = np.isin(labels, clf.classes_)
        assert found.n_known == known.sum()
        assert found.n_unknown == (~known).sum() > 0
        predicted = clf.predict(queries)
        right = predicted[known] == labels[known]
        assert found.accuracy == right.mean()
        assert found.accuracy_interval[0] < found.accuracy < found.accuracy_interval[1]
        of_each = [right[labels[known] == label].mean() for label in clf.classes_]
        np.testing.assert_allclose(found.by_class.recall, of_each)
        assert found.threshold == clf.rejection_threshold_
        rejected = clf.score_samples(queries) < clf.rejection_threshold_
        assert found.confusion[-1, -1] == np.sum(rejected & ~known)
        assert found.confusion.sum() == len(queries)
        assert found.auroc > 0.5
        confidence = clf.predict_proba(queries[known]).max(axis=1).mean()
        weights = found.reliability.n
        average = np.average(found.reliability.confidence, weights=weights)
        assert average == pytest.approx(confidence, rel=1e-5)
        assert (found.suspects.margins < 0).all()
        assert (np.diff(found.suspects.margins) >= 0).all()
        assert sum(map(len, found.stands_for)) == len(data[0])

    def test_no_slice_is_worse_because_it_is_rejected(self, data):
        """All that is rejected counts as wrong, and is the least familiar."""
        _, y, queries, labels = data
        known = np.isin(labels, y)
        for rejection in (None, Rejection("none", rate=0.4)):
            clf = fitted(data, whitening=None, rejection=rejection)
            made = report(clf, queries[known], labels[known])
            kinds = {part.kind for part in made.findings.slices}
            assert ("familiarity" in kinds) == (rejection is None)
            n_rejected = made.findings.confusion[:, -1].sum()
            shown = re.findall(r"; (\d+) rejected count as wrong", made.html)
            assert shown == ([str(n_rejected)] if n_rejected else [])
        assert n_rejected > 50

    @pytest.mark.parametrize("label", ["none", "digit 3"])
    def test_what_is_rejected_is_what_predict_says(self, data, label):
        _, _, queries, labels = data
        clf = fitted(data, rejection=Rejection(label, rate=0.3))
        made = report(clf, queries, labels)
        known = np.isin(labels, clf.classes_)
        got = clf.predict(queries)
        assert made.findings.accuracy == np.mean((got == labels)[known])
        names = [*clf.classes_, label]
        for i, j in np.ndindex(8, 8):
            count = np.sum((labels == names[i]) & (got == names[j]))
            assert made.findings.confusion[i, j] == count
        has_class = label in clf.classes_
        assert (made.findings.confusion[:, -1].sum() == 0) == has_class
        assert ("rejected as <b>digit 3</b>, nearest to" in made.html) == has_class

    @pytest.mark.parametrize(
        "params",
        [
            {"aggregation": Votes(3)},
            {"metric": "euclidean"},
            {"metric": "mahalanobis"},
            {"generator": "all"},
            {"generator": "least_squares", "n_proxies": 1},
            {"kernel_weight": 0.5, "whitening": 0.3, "mean_weight": 0.5},
            {"query_norm": None},
            {"aggregation": lambda similarities, codes: similarities[:, :8]},
        ],
        ids=spelt,
    )
    def test_every_setting_has_a_report(self, data, params):
        X, y, queries, labels = data
        clf = fitted(data, **params)
        made = report(clf, queries, labels, X_train=X, y_train=y)
        Outline(made.html)
        known = np.isin(labels, clf.classes_)
        expected = clf.score(queries[known], labels[known])
        assert made.findings.accuracy == pytest.approx(expected)

    def test_with_nothing_but_queries(self, data):
        made = report(fitted(data), data[2], data[3])
        assert made.findings.suspects is None
        assert made.findings.threshold is None
        page = Outline(made.html)
        assert any("Pass " in text for text in page.text)
        assert "query 3" in made.html

    def test_only_unknown_queries(self, data):
        made = report(fitted(data), data[2][:5], ["other"] * 5)
        assert np.isnan(made.findings.accuracy)
        Outline(made.html)

    def test_no_queries(self, data):
        with pytest.raises(ValueError, match=r"0 sample\(s\)"):
            report(fitted(data), data[2][:0], [])

    def test_one_class(self, data):
        X, y, queries, labels = data
        of_one, asked = y == y[0], labels == y[0]
        clf = ImprintClassifier("mean").fit(X[of_one], y[of_one])
        made = report(
            clf, queries[asked], labels[asked], X_train=X[of_one], y_train=y[of_one]
        )
        assert made.findings.accuracy == 1
        Outline(made.html)

    def test_classes_that_come_and_go(self, data):
        X, y, queries, labels = data
        clf = fitted(data)
        clf.partial_fit(X[:2] + 1, ["new", "new"])
        clf.forget("digit 3")
        made = report(
            clf,
            queries,
            labels,
            X_train=np.concatenate([X, X[:2] + 1]),
            y_train=[*y, "new", "new"],
        )
        assert "digit 3" not in made.findings.classes
        assert "digit 3" not in made.findings.suspects.labels
        Outline(made.html)

    def test_classes_without_weight(self, data):
        X, y, queries, labels = data
        weights = 1.0 * (y != "digit 3")
        clf = ImprintClassifier("mean").fit(X, y, sample_weight=weights)
        made = report(clf, queries, labels, X_train=X, y_train=y)
        assert made.findings.by_class.recall[3] == 0
        Outline(made.html)


@pytest.mark.parametrize("suffix", ["", ".jpg", ".wav"])
def test_names_of_files_are_no_texts(data, suffix):
    if suffix == ".jpg":
        pytest.importorskip("PIL", reason="needs Pillow")
    X, y, *_ = data
    labels = np.where(np.arange(len(y)) < 50, y[::-1], y)  # the first are wrong
    items = [f"{'long ' * (row < 50)}{row}{suffix}" for row in range(len(y))]
    found = report(fitted(data), X, labels, items).findings.slices
    assert any(part.kind == "length of the text" for part in found) == (not suffix)


def test_a_head_has_no_samples():
    clf = ImprintClassifier.from_head(np.eye(3), ["a", "b", "c"], generator="mean")
    made = report(clf, np.eye(3), ["a", "b", "b"])
    assert "a row of the head" in made.html
    clf.partial_fit([[1.0, 1.0, 0.0]], ["d"])
    made = report(clf, np.eye(3), list("abc"), X_train=[[1.0, 1, 0]], y_train=["d"])
    assert made.findings.accuracy == 1
    Outline(made.html)


def test_it_shows_itself_and_is_saved(whole, tmp_path):
    _, made = whole
    frame = made._repr_html_()
    assert frame.startswith("<iframe ")
    (attrs,) = Outline(frame).all("iframe")
    assert attrs["srcdoc"] == made.html
    assert attrs["sandbox"] == "allow-scripts"
    made.save(tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text("utf-8") == made.html
    assert isinstance(made, Report)
    assert repr(made).startswith("Report(n_queries=250, accuracy=0.")
    assert html.unescape(made.findings.title) == "ImprintClassifier of 8 classes"


class TestRefusals:
    def test_sizes(self, data):
        X, y, queries, labels = data
        clf = fitted(data)
        for options, message in (
            ({"items": ["a"]}, "items must have an item for each of 250 samples"),
            ({"train_items": ["a"]}, "train_items must have an item for each of 250"),
            ({"X_train": X}, "X_train needs y_train"),
            (
                {"X_train": X[:3], "y_train": y[:3]},
                "of all 250 samples that were learnt",
            ),
            (
                {"X_train": X[:3], "y_train": y},
                "a label for each of 3 samples; got an array",
            ),
        ):
            with pytest.raises(ValueError, match=message):
                report(clf, queries, labels, **options)
        with pytest.raises(ValueError, match="y must have a label for each of 250"):
            report(clf, queries, labels[:3])

    @pytest.mark.parametrize("dtype", [str, object, int, np.uint64, float, bool])
    def test_training_samples_in_another_order(self, data, dtype):
        X, y = data[:2]
        y = np.array([int(label[-1]) for label in y])
        y = (y % 2 if dtype is bool else y).astype(str if dtype is object else dtype)
        y = y.astype(dtype)
        clf = fitted((X, y))
        report(clf, X[:3], y[:3], X_train=X.astype(float) * 2, y_train=y.tolist())
        of_class = np.argsort(y, kind="stable")
        for rows, labels in (
            (slice(None, None, -1), slice(None, None, -1)),
            (of_class, of_class),
            (slice(None, None, -1), slice(None)),
            (slice(None), of_class),
        ):
            with pytest.raises(ValueError, match=r"row \d+, of label .* was another"):
                report(clf, X[:3], y[:3], X_train=X[rows], y_train=y[labels])
        for params in ({}, {"generator": "mean"}, {"temperature": 1.0}):
            for clf in (fitted((X, y), **params), fitted((X, y), **params).compact()):
                with pytest.raises(ValueError, match=r"Pass what fit was given, and"):
                    report(clf, X[:3], y[:3], y_train=y[of_class])

    @pytest.mark.parametrize("generator", ["mean", "kmeans", "kmedoids", "all"])
    @pytest.mark.parametrize("norm", ["auto", "power", None])
    def test_training_samples_in_their_order(self, data, generator, norm):
        X, y = data[:2]
        weights = np.arange(len(X)) % 3  # some are zero
        parts = [slice(0, 80), slice(80, 120), slice(120, 200), slice(200, 250)]
        params = {"generator": generator, "support_norm": norm, "query_norm": norm}
        clf = fitted((X[parts[0]], y[parts[0]]), **params)
        clf.partial_fit(X[parts[1]], y[parts[1]], sample_weight=weights[parts[1]])
        clf.forget(y[0])
        clf.merge(fitted((X[parts[2]], y[parts[2]]), **params))
        clf.partial_fit(X[parts[3]], y[parts[3]])
        made = report(clf, X[:3], y[:3], X_train=X, y_train=y)
        assert made.findings.suspects.n
        with pytest.raises(ValueError, match=r"row \d+, of label .* was another"):
            report(clf, X[:3], y[:3], X_train=np.roll(X, 1, 0), y_train=np.roll(y, 1))

    def test_items_that_are_not_all_that_were_learnt(self):
        """What is wrong has the name that the user gave it."""
        texts, y = ["aab", "baa", "ccd", "dcc"], ["first", "first", "last", "last"]
        model = make_pipeline(
            FunctionTransformer(lambda X: [[x.count(c) for c in "abcd"] for x in X]),
            ImprintClassifier("mean"),
        ).fit(texts, y)
        with pytest.raises(ValueError, match=r"^y_train must have the labels of all 4"):
            report(model, texts, y, X_train=texts[:3], y_train=y[:3])
        with pytest.raises(ValueError, match=r"^y_train must .* each of 3 samples"):
            report(model, texts, y, X_train=texts[:3], y_train=y)
        for wrong in ("one text", 5, {}):
            for name in ("items", "train_items"):
                with pytest.raises((TypeError, ValueError), match=f"^{name} cannot be"):
                    report(model, texts, y, **{name: wrong})
        with pytest.raises(TypeError, match=r"^clf must be an ImprintClassifier"):
            report(texts, y, model)

    def test_training_samples_that_are_no_numbers(self, data):
        X, y, queries, labels = data
        clf, X = fitted(data), X.copy()
        X[7, 0] = np.nan
        with pytest.raises(ValueError, match=r"^X_train contains NaN: rows \[7\]"):
            report(clf, queries, labels, X_train=X, y_train=y)

    def test_a_compact_classifier_does_not_know_its_samples(self, data):
        X, y, queries, labels = data
        compact = fitted(data, kernel_weight=0.5).compact()
        assert report(compact, queries, labels, y_train=y).findings.n_known
        with pytest.raises(ValueError, match="which samples a proxy stands for"):
            report(compact, queries, labels, X_train=X, y_train=y)


def test_a_column_of_labels_is_taken_as_by_fit(data):
    X, y, queries, labels = data
    clf = fitted(data)
    given = {"X_train": X, "y_train": y}
    expected = report(clf, queries, labels, **given)
    given["y_train"] = y[:, None]
    with pytest.warns(UserWarning, match="column-vector") as warned:
        found = report(clf, queries, labels[:, None], **given)
    assert found.html == expected.html
    assert len(warned) == 2  # for each of the columns


def test_the_label_of_a_rejection_is_plain_text(data):
    _, _, queries, labels = data
    for label in ("none", np.str_("none")):
        clf = fitted(data, rejection=Rejection(label))
        page = html.unescape(report(clf, queries, labels).html)
        assert "get the label 'none'." in page


@pytest.mark.parametrize("kind", ["bfloat16", "requires_grad"])
def test_tensors_that_numpy_cannot_read(kind):
    torch = pytest.importorskip("torch", reason="needs torch")
    X, y = np.eye(4, dtype=np.float32), [0, 1, 2, 3]
    tensor = torch.tensor(X)
    tensor = tensor.requires_grad_() if kind == "requires_grad" else tensor.bfloat16()
    found = report(
        ImprintClassifier("mean").fit(X, y), tensor, y, X_train=tensor, y_train=y
    )
    assert found.findings.accuracy == 1
