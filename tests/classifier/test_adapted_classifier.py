"""A classifier that is there and a few samples, together."""

import contextlib
import pickle
import warnings

import numpy as np
import pytest
from scipy.special import log_softmax, softmax
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import IsolationForest, RandomForestClassifier
from sklearn.exceptions import NotFittedError, SkipTestWarning
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import LabelEncoder, Normalizer
from sklearn.svm import SVC
from sklearn.utils.estimator_checks import check_estimator
from sklearn.utils.metaestimators import available_if

from skimprint import AdaptedClassifier, ImprintClassifier, Rejection
from skimprint._arrays.device import to_host
from skimprint.datasets import load_digits_embeddings


@pytest.fixture(scope="module")
def digits():
    """A layer, samples that it has not seen, and queries."""
    X, y = load_digits_embeddings(return_X_y=True)
    X = X[:, :128].astype(np.float64)
    layer = LogisticRegression(max_iter=1000).fit(X[:150], y[:150])
    return layer, (X[150:1000], y[150:1000]), (X[1000:], y[1000:])


def shots(data, n, seed=0):
    X, y = data
    rng = np.random.default_rng(seed)
    rows = [rng.permutation(np.flatnonzero(y == c))[:n] for c in np.unique(y)]
    rows = rng.permutation(np.concatenate(rows))
    return X[rows], y[rows]


@pytest.mark.parametrize("n_shots", [1, 2, 5, 20])
@pytest.mark.parametrize("setting", ["default", "qi", "recommended"])
def test_scores_are_a_weighted_sum(digits, n_shots, setting):
    layer, data, (X, _) = digits
    imprint = ImprintClassifier() if setting == "default" else None
    imprint = imprint or ImprintClassifier.from_method(setting)
    clf = AdaptedClassifier(layer, imprint).fit(*shots(data, n_shots))
    scores = clf.weights_[0] * layer.decision_function(X)
    scores += clf.weights_[1] * clf.imprint_.decision_function(X)
    np.testing.assert_allclose(clf.decision_function(X), scores)
    np.testing.assert_allclose(clf.predict_log_proba(X), log_softmax(scores, axis=1))
    np.testing.assert_allclose(clf.predict_proba(X), np.exp(clf.predict_log_proba(X)))
    np.testing.assert_array_equal(clf.predict(X), clf.classes_[scores.argmax(axis=1)])
    assert clf.share_ in [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1]
    assert n_shots > 1 or clf.share_ == 0.2


def test_share_is_that_of_samples_left_out_one_by_one(digits):
    # The oracle fits again without each sample.
    _, data, _ = digits
    layer = LogisticRegression(max_iter=1000).fit(data[0][:60], data[1][:60])
    X, y = shots((data[0][60:], data[1][60:]), 3)
    imprint = ImprintClassifier(
        "mean", whitening=None, support_norm="l2", query_norm="l2"
    )
    clf = AdaptedClassifier(layer, imprint).fit(X, y)
    without = [
        clone(imprint).fit(np.delete(X, i, 0), np.delete(y, i)).decision_function([x])
        for i, x in enumerate(X)
    ]
    of_imprint = np.concatenate(without) / clf.imprint_.temperature_
    assert 0 < clf.share_ < 1
    # What both are divided by after their own temperatures is the same.
    ratio = clf.weights_[0] / (1 - clf.share_) / (clf.weights_[1] / clf.share_)
    of_layer = layer.decision_function(X) * ratio / clf.imprint_.temperature_

    def loss(share):
        mixed = (1 - share) * of_layer + share * of_imprint
        return min(
            log_loss(y, softmax(mixed / t, axis=1)) for t in np.geomspace(0.05, 5, 50)
        )

    losses = [loss(share) for share in np.linspace(0, 1, 11)]
    assert losses[round(10 * clf.share_)] <= min(losses) + 2e-3


def test_is_better_than_both(digits):
    layer, data, (X, y) = digits
    of_layer = layer.score(X, y)
    for n_shots in (2, 5, 10):
        draws = [shots(data, n_shots, seed) for seed in range(5)]
        few = np.mean([ImprintClassifier().fit(*draw).score(X, y) for draw in draws])
        adapted = [AdaptedClassifier(layer).fit(*draw).score(X, y) for draw in draws]
        assert np.mean(adapted) > max(of_layer, few), n_shots


def test_samples_count_where_each_share_finds_their_classes(digits):
    # By the likelihood alone all such shares are equally good, and the least was taken.
    _, (X, y), _ = digits
    rng = np.random.default_rng(0)
    X, y = X[y < 2], y[y < 2]
    weak = LogisticRegression(max_iter=1000).fit(
        X[:40] + rng.normal(0, 0.5, X[:40].shape), y[:40]
    )
    found = [
        AdaptedClassifier(weak).fit(*shots((X[40:], y[40:]), 5, seed)).share_
        for seed in range(5)
    ]
    assert np.mean(found) > 0.3


def test_classes_of_one_sample_beside_large_ones(digits):
    # What is left out of large classes says nothing of them.
    layer, data, (X, y) = digits
    found = []
    for seed in range(3):
        X_few, y_few = shots(data, 20, seed)
        places = np.arange(len(y_few))
        first = np.array([np.flatnonzero(y_few == c)[0] for c in y_few])
        for n_alone in (0, 1, 5, 10):
            kept = (y_few >= n_alone) | (places == first)
            clf = AdaptedClassifier(layer).fit(X_few[kept], y_few[kept])
            found.append((n_alone, clf.share_, clf.score(X, y)))
    share, accuracy = (
        {n: np.mean([row[i] for row in found if row[0] == n]) for n in (0, 1, 5, 10)}
        for i in (1, 2)
    )
    assert share[0] > share[1] > share[5] > share[10] == pytest.approx(0.2)
    assert accuracy[5] > layer.score(X, y)


def test_no_temperature_makes_probabilities_much_better(digits):
    layer, data, (X, y) = digits
    losses = []
    for seed in range(5):
        clf = AdaptedClassifier(layer).fit(*shots(data, 5, seed))
        scores = clf.decision_function(X)
        scaled = (softmax(scores / t, axis=1) for t in (1, *np.geomspace(0.5, 2, 9)))
        losses.append([log_loss(y, probabilities) for probabilities in scaled])
    of_clf, *others = np.mean(losses, axis=0)
    assert of_clf < min(others) + 0.02


def test_useless_estimator_gets_no_share(digits):
    _, data, (X, y) = digits
    rng = np.random.default_rng(0)
    useless = KNeighborsClassifier(1).fit(data[0][:300], rng.integers(10, size=300))
    support = shots(data, 20)
    clf = AdaptedClassifier(useless).fit(*support)
    assert clf.share_ >= 0.9
    few = ImprintClassifier().fit(*support).score(X, y)
    assert clf.score(X, y) == pytest.approx(few, abs=0.01)


def test_estimator_that_knows_all_keeps_its_share(digits):
    _, data, queries = digits
    X, y = data[0], data[1]
    good = SVC(C=10).fit(np.concatenate([X, queries[0]]), np.r_[y, queries[1]])
    clf = AdaptedClassifier(good).fit(*shots(data, 2))
    assert clf.share_ <= 0.3
    assert clf.score(*queries) >= good.score(*queries) - 0.01


@pytest.mark.parametrize("labels", [["no", "yes"], [False, True], [3, 7]])
def test_two_classes_of_any_label(digits, labels):
    _, (X, y), (queries, _) = digits
    X, y = X[y < 2], np.array(labels)[y[y < 2]]
    layer = LogisticRegression(max_iter=1000).fit(X[:50], y[:50])
    clf = AdaptedClassifier(layer).fit(X[50:60], y[50:60])
    scores = clf.decision_function(queries)
    assert scores.shape == (len(queries),)
    np.testing.assert_array_equal(clf.predict(queries), clf.classes_[1 * (scores > 0)])
    assert clf.classes_.tolist() == labels
    assert clf.score(X, y) > 0.95
    np.testing.assert_allclose(
        clf.predict_proba(queries)[:, 1], 1 / (1 + np.exp(-scores))
    )


def test_classes_of_the_estimator_may_have_any_order(digits):
    layer, data, (X, _) = digits

    class Turned(LogisticRegression):
        def decision_function(self, X):
            return super().decision_function(X)[:, ::-1]

    turned, support = Turned(), shots(data, 3)
    vars(turned).update(vars(layer), classes_=layer.classes_[::-1])
    clf, expected = (AdaptedClassifier(c).fit(*support) for c in (turned, layer))
    np.testing.assert_array_equal(clf.predict_proba(X), expected.predict_proba(X))


def test_probabilities_are_scores_where_there_are_none(digits):
    _, data, (X, y) = digits
    neighbours = KNeighborsClassifier(5).fit(data[0][:200], data[1][:200])
    clf = AdaptedClassifier(neighbours).fit(*shots((data[0][200:], data[1][200:]), 3))
    assert np.isfinite(clf.decision_function(X)).all()
    assert clf.score(X, y) > neighbours.score(X, y)


def test_weights_of_samples(digits):
    layer, data, (X, _) = digits
    X_few, y_few = shots(data, 4)
    weight = np.ones(len(y_few))
    expected = AdaptedClassifier(layer).fit(X_few, y_few)
    clf = AdaptedClassifier(layer).fit(X_few, y_few, sample_weight=weight)
    np.testing.assert_allclose(clf.predict_proba(X), expected.predict_proba(X))
    # Those of weight zero are as if they were not there, wherever they stand.
    X_more, y_more = np.repeat(X_few, 2, axis=0), np.repeat(y_few, 2)
    X_more[::2], y_more[::2] = X_few[::-1], y_few[::-1]
    weight = np.tile([0.0, 1.0], len(y_few))
    clf = AdaptedClassifier(layer).fit(X_more, y_more, sample_weight=weight)
    np.testing.assert_allclose(clf.predict_proba(X), expected.predict_proba(X))


def test_labels_that_scikit_learn_numbers(digits):
    layer, data, _ = digits
    X, y = shots(data, 4)
    names = np.array([f"class {i}" for i in range(10)])
    options = {"cv": 2, "method": "predict_proba"}
    expected = cross_val_predict(
        AdaptedClassifier(FrozenEstimator(layer)), X, y, **options
    )
    named = LogisticRegression(max_iter=1000).fit(data[0][:150], names[data[1][:150]])
    clf = AdaptedClassifier(FrozenEstimator(named))
    with pytest.raises(ValueError, match=r"none of \['class 0.*LabelEncoder\(\)"):
        cross_val_predict(clf, X, names[y], **options)
    numbers = LabelEncoder().fit_transform(names[y])
    clf = AdaptedClassifier(FrozenEstimator(layer))
    np.testing.assert_array_equal(
        cross_val_predict(clf, X, numbers, **options), expected
    )


def test_labels_of_another_type(digits):
    layer, data, _ = digits
    X, y = shots(data, 2)
    with pytest.raises(ValueError, match=r"some of \['0'.* give y that of estimator"):
        AdaptedClassifier(layer).fit(X, y.astype(str))


@pytest.mark.parametrize("n_shots", [1, 3])
def test_class_without_weight_is_not_there(digits, n_shots):
    layer, data, _ = digits
    X, y = shots(data, n_shots)
    weight = 1.0 * (y != 3)
    with pytest.raises(ValueError, match=r"weight above zero.* has none of \[3\]\."):
        AdaptedClassifier(layer).fit(X, y, weight)
    y_other = np.where(y == 3, 11, y)
    with pytest.raises(ValueError, match=r"none of \[3\] and some of \[11\]\."):
        AdaptedClassifier(layer).fit(X, y_other, weight)
    X, y, weight = np.r_[X, X], np.r_[y, y_other], np.r_[weight + 1, weight]
    with pytest.raises(ValueError, match=r"has some of \[11\]\."):
        AdaptedClassifier(layer).fit(X, y, weight)


def test_works_where_estimators_do(digits):
    layer, data, (X, y) = digits
    frozen = FrozenEstimator(layer)
    pipeline = make_pipeline(Normalizer(), AdaptedClassifier(frozen))
    support = shots(data, 10)
    assert cross_val_score(pipeline, *support, cv=3).mean() > 0.7
    grid = {"imprint__whitening": [None, "auto"]}
    search = GridSearchCV(AdaptedClassifier(frozen, ImprintClassifier()), grid, cv=3)
    best = search.fit(*support)
    assert best.score(X, y) > 0.7
    copied = pickle.loads(pickle.dumps(best.best_estimator_))
    np.testing.assert_array_equal(copied.predict(X), best.predict(X))
    params = AdaptedClassifier(frozen).get_params(deep=False)
    assert params == {"estimator": frozen, "imprint": None}


def test_names_of_columns(digits):
    pd = pytest.importorskip("pandas", reason="needs pandas")
    _, data, _ = digits
    X, y = shots(data, 20)
    X = pd.DataFrame(X, columns=[f"f{i}" for i in range(X.shape[1])])
    layer = LogisticRegression(max_iter=1000).fit(X[:100], y[:100])
    clf = AdaptedClassifier(layer).fit(X[100:], y[100:])
    assert clf.feature_names_in_.tolist() == X.columns.tolist()
    assert clf.n_features_in_ == X.shape[1]
    assert clf.predict(X).shape == (200,)
    with pytest.raises(ValueError, match="feature names"):
        clf.predict(X[X.columns[::-1]])
    clf.set_params(estimator=digits[0]).fit(*shots(data, 3))
    assert not hasattr(clf, "feature_names_in_")


def test_is_the_same_each_time(digits):
    layer, data, _ = digits
    X_few, y_few = shots(data, 6)
    imprint = ImprintClassifier(random_state=0, n_jobs=1)
    expected = AdaptedClassifier(layer, imprint).fit(X_few, y_few)
    order = np.random.default_rng(1).permutation(len(y_few))
    imprint = ImprintClassifier(random_state=0, n_jobs=2)
    clf = AdaptedClassifier(layer, imprint).fit(X_few[order], y_few[order])
    np.testing.assert_array_equal(clf.weights_, expected.weights_)
    assert imprint.temperature == "auto"
    assert not hasattr(imprint, "classes_")


def test_parameters_set_later_wait_for_fit(digits):
    layer, data, (X, _) = digits
    clf = AdaptedClassifier(layer).fit(*shots(data, 3))
    before = clf.predict_proba(X)
    other = LogisticRegression(max_iter=1000).fit(*shots(data, 5))
    clf.set_params(estimator=other)
    np.testing.assert_array_equal(clf.predict_proba(X), before)
    assert clf.estimator_ is layer
    assert clf.fit(*shots(data, 3)).estimator_ is other


def test_parameters_of_no_imprint_are_refused(digits):
    clf = AdaptedClassifier(digits[0])
    with pytest.raises(ValueError, match=r"imprint is None\. .*imprint=Imprint"):
        clf.set_params(imprint__whitening=None)
    clf.set_params(imprint=ImprintClassifier(), imprint__whitening=None)
    assert clf.imprint.whitening is None


class Adapted(AdaptedClassifier):
    """Adapts a classifier of the classes of y, whichever they are."""

    def fit(self, X, y, sample_weight=None):
        kept = self.estimator
        with contextlib.suppress(Exception):  # what is wrong is for the parent to say
            self.estimator = DummyClassifier(strategy="uniform").fit(X, y)
        try:
            return super().fit(X, y, sample_weight)
        finally:
            self.estimator = kept


def test_is_an_estimator():
    dummy = FrozenEstimator(DummyClassifier().fit([[0], [1]], [0, 1]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SkipTestWarning)
        check_estimator(Adapted(dummy, ImprintClassifier(random_state=0)))


def refused(estimator, imprint=None, *, X=None, y=None, match, digits):
    support = shots(digits[1], 3)
    clf = AdaptedClassifier(digits[0]).fit(*support)
    before = clf.predict_proba(support[0])
    clf.set_params(estimator=estimator, imprint=imprint)
    X, y = (support[0] if X is None else X), (support[1] if y is None else y)
    with pytest.raises((ValueError, TypeError, NotFittedError), match=match):
        clf.fit(X, y)
    np.testing.assert_array_equal(clf.predict_proba(support[0]), before)


def test_bad_input_is_refused_and_loses_nothing(digits):
    layer, data, _ = digits
    X, y = shots(data, 3)
    refused(LogisticRegression(max_iter=1000), match="FrozenEstimator", digits=digits)
    refused(None, match="'estimator' parameter", digits=digits)
    refused(layer, layer, match="'imprint' parameter", digits=digits)
    rejecting = ImprintClassifier(rejection=Rejection(-1))
    refused(layer, rejecting, match="rejection=None", digits=digits)
    headed = ImprintClassifier(head=(layer.coef_, layer.classes_))
    refused(layer, headed, match="head=None", digits=digits)
    squares = ImprintClassifier("least_squares")
    refused(layer, squares, match="can be left out", digits=digits)
    few = y < 8
    refused(layer, X=X[few], y=y[few], match="none of .*8, 9", digits=digits)
    refused(layer, y=np.where(y == 9, 11, y), match="some of .*11", digits=digits)
    refused(layer, X=X * np.nan, match="NaN", digits=digits)
    pairs = SVC(decision_function_shape="ovo").fit(X, y)
    refused(pairs, match=r"shape \(30, 10\); got \(30, 45\)", digits=digits)
    for other in (IsolationForest(), RandomForestClassifier(2)):  # of two outputs
        other.fit(X, np.stack([y, y], axis=1))
        refused(other, match="with one label for each sample", digits=digits)
    with pytest.raises(NotFittedError):
        AdaptedClassifier(layer).predict(X)


class Scorer(ClassifierMixin, BaseEstimator):
    """Scores as another classifier does, in another form."""

    def __init__(self, estimator, form, method="decision_function"):
        self.estimator, self.form, self.method = estimator, form, method
        self.classes_ = estimator.classes_.tolist()

    def fit(self, X, y):
        raise AssertionError

    def _score(self, X):
        return self.form(getattr(self.estimator, self.method)(X))

    @available_if(lambda self: self.method == "decision_function")
    def decision_function(self, X):
        return self._score(X)

    @available_if(lambda self: self.method == "predict_proba")
    def predict_proba(self, X):
        return self._score(X)


@pytest.mark.parametrize("form", ["list", "table", "tensor", "objects", "single"])
@pytest.mark.parametrize("method", ["decision_function", "predict_proba"])
@pytest.mark.parametrize("n_classes", [2, 10])
def test_scores_of_any_form(digits, form, method, n_classes):
    library = {"table": "pandas", "tensor": "torch"}.get(form, "numpy")
    library = pytest.importorskip(library, reason=f"needs {library}")
    form = {
        "list": np.ndarray.tolist,
        "table": lambda scores: library.DataFrame(scores).squeeze(),
        "tensor": lambda scores: library.tensor(scores),
        "objects": lambda scores: scores.astype(object),
        "single": np.float32,
    }[form]
    (X, y), (queries, _) = shots(digits[1], 5), digits[2]
    X, y = X[y < n_classes], y[y < n_classes]
    layer = LogisticRegression(max_iter=1000).fit(X, y)
    expected = AdaptedClassifier(Scorer(layer, np.copy, method)).fit(X, y)
    clf = AdaptedClassifier(Scorer(layer, form, method)).fit(X, y)
    np.testing.assert_allclose(
        clf.predict_proba(queries), expected.predict_proba(queries), atol=1e-5
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_classes", [2, 10])
def test_single_precision_stays(digits, dtype, n_classes):
    (X, y), (queries, _) = digits[1:]
    X, y, queries = (
        np.asarray(X[y < n_classes], dtype),
        y[y < n_classes],
        dtype(queries),
    )
    # Not every logistic regression of scikit-learn's keeps it.
    layer = ImprintClassifier("mean").fit(X[:40], y[:40])
    clf = AdaptedClassifier(layer).fit(*shots((X[40:], y[40:]), 3))
    for method in ("decision_function", "predict_proba", "predict_log_proba"):
        assert getattr(clf, method)(queries).dtype == dtype


def test_whole_numbers_as_scores(digits):
    layer, data, (X, _) = digits
    support = shots(data, 5)
    numbers = AdaptedClassifier(Scorer(layer, np.rint)).fit(*support)
    whole = Scorer(layer, lambda scores: np.rint(scores).astype(np.int8))
    clf = AdaptedClassifier(whole).fit(*support)
    np.testing.assert_array_equal(clf.predict_proba(X), numbers.predict_proba(X))


def test_an_estimator_that_has_other_classes_meanwhile_is_refused(digits):
    _, (X, y), (queries, _) = digits
    estimator = ImprintClassifier("mean").fit(X[:200], y[:200])
    clf = AdaptedClassifier(estimator).fit(*shots((X[200:], y[200:]), 3))
    before = clf.predict(queries)
    samples = [X[:1], [11]]
    for change in (
        lambda clf: clf.forget([3]),
        lambda clf: clf.partial_fit(*samples),  # as many as before
        lambda clf: clf.partial_fit(X[:200], y[:200]),
    ):
        change(estimator)
        with pytest.raises(
            ValueError, match=r"learnt, \[0, 1, 2, .*; it has \[0, 1, 2.* now"
        ):
            clf.predict(queries)
    estimator.forget([11])
    assert np.mean(clf.predict(queries) == before) > 0.9


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("method", ["decision_function", "predict_proba"])
def test_scores_that_are_no_numbers_are_refused(digits, value, method):
    layer, data, (X, _) = digits

    def spoiled(scores):
        scores[0, 3] = value
        return scores

    match = f"{method} of estimator must return finite values"
    estimator = Scorer(layer, np.copy, method)
    clf = AdaptedClassifier(estimator).fit(*shots(data, 3))
    estimator.form = spoiled
    refused(estimator, match=match, digits=digits)
    with pytest.raises(ValueError, match=match):
        clf.predict(X)
    # One row is not taken for the scores of all.
    estimator.form = lambda scores: scores[:1]
    with pytest.raises(ValueError, match=r"shape \(797, 10\); got \(1, 10\)"):
        clf.predict(X)


@pytest.mark.parametrize("n_classes", [2, 5])
def test_results_follow_the_queries(digits, xp, n_classes):
    _, (X, y), (X_query, _) = digits
    X, y, X_query = X.astype("float32"), y.astype("int64"), X_query.astype("float32")
    some = np.flatnonzero(y < n_classes)
    prior, samples, queries = some[:20], some[20:60], X_query[:30]
    estimator = ImprintClassifier().fit(X[prior], y[prior])
    imprint = ImprintClassifier(random_state=0)  # of more samples than proxies
    clf = AdaptedClassifier(estimator, imprint).fit(X[samples], y[samples])
    weight = np.ones(len(samples))
    same = clone(AdaptedClassifier(FrozenEstimator(estimator), imprint))
    same.fit(xp(X[samples]), xp(y[samples]), xp(weight))
    for name in "decision_function", "predict_proba", "predict_log_proba", "predict":
        found = getattr(same, name)(xp(queries))
        assert xp.owns(found)
        found = np.asarray(to_host(found))
        expected = getattr(clf, name)(queries)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
