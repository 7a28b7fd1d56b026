"""What a report says, that it is escaped, small, and stands alone."""

import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from embedders import Lengths, mean_colour
from scipy.sparse import csr_array
from settings import spelt
from sklearn.cluster import BisectingKMeans
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skimprint import (
    FoundationEmbedder,
    ImprintClassifier,
    ImprintClassifierCV,
    Rejection,
)
from skimprint.aggregation import Votes
from skimprint.inspection import (
    ExplanationDisplay,
    FamiliarityDisplay,
    ProxyDisplay,
    Report,
    _cards,
    report,
)

EVIL = "<script>alert('&\"')</script>"


class Outline(HTMLParser):
    """Reads a page, and refuses tags that are not closed in order."""

    VOID = frozenset(
        {"br", "img", "link", "meta", "circle", "rect", "line", "polyline"}
    )

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


@pytest.fixture(scope="module")
def data(digits):
    X, y = digits
    names = np.array([f"digit {label}" for label in y])
    known = y < 8
    return X[known][:250], names[known][:250], X[250:], names[250:]


def fitted(data, **params):
    clf = ImprintClassifier(**{"n_proxies": 3, "random_state": 0, **params})
    return clf.fit(*data[:2])


@pytest.fixture(scope="module")
def whole(data):
    """A report with all that there is to say."""
    clf = fitted(data, temperature="auto", rejection=Rejection("none", rate=0.1))
    X, y, queries, labels = data
    items = [f"query text {i}" for i in range(len(queries))]
    train = [f"train text {i}" for i in range(len(X))]
    return clf, report(
        clf, queries, labels, items, X_train=X, y_train=y, train_items=train
    )


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

    def test_labels_of_another_type(self, data):
        with pytest.raises(ValueError, match=r"such as 'digit 0'; got 3"):
            report(fitted(data), data[2][:2], [3, 4])

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
        for chart in page.all("svg"):
            assert chart["aria-label"]
        assert [a for a in page.all("html") if a["lang"] == "en"]

    def test_cells_hold_their_queries_beside_their_reasons(self, whole, data):
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

    def test_nothing_is_loaded(self, whole):
        _, made = whole
        page = Outline(made.html)
        for _, attrs in page.tags:
            assert not {"src", "srcset", "action", "data"} & attrs.keys()
            assert attrs.get("href", "#").startswith("#")
        assert "url(" not in made.html
        assert "://" not in made.html
        (policy,) = page.all("meta", **{"http-equiv": "Content-Security-Policy"})
        assert policy["content"].startswith("default-src 'none'; img-src data:")

    def test_many_classes_show_the_most_confused_pairs(self):
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


@pytest.fixture(scope="module")
def pictures():
    pytest.importorskip("PIL", reason="needs pillow")
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (120, 160, 3), dtype=np.uint8) for _ in range(700)]


class TestPictures:
    def test_500_take_at_most_3_megabytes(self, pictures):
        rng = np.random.default_rng(1)
        X, y = rng.normal(size=(700, 4)), np.arange(700) % 4
        clf = ImprintClassifier("kmeans", n_proxies=20, random_state=0)
        clf.fit(X[:350], y[:350])
        made = report(
            clf,
            X[350:],
            y[350:],
            pictures[350:],
            X_train=X[:350],
            y_train=y[:350],
            train_items=pictures[:350],
        )
        stored = json.loads(
            re.search(r'id="pictures">(.*?)</script>', made.html, re.S)[1]
        )
        assert 100 < len(stored) <= _cards.MAX_PICTURES
        assert len(json.dumps(stored)) / len(stored) * 500 <= 3e6
        assert len(made.html) <= 3.5e6
        numbers = {int(a["data-picture"]) for a in Outline(made.html).all("img")}
        assert numbers == {*range(len(stored))}

    def test_a_picture_that_cannot_be_shown_is_named(self, data):
        pytest.importorskip("PIL", reason="needs pillow")
        made = report(
            fitted(data), data[2][:3], data[3][:3], ["bad.jpg", b"nothing", "text"]
        )
        assert "bad.jpg (cannot be shown: " in made.html

    def test_a_pipeline_takes_items(self, pictures, tmp_path):
        from PIL import Image

        paths = []
        for i, picture in enumerate(pictures[:12]):
            paths.append(tmp_path / f"picture {i}.png")
            Image.fromarray(picture // (1 + i % 2)).save(paths[-1])
        y = ["light", "dark"] * 6
        embedder = FoundationEmbedder(mean_colour, modality="image")
        model = make_pipeline(embedder, ImprintClassifier("all")).fit(paths, y)
        made = report(model, paths, y, X_train=paths, y_train=y)
        assert made.findings.accuracy == 1
        assert "Items are embedded by FoundationEmbedder." in made.html
        images = Outline(made.html).all("img")
        assert {a["alt"] for a in images} == {path.name for path in paths}


def test_texts_in_a_pipeline_and_in_searches():
    texts = [f"{'long ' * (i % 2)}text {i}" for i in range(12)]
    y = ["short", "long"] * 6
    model = make_pipeline(
        FoundationEmbedder(Lengths(), modality="text"), ImprintClassifier("mean")
    )
    expected = report(model.fit(texts, y), texts, y).html
    assert "long text 1" in expected
    grid = {"imprintclassifier__generator": ["mean"]}
    assert report(GridSearchCV(model, grid, cv=2).fit(texts, y), texts, y).html == (
        expected
    )
    X = model[:-1].transform(texts)
    search = ImprintClassifierCV(ImprintClassifier(), {"generator": ["mean"]}, cv=2)
    assert report(search.fit(X, y), X, y, texts).findings.n_known == 12


@pytest.mark.parametrize(
    "wrap, embedder",
    [
        (lambda clf: make_pipeline(clf), None),
        (lambda clf: make_pipeline(None, make_pipeline("passthrough", clf)), None),
        (
            lambda clf: make_pipeline(StandardScaler(), make_pipeline(PCA(9), clf)),
            "StandardScaler, PCA",
        ),
        (
            lambda clf: make_pipeline(PCA(9), make_pipeline(PCA(5), clf)),
            "PCA, PCA",
        ),
    ],
)
def test_pipelines_of_every_shape(data, wrap, embedder):
    X, y, queries, labels = data
    model = wrap(ImprintClassifier("mean")).fit(X, y)
    findings = report(model, queries, labels, X_train=X, y_train=y).findings
    assert findings.embedder == embedder
    known = np.isin(labels, model.classes_)
    right = model.predict(queries) == labels
    assert findings.accuracy == pytest.approx(right[known].mean())


def test_frames_and_their_names(data):
    pd = pytest.importorskip("pandas", reason="needs pandas")
    pytest.importorskip("matplotlib", reason="needs matplotlib").use("Agg")
    X, y, queries, labels = data
    names = [f"f{i}" for i in range(X.shape[1])]
    X, queries = pd.DataFrame(X, columns=names), pd.DataFrame(queries, columns=names)
    clf = ImprintClassifier("mean").fit(X, y)
    made = report(clf, queries, labels, X_train=X, y_train=pd.Series(y))
    expected = report(
        ImprintClassifier("mean").fit(X.to_numpy(), y),
        queries.to_numpy(),
        labels,
        X_train=X.to_numpy(),
        y_train=y,
    )
    assert made.html == expected.html
    assert hasattr(clf, "feature_names_in_")
    for display in (ExplanationDisplay, FamiliarityDisplay, ProxyDisplay):
        display.from_estimator(clf, queries[:5], labels[:5])
    with pytest.raises(ValueError, match="feature names"):
        report(clf, queries.rename(columns={"f0": "other"}), labels)


def test_tables_in_a_pipeline_are_features(data):
    pd = pytest.importorskip("pandas", reason="needs pandas")
    X, y, queries, labels = data
    model = make_pipeline(StandardScaler(), ImprintClassifier("mean"))
    expected = report(model.fit(X, y), queries, labels, X_train=X, y_train=y)
    X, queries = pd.DataFrame(X), pd.DataFrame(queries)
    found = report(model.fit(X, y), queries, labels, X_train=X, y_train=y)
    assert found.html == expected.html


@pytest.mark.parametrize("kind", ["frame", "sparse"])
def test_tables_in_a_pipeline_are_no_items(data, kind):
    pytest.importorskip("matplotlib", reason="needs matplotlib").use("Agg")
    X, y, queries, labels = data
    model = make_pipeline(TruncatedSVD(9), ImprintClassifier("mean"))
    expected = report(model.fit(X, y), queries, labels, X_train=X, y_train=y)
    pd = pytest.importorskip("pandas", reason="needs pandas")
    table = pd.DataFrame if kind == "frame" else csr_array
    found = report(model, table(queries), labels, X_train=table(X), y_train=y)
    assert found.findings.accuracy == expected.findings.accuracy
    for display in (ExplanationDisplay, FamiliarityDisplay, ProxyDisplay):
        display.from_estimator(model, table(queries[:5]), labels[:5])


def test_what_is_no_table_is_named(data):
    X, y, queries, labels = data
    clf = ImprintClassifier("mean").fit(X, y)
    with pytest.raises(TypeError, match="Expected sequence or array-like, got"):
        report(clf, (row for row in queries), labels)
    with pytest.raises(TypeError, match=r"Sparse data was passed .* Use .\.toarray"):
        report(clf, csr_array(queries), labels)


@pytest.mark.parametrize("suffix", ["", ".jpg", ".wav"])
def test_names_of_files_are_no_texts(data, suffix):
    if suffix == ".jpg":
        pytest.importorskip("PIL", reason="needs Pillow")
    X, y, *_ = data
    labels = np.where(np.arange(len(y)) < 50, y[::-1], y)  # the first are wrong
    items = [f"{'long ' * (row < 50)}{row}{suffix}" for row in range(len(y))]
    found = report(fitted(data), X, labels, items).findings.slices
    assert any(part.kind == "length of the text" for part in found) == (not suffix)


def first_rows(X_c, n_proxies, random_state):
    return X_c[:n_proxies]


@pytest.mark.parametrize(
    "params, words",
    [
        ({"n_proxies": np.int64(3)}, "up to 3 proxies by k-means"),
        ({"n_proxies": {f"digit {i}": 1 for i in range(8)}}, "its own number of prox"),
        ({"generator": BisectingKMeans()}, "up to 20 proxies by BisectingKMeans"),
        ({"generator": first_rows, "n_proxies": 2}, "up to 2 proxies by first_rows"),
    ],
    ids=["number", "numbers", "clusterer", "function"],
)
def test_how_proxies_were_made_in_words(data, params, words):
    X, y, queries, labels = data
    clf = ImprintClassifier(**params, random_state=0).fit(X, y)
    assert f"Each class gets {words}" in report(clf, queries, labels).html


@pytest.mark.parametrize(
    "params, words",
    [
        ({"support_norm": None, "query_norm": "l2"}, "Queries get unit length"),
        ({"support_norm": "l2", "query_norm": None}, "Queries stay as they are"),
        ({"support_norm": None, "query_norm": np.tanh}, "Queries go through tanh"),
        ({"proxy_norm": "l2"}, "Proxies get unit length"),
        ({"proxy_norm": None}, "Proxies stay as they are"),
        ({"proxy_norm": "quantile"}, "Proxies get the distribution of values"),
        ({"aggregation": Votes(1)}, "By the product, the nearest proxy votes."),
        ({"aggregation": "mnn"}, "By the product, the 5 nearest proxies vote."),
        (
            {"aggregation": Votes(9, "distance"), "metric": "cosine"},
            "By the cosine, the 8 nearest proxies vote, the nearer the more.",
        ),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:n_neighbors=9 is more")
def test_norms_and_votes_in_words(data, params, words):
    X, y, queries, labels = data
    clf = ImprintClassifier("mean", **params).fit(X, y)
    assert words in report(clf, queries, labels).html


@pytest.mark.parametrize("norm", ["l2", "power", None, np.tanh])
def test_queries_that_are_treated_as_the_support_have_no_words(data, norm):
    X, y, queries, labels = data
    for of_queries in ("auto", norm):
        clf = ImprintClassifier("mean", support_norm=norm, query_norm=of_queries)
        page = report(clf.fit(X, y), queries, labels).html
        assert "features" in page
        assert re.search("Queries (get|become|stay|go)", page) is None


class Narrow(ImprintClassifier):
    def __init__(self, n_proxies=2):
        super().__init__("kmeans", n_proxies, random_state=0, query_norm="power")


def test_a_subclass_may_take_fewer_parameters(data):
    X, y, queries, labels = data
    clf = Narrow().fit(X, y)
    params = {name: getattr(clf, name) for name in ImprintClassifier().get_params()}
    expected = ImprintClassifier(**params).fit(X, y)
    expected = report(expected, queries, labels).html
    found = report(clf, queries, labels).html
    assert found.replace("Narrow", "ImprintClassifier") == expected


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

    def test_other_estimators(self, data):
        with pytest.raises(TypeError, match="ends with one; got Rejection"):
            report(Rejection("x"), data[2], data[3])

    def test_arguments_in_another_order(self, data):
        with pytest.raises(TypeError, match="ends with one; got ndarray"):
            report(data[2], data[3], fitted(data))

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

    def test_a_compact_classifier_does_not_know_its_samples(self, data):
        X, y, queries, labels = data
        compact = fitted(data, kernel_weight=0.5).compact()
        assert report(compact, queries, labels, y_train=y).findings.n_known
        with pytest.raises(ValueError, match="which samples a proxy stands for"):
            report(compact, queries, labels, X_train=X, y_train=y)
