"""Learn and forget: random programs against a model that refits from what is left."""

import gc
import pickle
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from copy import copy, deepcopy

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from scipy.special import softmax
from settings import PLAIN, plain_classifier
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.ensemble import (
    BaggingClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import RidgeClassifier
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, normalize
from sklearn.utils.validation import check_is_fitted

from skimprint import ImprintClassifier, ImprintClassifierCV, Rejection
from skimprint._memory import state
from skimprint.classifier import _compact, _fitted, _plain
from skimprint.generation import (
    GENERATORS,
    KMeansProxies,
    LeastSquaresProxies,
    make_generator,
)
from skimprint.methods import PUBLISHED_METHODS
from skimprint.normalization import quantile_normalize, quantile_normalize_by_class

# What any chunks and orders give alike, and what is approximate for a class that is
# learnt more than once.
EXACT = {
    "mean": plain_classifier("mean"),
    "all": plain_classifier("all"),
    "random": plain_classifier("random", n_proxies=2, random_state=0),
    "least_squares": plain_classifier("least_squares", n_proxies=1, proxy_norm=None),
    "mean, mahalanobis": plain_classifier("mean", metric="mahalanobis"),
    "all, mahalanobis": plain_classifier("all", metric="mahalanobis"),
    "mean, whitened": plain_classifier("mean", whitening=0.3),
    "all, whitened": plain_classifier("all", whitening="auto", metric="euclidean"),
    "all, towards the mean": plain_classifier("all", mean_weight=0.4, whitening=0.2),
    "least_squares, alpha chosen": plain_classifier(
        LeastSquaresProxies(alpha="auto"), n_proxies=1, proxy_norm=None
    ),
    "least_squares, whitened": plain_classifier(
        "least_squares", n_proxies=1, whitening=0.5, query_norm=None, proxy_norm=None
    ),
}
CLUSTERED = {
    "kmeans, towards the mean": plain_classifier(
        n_proxies=2, whitening="auto", mean_weight=0.5, random_state=0
    ),
    "kmeans": plain_classifier("kmeans", n_proxies=2, random_state=0),
    "kmedoids": plain_classifier("kmedoids", n_proxies=2, random_state=0),
    "fps": plain_classifier("fps", n_proxies=2),
    "cov_max": plain_classifier("cov_max", n_proxies=2),
    "least_squares": plain_classifier("least_squares", n_proxies=2, random_state=0),
    "kmeans, mahalanobis": plain_classifier(
        KMeansProxies(n_init=2), n_proxies=3, metric="mahalanobis", random_state=0
    ),
    "kmeans, whitened": plain_classifier(n_proxies=2, whitening="auto", random_state=0),
}
N_FEATURES = 4
QUERIES = np.random.default_rng(99).normal(size=(30, N_FEATURES))

some_labels = st.lists(st.sampled_from(["a", "bb", "ccc", "d" * 9]), min_size=1)
seeds = st.integers(0, 2**16)
weightings = st.sampled_from([None, "some zero"])


def samples(labels, seed, weighting):
    """Rows about a centre of each class, and weights that leave no class out."""
    rng = np.random.default_rng(seed)
    y = np.array(labels)
    centers = np.array([[len(label), ord(label[0]) % 5, 1, -2] for label in labels])
    X = centers + rng.normal(size=(len(y), N_FEATURES))
    if weighting is None:
        return X, y, None
    weights = rng.integers(0, 3, len(y)).astype(float)
    weights[np.unique(y, return_index=True)[1]] = 1.5
    return X, y, weights


ROWS = np.random.default_rng(0).normal(size=(6, 8)), np.repeat(["a", "b"], 3)


def make_compact(clf):
    """What predicts by the means of samples, and nothing of these."""
    return clf.set_params(generator="mean", temperature="auto").fit(*ROWS).compact()


def without(batch, gone):
    """A batch of samples without those of some classes."""
    X, y, weights = batch
    left = ~np.isin(y, list(gone))
    return X[left], y[left], None if weights is None else weights[left]


def proxies_by_class(clf):
    return {label: clf.proxies_[clf.proxy_labels_ == label] for label in clf.classes_}


class Program(RuleBasedStateMachine):
    """Runs a classifier beside the list of all that it should know."""

    def __init__(self, clf, *, exact):
        super().__init__()
        self.clf = clone(clf)
        self.exact = exact
        # Whether proxies depend on other classes.
        generator = make_generator(clf.generator)
        self.shared = generator.combines or clf.whitening is not None
        # What has been learnt since fit, step by step: how, and from what.
        self.steps = []
        self.rows = []  # label of each training row, forgotten ones included
        self.counts = {}
        self.pieces = {}  # in how many steps a class has been learnt

    def note(self, step, batch):
        self.steps.append((step, batch))
        self.rows += batch[1].tolist()
        weights = np.ones(len(batch[1])) if batch[2] is None else batch[2]
        for label in np.unique(batch[1]).tolist():
            more = weights[batch[1] == label].sum()
            self.counts[label] = self.counts.get(label, 0) + more
            self.pieces[label] = self.pieces.get(label, 0) + 1

    @rule(labels=some_labels, seed=seeds, weighting=weightings)
    def fit(self, labels, seed, weighting):
        X, y, weights = batch = samples(labels, seed, weighting)
        self.clf.fit(X, y, sample_weight=weights)
        self.steps, self.rows, self.counts, self.pieces = [], [], {}, {}
        self.note("partial_fit", batch)

    @rule(labels=some_labels, seed=seeds, weighting=weightings)
    def partial_fit(self, labels, seed, weighting):
        X, y, weights = batch = samples(labels, seed, weighting)
        self.clf.partial_fit(X, y, sample_weight=weights)
        self.note("partial_fit", batch)

    @precondition(lambda self: self.counts)
    @rule(labels=some_labels, seed=seeds, weighting=weightings)
    def merge(self, labels, seed, weighting):
        X, y, weights = batch = samples(labels, seed, weighting)
        other = clone(self.clf).fit(X, y, sample_weight=weights)
        self.clf.merge(other)
        self.note("merge", batch)

    @precondition(lambda self: self.counts)
    @rule(data=st.data())
    def forget(self, data):
        known = st.sampled_from(sorted(self.counts))
        gone = data.draw(st.sets(known, min_size=1), "classes")
        self.clf.forget(sorted(gone))
        for label in gone:
            del self.counts[label], self.pieces[label]
        self.steps = [(step, without(batch, gone)) for step, batch in self.steps]
        self.steps = [(step, batch) for step, batch in self.steps if len(batch[1])]
        if self.counts:
            self.assert_as_if_never_seen()

    @precondition(lambda self: self.counts)
    @rule()
    def forget_what_is_not_known(self):
        before = pickle.dumps(self.clf)
        with pytest.raises(ValueError, match=r"'zebra'.* are not among"):
            self.clf.forget([sorted(self.counts)[0], "zebra"])
        assert pickle.dumps(self.clf) == before

    @rule()
    def pickle(self):
        self.clf = pickle.loads(pickle.dumps(self.clf))

    def assert_as_if_never_seen(self):
        other = clone(self.clf)
        if self.clf.whitening == "auto":  # chosen by all that is left
            other.set_params(whitening=self.clf.whitening_)
        for step, (X, y, weights) in self.steps:
            if step == "merge" and hasattr(other, "classes_"):
                other.merge(clone(other).fit(X, y, sample_weight=weights))
            else:
                other.partial_fit(X, y, sample_weight=weights)
        np.testing.assert_array_equal(self.clf.classes_, other.classes_)
        assert self.clf.classes_.dtype == other.classes_.dtype
        if self.shared:
            np.testing.assert_allclose(self.clf.proxies_, other.proxies_, 1e-6, 1e-9)
        else:
            np.testing.assert_array_equal(self.clf.proxies_, other.proxies_)
        np.testing.assert_allclose(
            self.clf.decision_function(QUERIES),
            other.decision_function(QUERIES),
            rtol=1e-6,
            atol=1e-9,
        )

    @precondition(lambda self: not self.counts)
    @invariant()
    def knows_nothing(self):
        with pytest.raises(NotFittedError):
            check_is_fitted(self.clf)
        with pytest.raises(NotFittedError):
            self.clf.predict(QUERIES)

    @precondition(lambda self: self.counts)
    @invariant()
    def state_is_whole(self):
        clf = self.clf
        assert clf.classes_.tolist() == sorted(self.counts)
        expected = [self.counts[label] for label in clf.classes_.tolist()]
        np.testing.assert_allclose(clf.class_count_, expected)
        assert clf.n_samples_seen_ == len(self.rows)
        labels_of_rows = np.array(self.rows)[clf.proxy_indices_]
        np.testing.assert_array_equal(labels_of_rows, clf.proxy_labels_)
        assert np.isfinite(clf.proxies_).all()

    @precondition(lambda self: self.counts)
    @invariant()
    def same_as_a_refit(self):
        parts = [without(batch, ()) for _, batch in self.steps]
        X = np.concatenate([part[0] for part in parts])
        y = np.concatenate([part[1] for part in parts])
        weights = np.concatenate(
            [np.ones(len(part[1])) if part[2] is None else part[2] for part in parts]
        )
        refit = clone(self.clf)
        if self.clf.whitening == "auto":  # chosen by fewer samples than there are now
            refit.set_params(whitening=self.clf.whitening_)
        refit.fit(X, y, sample_weight=weights)
        np.testing.assert_array_equal(self.clf.classes_, refit.classes_)
        every = self.exact or max(self.pieces.values()) == 1
        mine, expected = proxies_by_class(self.clf), proxies_by_class(refit)
        for label in self.clf.classes_.tolist():
            if every and self.clf.whitening is not None:
                # Equal rows that came in parts are kept as one. The whitening of few
                # rows is another root than that of many: the space may be turned.
                mine[label] = mine[label] @ mine[label].T
                expected[label] = expected[label] @ expected[label].T
            if every:
                np.testing.assert_allclose(mine[label], expected[label], 1e-6, 1e-9)
            elif self.pieces[label] == 1 and not self.shared:
                np.testing.assert_array_equal(mine[label], expected[label])
        # Few samples and copies of them can make a covariance singular; its inverse is
        # of no use then, and rounding errors decide what it is.
        regular = True
        if self.clf.metric == "mahalanobis" and every:
            covariance = refit.covariance_
            np.testing.assert_allclose(self.clf.covariance_, covariance, 1e-6, 1e-9)
            regular = np.linalg.cond(covariance) < 1e6
        if every and regular:
            np.testing.assert_allclose(
                self.clf.decision_function(QUERIES),
                refit.decision_function(QUERIES),
                rtol=1e-6,
                atol=1e-9,
            )
            np.testing.assert_array_equal(
                self.clf.predict(QUERIES), refit.predict(QUERIES)
            )


@pytest.mark.parametrize(
    "clf, exact",
    [pytest.param(clf, True, id=f"exact {name}") for name, clf in EXACT.items()]
    + [pytest.param(clf, False, id=f"{name}") for name, clf in CLUSTERED.items()],
)
def test_random_programs(clf, exact):
    run_state_machine_as_test(
        lambda: Program(clf, exact=exact),
        settings=settings(
            max_examples=20,
            stateful_step_count=12,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.fixture
def clf():
    """Two classes by their mean, of rows without normalisation."""
    clf = plain_classifier("mean", support_norm=None, proxy_norm=None)
    return clf.fit([[0.0, 1.0], [0.0, 3.0], [5.0, 0.0]], ["a", "a", "b"])


def assert_unchanged(clf, learn, error, message):
    """Calling learn raises, and leaves the classifier as it was, to the bit."""
    before = pickle.dumps(clf)
    with pytest.raises(error, match=message):
        learn()
    assert pickle.dumps(clf) == before


class TestLabels:
    @pytest.mark.parametrize(
        "first, then",
        [
            (["a", "b"], ["a" * 30, "b"]),
            (["long" * 9, "b"], ["c", "d"]),
            ([0, 1], [1.0, 2.0]),
            ([1.0, 2.0], [3, 2]),
            ([False, True], [True, False]),
            ([True, False], [2, 3]),
            ([-(2**40), 3], [7, 3]),
        ],
    )
    def test_of_mixed_sizes_and_types(self, first, then):
        clf = plain_classifier("mean").partial_fit(np.eye(2, 4), first)
        clf.partial_fit(np.eye(4)[2:], then)
        expected = np.unique(np.concatenate([first, then]))
        np.testing.assert_array_equal(clf.classes_, expected)
        assert clf.classes_.dtype == expected.dtype
        assert clf.predict(np.eye(4)).dtype == expected.dtype
        assert clf.predict(np.eye(4)[3:])[0] in then

    @pytest.mark.parametrize(
        "first, then, hint",
        [
            ([0, 1], ["a", "b"], r"got 'a'\.$"),
            (["a", "b"], [1.0, 2.0], r"got 1\.0\. \(A classifier around this one may"),
        ],
    )
    def test_text_and_numbers_do_not_mix(self, first, then, hint):
        clf = plain_classifier("mean").fit(np.eye(2), first)
        other = plain_classifier("mean").fit(np.eye(2), then)
        known = "Labels must be of the type of those that the classifier knows"
        message = f"{known}, such as .*; {hint}"
        assert_unchanged(
            clf, lambda: clf.partial_fit(np.eye(2), then), ValueError, message
        )
        assert_unchanged(clf, lambda: clf.merge(other), ValueError, message)

    def test_expected_classes(self, clf):
        assert_unchanged(
            clf,
            lambda: clf.partial_fit([[1.0, 1.0]], ["c"], classes=["a", "b"]),
            ValueError,
            r"not in classes: \['c'\]",
        )
        X = [[0.0, 1.0], [1.0, 1.0]]
        known = clone(clf).fit(X, ["a", "c"]).predict_proba(X)
        clf = clone(clf).partial_fit(X, ["a", "c"], classes=["c", "b", "a"])
        assert clf.classes_.tolist() == ["a", "b", "c"]
        assert clf.class_count_.tolist() == [1, 0, 1]
        np.testing.assert_array_equal(clf.predict_proba(X)[:, [0, 2]], known)
        assert (clf.predict_proba(X)[:, 1] == 0).all()
        clf.partial_fit(X, ["b", "a"], classes=["a", "b", "c", "d"]).forget("d")
        assert clf.class_count_.tolist() == [2, 1, 1]

    @pytest.mark.parametrize("kind", [list, tuple, set, dict.fromkeys, np.array])
    def test_several_labels_come_in_any_container(self, clf, kind):
        classes = kind(["a", "b"])
        classes = classes.keys() if isinstance(classes, dict) else classes
        clf = clone(clf).partial_fit(np.eye(2), ["a", "b"], classes=classes)
        assert clf.classes_.tolist() == ["a", "b"]
        clf.partial_fit([[1.0, 1.0]], ["c"]).forget(classes)
        assert clf.classes_.tolist() == ["c"]

    @pytest.mark.parametrize(
        "classes", [[np.nan, 0, 1], [None, "a"], [0.5, 1.5], [b"a"]], ids=str
    )
    def test_expected_classes_that_are_no_labels(self, clf, classes):
        message = "^classes must be labels such as y has"
        assert_unchanged(
            clf,
            lambda: clf.partial_fit([[1.0, 1.0]], ["a"], classes=classes),
            ValueError,
            message,
        )

    @pytest.mark.parametrize("generator", sorted(GENERATORS))
    @pytest.mark.parametrize("whitening", [None, "auto"])
    def test_classes_that_are_expected_change_nothing(
        self, digits, generator, whitening
    ):
        X, y = digits[0][:200], digits[1][:200]
        params = {"n_proxies": 2, "whitening": whitening, "random_state": 0}
        alone, among = (ImprintClassifier(generator, **params) for _ in range(2))
        for start in range(0, 200, 50):  # some may wait
            part = slice(start, start + 50)
            alone.partial_fit(X[part], y[part])
            among.partial_fit(X[part], y[part], classes=range(12))
        assert among.classes_.tolist() == [*range(12)]
        np.testing.assert_array_equal(among.proxies_, alone.proxies_)
        found = among.predict_proba(X)
        np.testing.assert_array_equal(found[:, :10], alone.predict_proba(X))
        assert not found[:, 10:].any()

    def test_meta_estimators_pass_the_classes_to_expect(self, digits):
        X, y = digits
        is_first = y < 5
        each = plain_classifier("mean")
        rest = OneVsRestClassifier(each)
        rest.partial_fit(X[is_first], y[is_first], classes=range(10))
        # A class that nothing is known of is not that of any query.
        assert (rest.predict(X[is_first]) < 5).all()
        both = MultiOutputClassifier(each).partial_fit(
            X[is_first], np.c_[y, y % 2][is_first], classes=[range(10), range(2)]
        )
        shapes = [found.shape for found in both.predict_proba(X)]
        assert shapes == [(len(X), 10), (len(X), 2)]

    def test_narrow_again_when_the_long_ones_are_forgotten(self, clf):
        clf.partial_fit([[1.0, 1.0]], ["a very long label"])
        assert clf.forget("a very long label").classes_.dtype == "<U1"


class TestErrorsChangeNothing:
    @pytest.mark.parametrize(
        "X, y, message",
        [
            ([[1.0, 2.0, 3.0]], ["a"], "3 features"),
            ([[1.0, np.nan]], ["a"], "NaN"),
            ([[1.0, 2.0]], ["a", "b"], "inconsistent"),
            ([[1.0, 2.0]], [0.5], "continuous"),
        ],
    )
    def test_bad_samples(self, clf, X, y, message):
        assert_unchanged(clf, lambda: clf.partial_fit(X, y), ValueError, message)

    def test_weightless(self, clf):
        assert_unchanged(
            clf,
            lambda: clf.partial_fit(np.eye(2), ["a", "c"], sample_weight=[0, 0]),
            ValueError,
            "zero for all of them|one non-zero number",
        )

    @pytest.mark.parametrize("known", [True, False])
    @pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
    @pytest.mark.parametrize("learn", ["fit", "partial_fit", "merge"])
    def test_interrupted_in_the_middle(self, digits, known, error, learn):
        X, y = digits[0][:200], digits[1][:200]
        calls_left = 1000

        def first_rows(X_c, n_proxies, random_state):
            nonlocal calls_left
            calls_left -= 1
            if not calls_left:
                raise error
            return X_c[:n_proxies]

        clf = plain_classifier(first_rows, n_proxies=2)
        other = clone(clf).fit(X, y)
        if known:
            clf.fit(X, y)
        elif learn == "merge":
            clf.fit(X[y == 0], y[y == 0])
        before = {name: id(value) for name, value in vars(clf).items()}
        predictions = clf.predict(X) if hasattr(clf, "classes_") else None
        calls_left = 4 if known or learn != "merge" else 1
        with pytest.raises(error):
            clf.merge(other) if learn == "merge" else getattr(clf, learn)(X, y)
        after = {name: id(value) for name, value in vars(clf).items()}
        assert before == after
        if predictions is None:
            with pytest.raises(NotFittedError):
                clf.predict(X)
        else:
            np.testing.assert_array_equal(clf.predict(X), predictions)

    def test_feature_names(self):
        pd = pytest.importorskip("pandas", reason="needs pandas")
        X = pd.DataFrame(np.eye(2), columns=["x", "y"])
        clf = plain_classifier("mean").partial_fit(X, ["a", "b"])
        swapped = X[["y", "x"]]
        assert_unchanged(
            clf, lambda: clf.partial_fit(swapped, ["a", "b"]), ValueError, "same order"
        )
        clf.partial_fit(X, ["a", "c"])
        assert clf.feature_names_in_.tolist() == ["x", "y"]
        assert clf.classes_.tolist() == ["a", "b", "c"]


class TestForget:
    def test_a_mask_is_not_taken_for_labels(self):
        clf = plain_classifier("mean").fit(np.eye(3), [0, 1, 2])
        mask = clf.classes_ == 1
        assert_unchanged(
            clf, lambda: clf.forget(mask), ValueError, "must be labels that"
        )
        clf = plain_classifier("mean").fit(np.eye(2), [False, True])
        assert clf.forget(np.array([True])).classes_.tolist() == [False]

    def test_everything_and_learn_again(self, clf):
        clf.forget(["a", "b"])
        with pytest.raises(NotFittedError, match="has forgotten all classes"):
            clf.predict([[1.0, 2.0]])
        clf.partial_fit(np.eye(2), [7, 8])
        assert clf.classes_.tolist() == [7, 8]
        np.testing.assert_array_equal(clf.predict(np.eye(2)), [7, 8])

    @pytest.mark.parametrize("block_bytes", [2**9, state.BLOCK_BYTES])
    @pytest.mark.parametrize("gone", [["b"], ["a", "b"]])
    @pytest.mark.parametrize("generator", ["mean", "kmeans", "all", "least_squares"])
    def test_no_trace_in_the_bytes(self, monkeypatch, generator, gone, block_bytes):
        """Blocks that were one when they were learnt are parts of the same arrays."""
        monkeypatch.setattr(state, "BLOCK_BYTES", block_bytes)
        X, y = np.random.default_rng(0).normal(size=(60, 8)), np.repeat(["a", "b"], 30)
        clf = plain_classifier(
            generator, n_proxies=2, metric="mahalanobis", support_norm=None
        ).fit(X, y)
        clf.predict(X)
        known = [
            clf._fitted.state.gather([label]).proxies.values.vectors for label in gone
        ]
        traces = [row.tobytes() for row in np.concatenate([*known, X[y == gone[0]]])]
        dump = pickle.dumps(clf)
        assert any(trace in dump for trace in traces)
        clf.forget(gone)
        dump = pickle.dumps(clf)
        values = np.concatenate([*known, X[np.isin(y, gone)]]).ravel()
        assert not any(value.tobytes() in dump for value in values)

    @pytest.mark.parametrize(
        "make", [copy, lambda clf: clone(clf).fit(*ROWS), make_compact]
    )
    def test_no_trace_in_whose_requests_they_are(self, make):
        """Requests of metadata name their owner: of a copy, that is the original."""
        with config_context(enable_metadata_routing=True):
            clf = plain_classifier("all", support_norm=None, query_norm=None)
            clf.set_fit_request(sample_weight=True).fit(*ROWS)
            other = make(clf)
            if make is not make_compact:
                other.forget("b")
            routing = pickle.loads(pickle.dumps(other)).get_metadata_routing()
        assert routing.fit.requests["sample_weight"] is True
        gone = ROWS[0][ROWS[1] == "b"]
        assert not any(value.tobytes() in pickle.dumps(other) for value in gone)

    def test_what_is_left_keeps_its_precision(self):
        """Sums are not updated by taking away far more than what is left."""
        rng = np.random.default_rng(0)
        X = rng.normal(size=(60, 3)) * np.repeat([1e-4, 1e6], 30)[:, None]
        y = np.repeat(["small", "large"], 30)
        y[0] = "other"
        clf = plain_classifier("mean", metric="mahalanobis", support_norm=None)
        refit = clone(clf).fit(X[:30], y[:30])
        clf.fit(X, y).forget("large")
        np.testing.assert_allclose(clf.covariance_, refit.covariance_, rtol=1e-9)

    def test_labels_that_compare_equal(self):
        clf = plain_classifier("mean").fit(np.eye(3), [0, 1, 2])
        assert clf.forget([1.0, 1]).classes_.tolist() == [0, 2]

    @pytest.mark.parametrize("labels", [{"a"}, frozenset("a"), {"a": 1}.keys()])
    def test_sets(self, clf, labels):
        assert clf.forget(labels).classes_.tolist() == ["b"]

    def test_nothing(self, clf):
        assert clf.forget([]).classes_.tolist() == ["a", "b"]

    def test_nothing_changes_nothing(self, digits):
        """Else what stays between parts would be chosen again."""
        X, y = some(digits)
        clf = plain_classifier("mean", whitening="auto").fit(X[:60], y[:60])
        clf.partial_fit(X[60:110], y[60:110])
        fitted = clf._fitted
        assert fitted.kept is not None
        assert clf.forget([])._fitted is fitted

    @pytest.mark.parametrize("gone", [["b"], ["a", "b"], ["b", "c"], ["b", "c", "a"]])
    def test_classes_of_no_weight_too(self, gone):
        clf = plain_classifier("mean").fit(np.eye(3), list("abc"), [1, 0, 2])
        clf.forget(gone)
        left = [label for label in "abc" if label not in gone]
        assert clf._fitted.state.absent == frozenset(left) - {"a", "c"}
        if left:
            assert clf.classes_.tolist() == left
        clf.partial_fit(np.eye(3)[:1], ["d"])
        assert clf.classes_.tolist() == [*left, "d"]


def some(digits):
    """Digits, with a sixteenth of the features."""
    X, y = digits
    return X[:, ::16], y


class TestForgettable:
    """Where only the sum of the scatters is kept, all but `forget` is as it was."""

    @pytest.fixture(params=["whitened", "least squares", "recommended"])
    def clf(self, request):
        least_squares = LeastSquaresProxies(alpha="auto")
        return {
            "whitened": ImprintClassifier(n_proxies=2, random_state=0),
            "least squares": plain_classifier(least_squares, n_proxies=1),
            "recommended": ImprintClassifier.from_method("recommended", n_proxies=2),
        }[request.param].set_params(support_norm="l2", random_state=0)

    @staticmethod
    def learnt_in_all_ways(clf, X, y):
        """At once, in parts of some and of other classes, and merged."""
        first, second = y < 6, np.arange(len(y)) % 2 == 0
        in_parts = clone(clf).partial_fit(X[first & second], y[first & second])
        in_parts.partial_fit(X[~first], y[~first])
        in_parts.partial_fit(X[first & ~second], y[first & ~second])
        merged = clone(clf).fit(X[second], y[second])
        merged.merge(clone(clf).fit(X[~second], y[~second]))
        return clone(clf).fit(X, y), in_parts, merged

    def test_predicts_as_if_each_were_kept(self, digits, clf):
        X, y = some(digits)
        for way in self.learnt_in_all_ways(clf, X, y):
            assert way._fitted.state.pooled is None
        every = self.learnt_in_all_ways(clf.set_params(forgettable=True), X, y)
        none = self.learnt_in_all_ways(clf.set_params(forgettable=False), X, y)
        for expected, found in zip(every, none, strict=True):
            assert found._fitted.state.pooled is not None
            np.testing.assert_allclose(
                found.decision_function(X[::9]), expected.decision_function(X[::9]),
                rtol=1e-3, atol=1e-4,
            )  # fmt: skip
            np.testing.assert_allclose(found.temperature_, expected.temperature_, 1e-2)
            assert len(pickle.dumps(found)) < len(pickle.dumps(expected))

    def test_only_forget_is_an_error(self, digits, clf):
        X, y = some(digits)
        clf.set_params(forgettable=False).fit(X[y < 9], y[y < 9])
        before = pickle.dumps(clf)
        with pytest.raises(
            ValueError, match=r"\[3\] cannot be forgotten.*forgettable="
        ):
            clf.forget(3)
        assert pickle.dumps(clf) == before
        again = pickle.loads(before)
        np.testing.assert_array_equal(again.predict_proba(X), clf.predict_proba(X))
        for each in (clf, again):
            each.partial_fit(X[y == 9], y[y == 9])
        np.testing.assert_array_equal(again.predict_proba(X), clf.predict_proba(X))
        with pytest.raises(ValueError, match="cannot be forgotten"):
            again.forget([9])

    def test_by_default_up_to_a_size(self, digits, clf, monkeypatch):
        X, y = some(digits)
        X = X.astype(np.float32)
        scatter_bytes = 64 * 65 // 2 * 4
        sizes = {True: 2**62, False: 0, "auto": 8 * scatter_bytes}
        monkeypatch.setattr("skimprint._plan._SCATTER_BYTES", sizes)
        clf.partial_fit(X[y < 8], y[y < 8]).forget(0).partial_fit(X[y == 8], y[y == 8])
        clf.partial_fit(X[y == 9][:9], y[y == 9][:9]).forget(1)  # so few are kept
        clf.partial_fit(X[y == 0], y[y == 0]).forget(0)
        clf.partial_fit(X[y < 2], y[y < 2])
        with pytest.raises(ValueError, match="cannot be forgotten"):
            clf.forget(0)
        assert clf.score(X, y) > 0.7

    def test_what_has_no_share_is_forgotten(self, digits):
        X, y = some(digits)
        head = X[:2], np.array([20, 21])
        clf = ImprintClassifier("mean", head=head, support_norm="l2", forgettable=False)
        weights = (y != 5).astype(float)
        clf.fit(X, y, sample_weight=weights).forget([20, 5])
        assert clf.classes_.tolist() == [0, 1, 2, 3, 4, 6, 7, 8, 9, 21]
        with pytest.raises(ValueError, match=r"\[7\] cannot be forgotten"):
            clf.forget([21, 7])

    @pytest.mark.parametrize(
        "params", [{"whitening": None}, {"metric": "mahalanobis"}, {"mean_weight": 0.5}]
    )
    def test_without_a_sum_all_can_be_forgotten(self, digits, params):
        X, y = some(digits)
        clf = ImprintClassifier("mean", forgettable=False, support_norm="l2")
        clf.set_params(**({"whitening": None} | params)).fit(X, y)
        expected = clone(clf).fit(X[y != 3], y[y != 3])
        np.testing.assert_allclose(
            clf.forget(3).decision_function(X), expected.decision_function(X)
        )


class TestMerge:
    @pytest.mark.parametrize(
        "name, value",
        [
            ("generator", "kmeans"),
            ("n_proxies", 3),
            ("support_norm", "l2"),
            ("metric", "mahalanobis"),
        ],
    )
    def test_other_parameters(self, clf, name, value):
        other = clone(clf).set_params(**{name: value})
        other.fit(np.eye(2), ["a", "c"])
        assert_unchanged(clf, lambda: clf.merge(other), ValueError, f"; {name} is")

    def test_parameters_of_components(self, digits):
        X, y = digits
        one = plain_classifier(KMeansProxies(), n_proxies=2).fit(X[:50], y[:50])
        other = plain_classifier(KMeansProxies(tol=0.1), n_proxies=2)
        other.fit(X[50:], y[50:])
        with pytest.raises(ValueError, match="generator__tol"):
            one.merge(other)

    def test_other_widths_and_other_things(self, clf):
        wide = clone(clf).fit(np.eye(3), ["a", "b", "c"])
        assert_unchanged(clf, lambda: clf.merge(wide), ValueError, "2 features")
        assert_unchanged(clf, lambda: clf.merge("b"), TypeError, "ImprintClassifier")
        assert_unchanged(
            clf, lambda: clf.merge(clone(clf)), NotFittedError, "other must be fitted"
        )

    @pytest.mark.parametrize("whitening", [None, "auto"])
    @pytest.mark.parametrize("sign", [1, -1])
    def test_one_that_has_forgotten_everything(self, digits, sign, whitening):
        X, y = some(digits)
        clf = plain_classifier(
            "mean", support_norm="auto", query_norm="auto", whitening=whitening
        )
        full, empty = clone(clf).fit(X, y), clone(clf).fit(sign * X[:50], y[:50])
        empty.forget(np.unique(y[:50]))
        expected = full.decision_function(X)
        np.testing.assert_array_equal(full.merge(empty).decision_function(X), expected)
        np.testing.assert_allclose(
            empty.merge(full).decision_function(X), expected, atol=1e-6
        )
        assert empty.support_norm_ == "power"
        both = clone(clf).fit(X, y).forget(range(10)), clone(clf).fit(X, y)
        assert not hasattr(both[0].merge(both[1].forget(range(10))), "classes_")

    @pytest.mark.parametrize("mine", [[1, 2], [1.0, 2.0], ["a", "b"], [True, False]])
    @pytest.mark.parametrize("theirs", [[3, 4], [3.0, 4.0], ["longer"] * 2, [True] * 2])
    def test_one_that_has_forgotten_labels_of_another_type(self, mine, theirs):
        full = plain_classifier("mean").fit(np.eye(2), mine)
        empty = clone(full).fit(np.eye(2), theirs).forget(theirs)
        expected = full.classes_
        for clf in (copy(full).merge(empty), empty.merge(full)):
            assert clf.classes_.tolist() == expected.tolist()
            assert clf.classes_.dtype == expected.dtype

    @pytest.mark.parametrize("label", [3, 2**60 + 1])
    def test_one_that_knows_a_class_without_weight_alone(self, label):
        clf = plain_classifier("mean").fit(np.eye(2), [1.0, 2.0])
        other = clone(clf).fit(np.eye(2), [label, 4], sample_weight=[0, 1]).forget(4)
        if label == 3:
            assert clf.merge(other).classes_.tolist() == [1, 2, 3]
            return
        assert_unchanged(clf, lambda: clf.merge(other), ValueError, "would lose digits")

    @pytest.mark.parametrize("name", EXACT)
    def test_associative(self, digits, name):
        X, y = digits[0][:240], digits[1][:240]
        parts = [slice(0, 70), slice(70, 150), slice(150, 240)]

        def fitted(part):
            return clone(EXACT[name]).fit(X[part], y[part])

        left = fitted(parts[0]).merge(fitted(parts[1])).merge(fitted(parts[2]))
        right = fitted(parts[0]).merge(fitted(parts[1]).merge(fitted(parts[2])))
        whole = clone(EXACT[name]).fit(X, y)
        for clf in (left, right):
            np.testing.assert_allclose(clf.proxies_, whole.proxies_, 1e-3, 1e-5)
            if name in ("all", "random"):
                np.testing.assert_array_equal(clf.proxy_indices_, whole.proxy_indices_)
            np.testing.assert_array_equal(
                clf.predict(digits[0]), whole.predict(digits[0])
            )

    def test_itself_doubles_the_weights(self, clf):
        proxies = clf.proxies_
        clf.merge(clf)
        np.testing.assert_array_equal(clf.proxies_, proxies)
        np.testing.assert_array_equal(clf.class_count_, [4, 2])

    def test_other_stays_as_it_is(self, clf):
        other = clone(clf).fit([[1.0, 1.0], [2.0, 2.0]], ["a", "c"])
        assert_unchanged_by_merging = pickle.dumps(other)
        clf.merge(other)
        assert pickle.dumps(other) == assert_unchanged_by_merging


class TestWeights:
    @pytest.mark.parametrize("name", EXACT)
    def test_chunks_give_what_fit_gives(self, digits, name):
        X, y = digits[0][:200], digits[1][:200]
        weights = np.random.default_rng(0).integers(1, 4, len(y)).astype(float)
        whole = clone(EXACT[name]).fit(X, y, sample_weight=weights)
        parts = clone(EXACT[name])
        for rows in np.array_split(np.arange(len(y)), 7):
            parts.partial_fit(X[rows], y[rows], sample_weight=weights[rows])
        np.testing.assert_allclose(parts.class_count_, whole.class_count_)
        np.testing.assert_allclose(parts.proxies_, whole.proxies_, 1e-3, 1e-5)


class TestHead:
    weight = np.array([[0.0, 2.0, 0.0], [1.0, 0.0, 0.5]])

    @pytest.mark.parametrize("generator", ["mean", "kmeans", "all", "random"])
    def test_predicts_like_the_head(self, generator):
        clf = ImprintClassifier.from_head(
            self.weight,
            ["up", "right"],
            generator=generator,
            support_norm=None,
            proxy_norm=None,
            query_norm=None,
        )
        check_is_fitted(clf)
        X = np.random.default_rng(0).normal(size=(50, 3))
        expected = np.array(["up", "right"])[(X @ self.weight.T).argmax(axis=1)]
        np.testing.assert_array_equal(clf.predict(X), expected)
        np.testing.assert_array_equal(clf.proxies_, self.weight[[1, 0]])
        np.testing.assert_array_equal(clf.proxy_indices_, [-1, -1])

    def test_has_the_probabilities_of_a_layer_with_a_bias(self):
        rng = np.random.default_rng(0)
        X, bias = rng.normal(size=(50, 3)), rng.normal(size=(2, 1))
        expected = softmax(X @ self.weight.T + bias.T, axis=1)
        clf = ImprintClassifier.from_head(
            np.hstack([self.weight, bias]),
            generator="mean",
            support_norm=None,
            proxy_norm=None,
            query_norm=None,
            temperature=1.0,
        )
        found = clf.predict_proba(np.hstack([X, np.ones((50, 1))]))
        np.testing.assert_allclose(found, expected, 1e-12)

    @pytest.mark.parametrize("n", [0.5, 1, 20])
    @pytest.mark.parametrize("method", ["fit", "partial_fit"])
    def test_a_row_counts_as_many_samples_by_their_weight(self, method, n):
        X, y = np.array([[1.0, 1, 0], [0, 1, 1], [0, 0, 1]]), ["up", "up", "right"]
        head = self.weight, ["up", "right"]
        clf = plain_classifier("mean", proxy_norm=None, head=head)
        getattr(clf, method)(X, y, sample_weight=np.full(3, 1 / n))
        rows, X = normalize(self.weight), normalize(X)
        expected = [(n * rows[1] + X[2]) / (n + 1), (n * rows[0] + X[0] + X[1])]
        expected[1] /= n + 2
        np.testing.assert_allclose(clf.proxies_, expected, 1e-12)

    def test_torch_linear(self):
        torch = pytest.importorskip("torch", reason="needs torch")
        layer = torch.nn.Linear(3, 2)
        clf = ImprintClassifier.from_head(
            layer, **PLAIN | {"generator": "mean", "proxy_norm": None}
        )
        weight = layer.weight.detach().numpy()
        np.testing.assert_allclose(
            clf.proxies_, weight / np.linalg.norm(weight, axis=1, keepdims=True), 1e-6
        )
        assert clf.classes_.tolist() == [0, 1]
        # Of a copy the layer is another one, with the same weights.
        merged = deepcopy(clf).merge(clf)
        np.testing.assert_array_equal(merged.proxies_, clf.proxies_)

    @pytest.mark.parametrize("dtype", ["f4", ">f4", "f8", ">f8"])
    @pytest.mark.parametrize("make", ["array", "list", "pandas", "polars"])
    def test_has_the_dtype_of_samples(self, make, dtype):
        weight, classes = np.eye(2, 3, dtype=dtype), np.array([1, 2], ">i4")
        if make == "list":
            weight = list(weight)
        elif make != "array":
            library = pytest.importorskip(make, reason=f"needs {make}")
            weight = weight.astype(weight.dtype.newbyteorder("="))
            weight = library.DataFrame(weight)
        clf = ImprintClassifier.from_head(weight, classes, generator="mean")
        expected = ImprintClassifier("mean").fit(weight, classes)
        assert clf.proxies_.dtype == expected.proxies_.dtype
        assert clf.classes_.dtype == expected.classes_.dtype == "i4"

    def test_new_classes_leave_the_head_alone(self):
        clf = ImprintClassifier.from_head(self.weight, ["up", "right"], **PLAIN)
        before = clf.proxies_
        clf.partial_fit([[0.0, -1.0, 0.0]], ["down"])
        assert clf.classes_.tolist() == ["down", "right", "up"]
        np.testing.assert_array_equal(clf.proxies_[1:], before)
        assert clf.forget("down").classes_.tolist() == ["right", "up"]
        np.testing.assert_array_equal(clf.proxies_, before)

    @pytest.mark.parametrize("whitening", [None, 0.3, "auto"])
    @pytest.mark.parametrize("metric", ["dot", "mahalanobis"])
    def test_without_samples_nothing_varies(self, metric, whitening):
        params = {"metric": metric, "whitening": whitening}
        clf = ImprintClassifier.from_head(self.weight, ["up", "right"], **params)
        before = clf.predict(self.weight).tolist()
        assert before == ["up", "right"]
        if metric == "mahalanobis":
            np.testing.assert_array_equal(clf.covariance_, np.eye(3))
        clf.partial_fit([[0.0, -1.0, 0.0], [0.0, -2.0, 1.0]], ["down"] * 2)
        assert clf.forget("down").predict(self.weight).tolist() == before

    def test_is_the_reference_of_quantiles(self):
        clf = ImprintClassifier.from_head(
            self.weight,
            ["up", "right"],
            **PLAIN
            | {"generator": "mean", "support_norm": None, "proxy_norm": "quantile"},
        ).partial_fit([[5.0, 7.0, 6.0]], ["a new one"])
        # The quantiles 1/6, 1/2, 5/6 of 0, 0, 0, 0.5, 1, 2, in the order of the row.
        np.testing.assert_allclose(clf.proxies_[0], [0, 7 / 6, 0.25])
        np.testing.assert_array_equal(clf.proxies_[1:], self.weight[[1, 0]])

    @pytest.mark.parametrize("more", [["up"], ["up", "right"]])
    def test_rows_of_which_more_is_learnt_are_no_reference_of_quantiles(self, more):
        head = self.weight, ["up", "right"]
        clf = plain_classifier("mean", support_norm=None, proxy_norm=None, head=head)
        X, y = [[5.0, 7.0, 6.0]] * (1 + len(more)), ["new", *more]
        means = clf.fit(X, y).proxies_  # of "new", "right", "up"
        found = clone(clf).set_params(proxy_norm="quantile").fit(X, y).proxies_
        expected = quantile_normalize_by_class(means.copy(), np.arange(4))
        if "right" not in more:
            expected = quantile_normalize(means, self.weight[1])
            expected[1] = self.weight[1]
        np.testing.assert_array_equal(found, expected)

    def test_in_a_pipeline_and_cloned(self):
        clf = plain_classifier("mean", head=(self.weight, ["up", "right"]))
        X = [[0.0, -1.0, 0.0], [0.0, -2.0, 0.1]]
        model = clone(make_pipeline(StandardScaler(with_std=False), clf))
        model.fit(X, ["down", "down"])
        assert model.classes_.tolist() == ["down", "right", "up"]
        model.fit(X, ["under", "under"])  # forgets all but the head
        assert model.classes_.tolist() == ["right", "under", "up"]

    def test_one_head_in_two_classifiers_is_merged_once(self):
        parts = [
            ImprintClassifier.from_head(self.weight, ["up", "right"], generator="mean")
            for _ in range(2)
        ]
        parts[0].partial_fit([[0.0, -1.0, 0.0]], ["down"])
        parts[1].partial_fit([[-1.0, 0.0, 0.0]], ["left"])
        merged = parts[0].merge(parts[1])
        assert merged.classes_.tolist() == ["down", "left", "right", "up"]
        np.testing.assert_array_equal(merged.class_count_, 1)

    @pytest.mark.parametrize("generator", ["mean", "kmeans", "all"])
    @pytest.mark.parametrize("turned", [False, True])
    def test_more_of_a_class_of_a_head_in_one_of_two(self, generator, turned):
        def learner(X, y):
            return ImprintClassifier.from_head(
                self.weight, ["up", "right"], generator=generator, n_proxies=1
            ).partial_fit(X, y)

        X, y = np.array([[0.0, 2, 1], [0, 3, 1], [-1, 0, 0]]), ["up", "up", "left"]
        one = learner(X, y)
        parts = [learner(X[:2], y[:2]), learner(X[2:], y[2:])]
        if turned:
            parts.reverse()
        merged = parts[0].merge(parts[1])
        np.testing.assert_array_equal(merged.class_count_, one.class_count_)
        np.testing.assert_allclose(merged.proxies_, one.proxies_, atol=1e-12)

    @pytest.mark.parametrize(
        "head, message",
        [
            (([[1.0, 0.0]], ["a", "b"]), "a different label for each of its 1 rows"),
            ((np.eye(2), ["a", "a"]), "1 of them different"),
            ((np.eye(2), [["a", "b"]]), r"shape \(1, 2\), 2 of them different"),
            ((np.eye(2),), "tuple"),
            (([[np.inf, 0.0]], ["a"]), "infinity"),
            ((np.eye(2), {"a", "b"}), r"labels of shape \(\), 1 of them different"),
            (([[1.0, 0.0]], None), r"no labels.* pass np.concatenate\(\[-coef_, coef_"),
        ],
    )
    def test_not_valid(self, head, message):
        with pytest.raises(ValueError, match=message):
            plain_classifier(head=head).fit(np.eye(2), ["c", "d"])

    def test_labels_are_those_that_a_classifier_around_it_passes_on(self):
        X, y = np.repeat(self.weight, 5, axis=0), np.repeat(["up", "right"], 5)
        for head in [(self.weight, ["up", "right"]), (self.weight[::-1], None)]:
            clf = plain_classifier("mean", head=head)
            for around in (
                BaggingClassifier(clf, n_estimators=2, random_state=0),
                StackingClassifier([("one", clf)], cv=2),
                VotingClassifier([("one", clf)], voting="soft"),
            ):
                if head[1] is None:  # numbers, in the order of the labels
                    assert around.fit(X, y).score(X, y) == 1
                    continue
                with pytest.raises(ValueError, match="turned text into numbers"):
                    around.fit(X, y)

    def test_of_another_width(self):
        with pytest.raises(ValueError, match="X has 2 features, but the head has 3"):
            plain_classifier(head=(self.weight, None)).fit(np.eye(2), [5, 6])


class TestThreads:
    @pytest.mark.parametrize("aggregation", ["max", "mnn"])
    def test_predictions_agree(self, digits, aggregation):
        X, y = digits
        clf = plain_classifier(n_proxies=3, aggregation=aggregation, random_state=0)
        clf.fit(X, y)
        expected = clf.predict(X)
        scores = clf.decision_function(X)
        clf.forget(9).partial_fit(X[y == 9], y[y == 9])  # its head is still to be made
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda _: clf.predict(X), range(40)))
            found_scores = list(pool.map(lambda _: clf.decision_function(X), range(40)))
        for each in found:
            np.testing.assert_array_equal(each, expected)
        for each in found_scores:
            np.testing.assert_array_equal(each, scores)

    def test_predictions_while_learning_are_of_before_or_after(self, digits):
        X, y = digits
        clf = plain_classifier("mean").fit(X[y < 5], y[y < 5])
        chunks = [(X[y == label], y[y == label]) for label in range(5, 10)]
        twin = clone(clf).fit(X[y < 5], y[y < 5])
        allowed = {twin.predict(X).tobytes()}
        for chunk in chunks:
            allowed.add(twin.partial_fit(*chunk).predict(X).tobytes())
            allowed.add(twin.forget(chunk[1][0]).predict(X).tobytes())
        n_predictions, done = [], threading.Event()

        def wait_for_predictions():
            enough = len(n_predictions) + 3
            while len(n_predictions) < enough:
                time.sleep(1e-4)

        def learn():
            try:
                for chunk in 2 * chunks:
                    clf.partial_fit(*chunk)
                    wait_for_predictions()
                    clf.forget(chunk[1][0])
                    wait_for_predictions()
            finally:
                done.set()

        def watch(_):
            seen = set()
            while not done.is_set():
                n_predictions.append(1)
                seen.add(clf.predict(X).tobytes())
            return seen

        with ThreadPoolExecutor(4) as pool:
            writer = pool.submit(learn)
            seen = set().union(*pool.map(watch, range(3)))
            writer.result()
        assert seen <= allowed
        assert len(seen) > 3

    def test_a_scorer_is_one_for_all_threads(self, digits, monkeypatch):
        makers = []

        class Slow(_fitted.Scorer):
            def __init__(self, head):
                makers.append(threading.get_ident())
                time.sleep(0.2)
                super().__init__(head)

        monkeypatch.setattr(_fitted, "Scorer", Slow)
        model = plain_classifier("mean").partial_fit(*digits)
        with ThreadPoolExecutor(4) as pool:
            found = set(pool.map(lambda _: model._fitted.scorer, range(4)))
        assert len(makers) == len(found) == 1

    def test_scorers_of_two_models_are_made_at_once(self, digits, monkeypatch):
        at_once = threading.Barrier(2)

        class Waiting(_fitted.Scorer):
            def __init__(self, head):
                at_once.wait(20)
                super().__init__(head)

        monkeypatch.setattr(_fitted, "Scorer", Waiting)
        models = [plain_classifier("mean").partial_fit(*digits) for _ in range(2)]
        with ThreadPoolExecutor(2) as pool:
            first, second = pool.map(lambda model: model._fitted.scorer, models)
        assert first is not second

    @pytest.mark.parametrize("way", ["pickle", "compact", "file", "smaller file"])
    def test_what_is_kept_while_another_thread_learns_is_of_before(
        self, digits, tmp_path, monkeypatch, way
    ):
        X, y = digits
        clf = plain_classifier("mean", temperature="auto").fit(X[y < 5], y[y < 5])
        expected = clf.predict_proba(X)

        def learn_first(function):
            def wrapped(*args, **options):
                clf.forget([0]) if 0 in clf.classes_ else None
                clf.partial_fit(X[y > 5], y[y > 5])
                return function(*args, **options)

            return wrapped

        def through_files(**options):
            pytest.importorskip("safetensors", reason="needs skimprint[files]")
            from skimprint.persistence import _classifiers, load, save

            patched = learn_first(_classifiers.parameters_then)
            monkeypatch.setattr(_classifiers, "parameters_then", patched)
            save(clf, tmp_path / "model", **options)
            return load(tmp_path / "model")

        for module in (_plain, _compact):
            for name in {"parameters_then", "calibrate_now"} & vars(module).keys():
                patched = learn_first(getattr(module, name))
                monkeypatch.setattr(module, name, patched)
        kept = {
            "pickle": lambda: pickle.loads(pickle.dumps(clf)),
            "compact": clf.compact,
            "file": through_files,
            "smaller file": lambda: through_files(learning=False),
        }[way]()
        assert 9 in clf.classes_
        np.testing.assert_array_equal(kept.predict_proba(X), expected)


@pytest.mark.parametrize("wrong", [RidgeClassifier(), "head.npy", b"1", None, 5])
def test_a_head_must_have_weights(wrong):
    got = f"got {type(wrong).__name__}.* pass coef_ and classes_; of a file, what it"
    with pytest.raises(TypeError, match=got):
        ImprintClassifier.from_head(wrong)


def test_weights_of_a_head_come_in_what_embeddings_come_in():
    weight = np.array([[1.0, 0.0], [0.0, 1.0]])
    pandas = pytest.importorskip("pandas", reason="needs pandas")
    strict = pytest.importorskip("array_api_strict", reason="needs array_api_strict")
    for rows in (pandas.Series(weight.tolist()), strict.asarray(weight)):
        clf = ImprintClassifier.from_head(rows, ["a", "b"])
        np.testing.assert_array_equal(clf.proxies_, weight)


@pytest.mark.parametrize(
    "labels, message",
    [
        ([np.nan, 1.0], "NaN"),
        ([np.inf, 1.0], "infinity"),
        ([0.5, 1.25], "continuous"),
        ([None, "a"], "Unknown label type"),
        ([b"a", b"b"], "Decode them first"),
        (np.array(["2020-01-01", "2020-01-02"], "M8[D]"), "Make them text"),
        (np.array([1, 2], np.longdouble), "Shorten them"),
        (np.array([(1,), (2,)], [("a", int)]), "Make them text"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
def test_labels_of_a_head_are_those_of_a_fit(labels, message):
    weight = np.eye(2)
    with pytest.raises(ValueError, match=message):
        ImprintClassifier().fit(weight, labels)
    with pytest.raises(ValueError, match=message):
        ImprintClassifier.from_head(weight, labels)


def test_merge_refuses_features_of_other_names_or_in_another_order():
    pytest.importorskip("pandas", reason="needs pandas")
    X, y = load_iris(return_X_y=True, as_frame=True)
    clf = plain_classifier("mean").fit(X[y == 0], y[y == 0])
    before = clf.proxies_.copy()
    for columns in (X.columns[::-1], ["a", "b", "c", "d"]):
        other = X[columns] if set(columns) == set(X) else X.set_axis(columns, axis=1)
        other = plain_classifier("mean").fit(other[y > 0], y[y > 0])
        with pytest.raises(ValueError, match="same names, in the same order"):
            clf.merge(other)
        np.testing.assert_array_equal(clf.proxies_, before)
    nameless = plain_classifier("mean").fit(X[y > 0].to_numpy(), y[y > 0])
    assert clf.merge(nameless).score(X, y) > 0.9


@pytest.mark.parametrize(
    "params", [{"temperature": "auto"}, {"rejection": Rejection(-1)}], ids=str
)
def test_merge_keeps_the_samples_by_which_something_is_chosen(params):
    X, y = load_iris(return_X_y=True)
    clf = plain_classifier("mean", **params).fit(X[y < 2], y[y < 2])
    other = plain_classifier("mean").fit(X[y == 2], y[y == 2])
    before = clf.predict_proba(X), clf.predict(X)
    with pytest.raises(ValueError, match="other must have kept samples, by which"):
        clf.merge(other)
    for found, expected in zip(
        (clf.predict_proba(X), clf.predict(X)), before, strict=True
    ):
        np.testing.assert_array_equal(found, expected)
    assert other.merge(clf).score(X, y) > 0.9  # where nothing is chosen
    clf.set_params(temperature=1.0, rejection=None).merge(
        plain_classifier("mean").fit(X[y == 2], y[y == 2])
    )
    assert clf.score(X, y) > 0.9


def test_a_mask_is_no_list_of_labels():
    X, y = load_iris(return_X_y=True)
    clf = plain_classifier("mean").fit(X, y)
    with pytest.raises(ValueError, match=r"\(150 in all\)"):
        clf.forget(y == 2)


@pytest.mark.parametrize("params", [{"temperature": -1}, {"rejection": Rejection(-1)}])
def test_an_attribute_that_cannot_be_found_is_missing(params):
    """So that what looks at all attributes, as notebooks do, goes on."""
    X, y = load_iris(return_X_y=True)
    clf = ImprintClassifier("least_squares").fit(X, y).set_params(**params)
    name = "temperature_" if "temperature" in params else "rejection_threshold_"
    assert not hasattr(clf, name)
    with pytest.raises(AttributeError, match=f"{name} cannot be found"):
        getattr(clf, name)
    assert "ImprintClassifier" in clf._repr_html_()


def test_what_is_no_classifier_is_not_merged(digits):
    X, y = digits
    clf = plain_classifier("mean", n_proxies=1).fit(X[:50], y[:50])
    search = ImprintClassifierCV(clone(clf), {"n_proxies": [1]}, cv=2)
    for other in (search, search.fit(X[:50], y[:50])):
        with pytest.raises(TypeError, match="best_estimator_ of a search; got Impr"):
            clf.merge(other)
    clf.merge(search.best_estimator_)


def test_which_of_two_is_not_fitted_is_told(digits):
    clf = plain_classifier("mean").fit(*digits)
    with pytest.raises(NotFittedError, match=r"^other must be fitted"):
        clf.merge(plain_classifier("mean"))
    with pytest.raises(
        NotFittedError, match=r"^This ImprintClassifier instance is not"
    ):
        plain_classifier("mean").merge(clf)


def test_labels_to_forget_are_a_list():
    clf = plain_classifier("mean").fit(np.eye(3), [0, 1, 2])
    with pytest.raises(ValueError, match=r"a label or a list of them; got .* \(1, 2\)"):
        clf.forget([[0, 1]])
    for no_labels in ({0: 1}, slice(1), iter([0])):
        with pytest.raises(ValueError, match="classes must be labels that the clas"):
            clf.forget(no_labels)
    assert clf.classes_.tolist() == [0, 1, 2]


class TestMemory:
    """Beside X and what it returns, `fit` holds little."""

    @pytest.mark.parametrize("sizes", [[20] * 400, [500] * 25, [20] * 200 + [500] * 25])
    @pytest.mark.parametrize(
        "params",
        [
            {},
            PUBLISHED_METHODS["westerhoff"],
            {"generator": "fps"},
            {"generator": "all", "proxy_norm": "quantile"},
            {"generator": "least_squares", "whitening": None, "mean_weight": 0},
        ],
        ids=["default", "westerhoff", "fps", "quantile", "least_squares"],
    )
    def test_of_fit(self, sizes, params):
        X, y = self.data(sizes, 512)
        clf = ImprintClassifier(**params, n_jobs=1)
        held, returned = self.held(clf.fit, X, y)
        assert returned > 2**23
        assert held < min(2**24, X.nbytes)

    @pytest.mark.parametrize("support_norm", [None, "l2", "power"])
    @pytest.mark.parametrize("generator", ["mean", "random"])
    @pytest.mark.parametrize("whitening", [None, "auto"])
    @pytest.mark.parametrize("dtype", [np.float16, np.float32])
    def test_of_fit_to_a_large_class(self, support_norm, generator, whitening, dtype):
        """Where no generator needs all rows at once, they are not gathered."""
        X, y = self.data([60_000, 3, 300], 256)
        X, y = X.astype(dtype), np.random.default_rng(1).permutation(y)
        clf = ImprintClassifier(
            generator, support_norm=support_norm, whitening=whitening, n_jobs=1
        )
        held, _ = self.held(clf.fit, X, y)
        assert held < 5 * 2**22 < X.nbytes

    @pytest.mark.parametrize("generator", ["mean", "kmeans"])
    @pytest.mark.parametrize("layout", ["Fortran", "rows", "columns", "unaligned"])
    def test_of_fit_to_rows_that_lie_apart(self, layout, generator):
        """Such as those of a DataFrame: what is gathered is no copy of all."""
        X, y = self.data([3000] * 20, 128)
        if layout == "Fortran":
            X = np.asfortranarray(X)
        elif layout == "rows":
            X = np.repeat(X, 2, axis=0)[::2]
        elif layout == "columns":
            X = np.repeat(X, 2, axis=1)[:, :128]
        else:
            bytes_ = np.empty(X.nbytes + 1, np.uint8)[1:]
            bytes_[:] = X.view(np.uint8).ravel()
            X = bytes_.view(X.dtype).reshape(X.shape)
        expected = ImprintClassifier(generator, n_jobs=1, random_state=0)
        clf = clone(expected)
        held, _ = self.held(clf.fit, X, y)
        assert held < 2**24 < X.nbytes
        expected.fit(np.array(X, order="C"), y)
        np.testing.assert_array_equal(clf.proxies_, expected.proxies_)

    def test_of_alpha_of_least_squares(self):
        X, y = self.data([3] * 3000, 128)
        generator = LeastSquaresProxies("auto")
        clf = ImprintClassifier(generator, whitening=None, mean_weight=0, n_jobs=1)
        held, _ = self.held(clf.fit, X, y)
        assert held < 2**26

    @pytest.mark.parametrize(
        "params", [{"forgettable": True}, {"whitening": None, "kernel_weight": 0.1}]
    )
    def test_of_merge(self, params):
        """What the other one knows is not copied whole."""
        X, y = self.data([500] * 200, 256)
        known, other = (
            ImprintClassifier("mean", **params).fit(X[i::2], y[i::2]) for i in range(2)
        )
        held, returned = self.held(known.merge, other)
        assert held < 2**26 < returned

    def test_of_predictions(self):
        """Scores of all classes are not held where they are not returned."""
        X, y = self.data([20] * 200, 32)
        clf = ImprintClassifier("mean", rejection=Rejection(-1)).fit(X, y)
        Q = np.tile(X, (20, 1))
        clf.predict_proba(Q[:2])
        scores = 4 * len(Q) * len(clf.classes_)
        for method in clf.predict, clf.score_samples:
            assert self.held(method, Q)[0] < scores / 3
        held, returned = self.held(clf.predict_proba, Q)
        assert returned > scores / 2
        assert held < scores / 3

    def test_of_calibration(self):
        """Scores of samples that are left out are held two or three times."""
        X, y = self.data([10] * 500, 32)
        clf = ImprintClassifier("mean", whitening=None, n_jobs=1).fit(X, y)
        clf.predict(X[:2])
        scores = 8 * len(X) * len(clf.classes_)
        assert self.held(clf.predict_proba, X[:2])[0] < 2.5 * scores

    @staticmethod
    def data(sizes, n_features):
        y = np.repeat(np.arange(len(sizes)), sizes)
        X = np.random.default_rng(0).standard_normal((len(y), n_features), np.float32)
        return X, y

    @staticmethod
    def held(method, *args):
        """Count the bytes that a call holds beside what stays, and those that do."""
        tracemalloc.start()
        try:
            result = method(*args)
            gc.collect()
            returned, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        del result
        return peak - returned, returned
