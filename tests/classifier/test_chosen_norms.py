"""Norms that are chosen: again, by what is known now, after `forget` and `merge`."""

import pickle
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from settings import first_rows, plain_classifier, spelt
from sklearn.cluster import KMeans

from skimprint import ImprintClassifier
from skimprint.generation import GENERATORS
from skimprint.normalization import NORMS
from skimprint.persistence import load, save

AUTO = {"support_norm": "auto", "query_norm": "auto"}
NAMES, SIZES = ["first", "second", "third"], [5, 7, 9]

# Samples of so few are kept by several parts of the classifier.
KEEPING = [
    {},
    {"n_proxies": 2, "kernel_weight": 0.5},
    {"metric": "mahalanobis", "whitening": None},
    {"whitening": 0.5, "mean_weight": 0},
]


def samples(*signed, sizes=SIZES, dtype=np.float64):
    """Samples of some classes, each with negative values or without, and weights."""
    rng = np.random.default_rng(0)
    sizes = sizes[: len(signed)]
    y = np.repeat(NAMES[: len(signed)], sizes)
    X = rng.normal(size=(len(y), 12))
    X += np.repeat(2 * rng.normal(size=(len(signed), 12)), sizes, axis=0)
    X = np.where(np.repeat(signed, sizes)[:, None], X, np.abs(X))
    return X.astype(dtype), y, rng.uniform(0.5, 2, len(y))


def learn_by_class(clf, X, y, weights=None):
    """Learn one class after the other, so that the first one chooses the norm."""
    for label in dict.fromkeys(y.tolist()):
        some = None if weights is None else weights[y == label]
        clf.partial_fit(X[y == label], y[y == label], sample_weight=some)
    return clf


def fit(clf, X, y, weights=None, *, labels):
    """Fit the samples of some of the classes."""
    some = np.isin(y, labels)
    return clf.fit(X[some], y[some], None if weights is None else weights[some])


def assert_alike(found, expected, *, rows=None, rounding=1e-9):
    """Compare classifiers; training rows of the second have these numbers."""
    X = np.random.default_rng(1).normal(size=(30, 12)) + 0.5
    X = X.astype(found.proxies_.dtype)
    assert found.support_norm_ == expected.support_norm_
    mine, theirs = found._fitted.plan, expected._fitted.plan
    assert mine.query_norm is theirs.query_norm
    assert mine.needs == theirs.needs
    np.testing.assert_array_equal(found.classes_, expected.classes_)
    np.testing.assert_allclose(found.class_count_, expected.class_count_, 1e-6)
    np.testing.assert_allclose(found.proxies_, expected.proxies_, rounding, rounding)
    if rows is not None:
        numbers = rows[expected.proxy_indices_]
        np.testing.assert_array_equal(found.proxy_indices_, numbers)
    for name in ("decision_function", "score_samples"):
        mine, theirs = getattr(found, name)(X), getattr(expected, name)(X)
        np.testing.assert_allclose(mine, theirs, rounding, rounding)
    np.testing.assert_array_equal(found.predict(X), expected.predict(X))
    # Where a whitening is made without some, lots are drawn by the values, to the bit.
    if expected._fitted.plan.whitening is None:
        mine, theirs = found.predict_proba(X), expected.predict_proba(X)
        np.testing.assert_allclose(mine, theirs, rounding, rounding)


def large(*signed):
    """Samples of which a classifier with one mean a class keeps only the means."""
    return samples(*signed, sizes=[40, 50, 60])[:2]


def means(**params):
    return plain_classifier("mean", random_state=0, **AUTO | params)


class TestForget:
    @pytest.mark.parametrize("with_weights", [False, True])
    @pytest.mark.parametrize("is_signed", [False, True])
    @pytest.mark.parametrize("params", KEEPING, ids=spelt)
    @pytest.mark.parametrize("generator", [*GENERATORS, first_rows, KMeans(n_init=1)])
    def test_chooses_as_a_fit_of_what_is_left(
        self, generator, params, is_signed, with_weights
    ):
        if generator == "random":  # whose lots are drawn by the values, to the bit
            params = params | {"n_proxies": 20}
        elif generator == "least_squares":  # one proxy is made of sums alone
            params = {"n_proxies": 20} | params
        X, y, weights = samples(is_signed, not is_signed, not is_signed)
        weights = weights if with_weights else None
        clf = ImprintClassifier(generator, random_state=0, **params)
        fresh = fit(clf, X, y, weights, labels=NAMES[1:])
        clf = ImprintClassifier(generator, random_state=0, **params)
        if is_signed:
            clf.fit(X, y, weights)
        else:
            learn_by_class(clf, X, y, weights)
        assert clf.support_norm_ == ("l2" if is_signed else "power")
        assert clf.forget("first").support_norm_ == ("power" if is_signed else "l2")
        rows = np.arange(5, 21)
        clusters = generator in ("kmeans", "least_squares") and "n_proxies" in params
        if clusters or isinstance(generator, KMeans):
            rows = None  # two samples are as near to their mean
        assert_alike(clf, fresh, rows=rows)
        assert clf.n_samples_seen_ == len(y)

    def test_of_float32(self):
        X, y, _ = samples(False, True, True, dtype=np.float32)
        clf = learn_by_class(ImprintClassifier(random_state=0), X, y).forget("first")
        fresh = fit(ImprintClassifier(random_state=0), X, y, labels=NAMES[1:])
        assert clf.proxies_.dtype == np.float32
        assert_alike(clf, fresh, rows=np.arange(5, 21), rounding=1e-4)

    def test_of_classes_that_came_in_parts(self):
        X, y, _ = samples(False, True, True)
        clf = learn_by_class(ImprintClassifier("all"), X[::2], y[::2])
        clf.partial_fit(X[1::2], y[1::2]).forget("first")
        order = np.concatenate([np.arange(21)[::2], np.arange(21)[1::2]])
        left = order[y[order] != "first"]
        fresh = ImprintClassifier("all").fit(X[left], y[left])
        rows = np.flatnonzero(y[order] != "first")
        assert_alike(clf, fresh, rows=rows)

    def test_goes_on_learning(self):
        X, y, _ = samples(False, True, True)
        clf = learn_by_class(ImprintClassifier("all"), X, y).forget("first")
        clf.partial_fit(np.abs(X[:5]), y[:5])
        assert clf.support_norm_ == "l2"
        assert_alike(clf, ImprintClassifier("all").fit(X, y))

    @pytest.mark.parametrize("is_signed", [False, True])
    def test_of_samples_that_are_not_kept_says_so(self, is_signed):
        X, y = large(is_signed, not is_signed, not is_signed)
        clf = learn_by_class(means(), X, y) if not is_signed else means().fit(X, y)
        norm = clf.support_norm_
        others = clf.proxies_[1:]
        message = rf"support_norm_ stays '{norm}'.*support_norm='l2' or 'power' before"
        with pytest.warns(UserWarning, match=message) as caught:
            clf.forget("first")
        assert caught[0].filename == __file__
        assert clf.support_norm_ == norm
        np.testing.assert_array_equal(clf.proxies_, others)

    @pytest.mark.parametrize("norm", ["l2", "power", None])
    def test_leaves_a_norm_that_has_a_name(self, norm):
        X, y, _ = samples(False, True, True)
        clf = learn_by_class(ImprintClassifier("all", support_norm=norm), X, y)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert clf.forget("first").support_norm_ == norm

    def test_that_changes_no_choice_leaves_the_bits(self):
        X, y, _ = samples(True, True, False)
        clf = ImprintClassifier("all", whitening=None, mean_weight=0).fit(X, y)
        others = clf.proxies_[5:]
        np.testing.assert_array_equal(clf.forget("first").proxies_, others)

    @pytest.mark.parametrize("is_signed", [False, True])
    def test_of_all_classes_lets_the_next_samples_choose(self, is_signed):
        X, y = large(is_signed, not is_signed)
        clf = means().fit(X[:40], y[:40]).forget("first")
        fresh = means().fit(X[40:], y[40:])
        assert pickle.dumps(clf) == pickle.dumps(
            means().fit(X[40:80], y[:40]).forget("first")
        )
        clf.partial_fit(X[40:], y[40:])
        assert clf.support_norm_ == fresh.support_norm_
        np.testing.assert_array_equal(clf.proxies_, fresh.proxies_)

    def test_goes_by_the_parameters_of_the_last_fit(self):
        X, y, _ = samples(False, True, True)
        clf = learn_by_class(ImprintClassifier(n_proxies=3, random_state=0), X, y)
        fresh = ImprintClassifier(n_proxies=3, random_state=0)
        fit(fresh, X, y, labels=NAMES[1:])
        clf.set_params(n_proxies=1, whitening=None, generator="mean")
        assert_alike(clf.forget("first"), fresh)

    def test_an_error_leaves_the_classifier(self):
        calls = []

        def generator(X_c, n_proxies, random_state):
            calls.append(X_c)
            if len(calls) > 3:
                raise RuntimeError("no more")
            return X_c[:n_proxies]

        X, y, _ = samples(False, True, True)
        clf = learn_by_class(ImprintClassifier(generator, n_proxies=2), X, y)
        before = clf.predict_proba(X)
        with pytest.raises(RuntimeError, match="no more"):
            clf.forget("first")
        assert clf.classes_.tolist() == NAMES
        assert clf.support_norm_ == "power"
        np.testing.assert_array_equal(clf.predict_proba(X), before)

    def test_of_a_head(self):
        X, y, _ = samples(False, True, False)
        head = X[[5, 0, 1]], np.array(["signed", "one", "two"])
        clf = ImprintClassifier("all", head=head, whitening=None).fit(X[12:], y[12:])
        assert clf.support_norm_ == "l2"
        fresh = ImprintClassifier("all", whitening=None, head=(X[:2], head[1][1:]))
        fresh.fit(X[12:], y[12:])
        assert_alike(clf.forget("signed"), fresh, rows=np.append(np.arange(9), -1))

    def test_of_a_head_that_has_learnt_more_stays(self):
        X, y, _ = samples(False, True, True)
        clf = ImprintClassifier("all", head=(X[[0, 6]], ["first", "second"]))
        clf.fit(X, y)
        with pytest.warns(UserWarning, match="support_norm_ stays 'l2'"):
            clf.forget(["second", "third"])


class TestWithoutWeight:
    """Samples of no weight count as absent."""

    @pytest.mark.parametrize("method", ["fit", "partial_fit"])
    def test_samples_choose_nothing(self, method):
        X, y, weights = samples(True, False)
        weights[:5] = 0
        clf = getattr(ImprintClassifier("all"), method)(X, y, sample_weight=weights)
        assert clf.support_norm_ == "power"
        assert clf.classes_.tolist() == NAMES[:2]
        assert clf.forget("first").support_norm_ == "power"

    def test_classes_stay_in_another_norm(self):
        X, y, weights = samples(True, False, True)
        weights[y == "third"] = 0
        clf = ImprintClassifier("all").fit(X, y, weights).forget("first")
        assert clf.support_norm_ == "power"
        assert clf.classes_.tolist() == NAMES[1:]


class TestTraces:
    """A forgotten class leaves no trace in the norm."""

    @settings(max_examples=40)
    @given(st.data())
    def test_of_any_order(self, data):
        signed = data.draw(st.lists(st.booleans(), min_size=3, max_size=3))
        order = data.draw(st.permutations(range(3)))
        gone = data.draw(st.sampled_from(NAMES))
        generator = data.draw(st.sampled_from(["all", "mean", "kmeans", "cov_max"]))
        steps = data.draw(st.lists(st.sampled_from(["pickle", "more", "merge"])))
        X, y, _ = samples(*signed)
        params = {"generator": generator, "random_state": 0}
        clf = ImprintClassifier(**params)
        for number in order:
            clf.partial_fit(X[y == NAMES[number]], y[y == NAMES[number]])
        for step in steps:
            if step == "pickle":
                clf = pickle.loads(pickle.dumps(clf))
            elif step == "more":
                clf.partial_fit(X, y)
            else:
                clf.merge(ImprintClassifier(**params).fit(X, y))
        clf.forget(gone)
        fresh = fit(ImprintClassifier(**params), X, y, labels=sorted({*NAMES} - {gone}))
        assert clf.support_norm_ == fresh.support_norm_
        assert clf._fitted.plan.query_norm is NORMS[clf.support_norm_]

    @pytest.mark.parametrize("generator", ["all", "mean", "kmeans", "cov_max"])
    def test_of_samples_that_came_twice(self, generator):
        X, y, _ = samples(False, True, True)
        clf = ImprintClassifier(generator, random_state=0)
        clf = learn_by_class(clf, X, y).partial_fit(X, y)
        assert clf.support_norm_ == "power"
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert clf.forget(NAMES[0]).support_norm_ == "l2"

    def test_of_points_that_are_means(self):
        # Means of samples with negative values may have none.
        rng = np.random.default_rng(0)
        y = np.repeat(NAMES, 300)
        X = np.abs(rng.normal(size=(900, 4))) + 5
        X[600:] -= 9 * (rng.random((300, 4)) < 0.01)
        clf = learn_by_class(means(), X, y)
        assert clf._fitted.state.gather(["third"]).proxies.values.vectors.min() > 0
        with pytest.warns(UserWarning, match="support_norm_ stays 'power'"):
            clf.forget("first")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert clf.forget("third").support_norm_ == "power"


class TestMerge:
    def pair(self, mine, theirs, generator="kmeans", **params):
        """Two classifiers, and one of the samples of both."""
        X, y, _ = samples(False, True, False)
        both = np.concatenate([np.flatnonzero(np.isin(y, k)) for k in (mine, theirs)])
        clf = ImprintClassifier(generator, random_state=0, **params)
        found = [
            fit(ImprintClassifier(generator, random_state=0, **params), X, y, labels=k)
            for k in (mine, theirs)
        ]
        return *found, clf.fit(X[both], y[both]), np.arange(len(both))

    @pytest.mark.parametrize("params", KEEPING, ids=spelt)
    @pytest.mark.parametrize("generator", [*GENERATORS, first_rows, KMeans(n_init=1)])
    @pytest.mark.parametrize(
        "mine, theirs",
        [(["first", "third"], ["second"]), (["second"], ["first", "third"])],
    )
    def test_one_follows(self, mine, theirs, generator, params):
        params = params | {"n_proxies": 20}
        here, there, whole, rows = self.pair(mine, theirs, generator, **params)
        before = there.support_norm_, there._fitted, pickle.dumps(there)
        assert {here.support_norm_, there.support_norm_} == {"l2", "power"}
        here.merge(there)
        assert_alike(here, whole, rows=rows)
        assert there.support_norm_ == before[0]
        assert there._fitted is before[1]
        assert pickle.dumps(there) == before[2]

    @pytest.mark.parametrize("params", KEEPING, ids=spelt)
    @pytest.mark.parametrize("generator", ["all", "mean", "kmeans", "cov_max"])
    @pytest.mark.parametrize("is_mine", [True, False])
    def test_both_follow_parts_that_came_later(self, is_mine, generator, params):
        params = params | {"n_proxies": 20}
        mine, theirs = NAMES[:2], NAMES[2:]
        if not is_mine:
            mine, theirs = theirs, mine
        here, there, whole, _ = self.pair(mine, theirs, generator, **params)
        X, y, _ = samples(False, True, False)
        streamed = (here if is_mine else there).forget(NAMES[:2])
        learn_by_class(streamed, X[y != "third"], y[y != "third"])
        assert here.support_norm_ == there.support_norm_ == "power"
        before = pickle.dumps(there)
        assert here.merge(there).support_norm_ == "l2"
        assert_alike(here, whole)
        assert pickle.dumps(there) == before

    def test_both_stay_where_one_must(self):
        condensed = learn_by_class(means(), *large(False, True))
        X, y, _ = samples(False)
        other = means().fit(X, y)
        assert condensed.support_norm_ == other.support_norm_ == "power"
        assert condensed.merge(other).support_norm_ == "power"

    def test_of_a_known_class(self):
        X, y, _ = samples(False, False, True)
        y[y == "third"] = "first"
        here, there = ImprintClassifier("all"), ImprintClassifier("all")
        here.fit(X[:12], y[:12]).merge(there.fit(X[12:], y[12:]))
        assert_alike(here, ImprintClassifier("all").fit(X, y), rows=np.arange(21))

    @pytest.mark.parametrize("is_mine", [True, False])
    def test_the_other_one_follows_if_it_must(self, is_mine):
        X, y = large(False)
        condensed = means().fit(X, y)
        few = means().fit(-np.eye(12), [f"class {i}" for i in range(12)])
        here, there = (condensed, few) if is_mine else (few, condensed)
        here.merge(there)
        assert here.support_norm_ == "power"  # as if parts had been learnt
        row = here.classes_.tolist().index("first")
        np.testing.assert_array_equal(here.proxies_[row], condensed.proxies_[-1])
        assert here._fitted.state.is_nonnegative is False

    @pytest.mark.parametrize("is_signed", [True, False])
    def test_is_an_error_where_none_can_follow(self, is_signed):
        X, y = large(is_signed, not is_signed)
        here, there = means().fit(X[:40], y[:40]), means().fit(X[40:], y[40:])
        before = pickle.dumps(here), pickle.dumps(there)
        message = "same support_norm_; it is .* Fit both with support_norm='(l2|power)'"
        with pytest.raises(ValueError, match=message):
            here.merge(there)
        assert (pickle.dumps(here), pickle.dumps(there)) == before

    def test_of_one_norm_learns_nothing_again(self, monkeypatch):
        X, y, _ = samples(True, True, True)
        here = fit(ImprintClassifier("all"), X, y, labels=NAMES[:1])
        there = fit(ImprintClassifier("all"), X, y, labels=NAMES[1:])
        monkeypatch.setattr("skimprint.classifier._learning.renormalized", None)
        here.merge(there).forget("second")


@pytest.mark.parametrize("how", ["pickle", "file", "merge", "more"])
def test_what_chooses_survives(how, tmp_path):
    X, y, _ = samples(False, True, False)
    clf = ImprintClassifier("kmeans", random_state=0).fit(X, y)
    if how == "pickle":
        clf = pickle.loads(pickle.dumps(clf))
    elif how == "file":
        pytest.importorskip("safetensors")
        save(clf, tmp_path / "model")
        clf = load(tmp_path / "model")
    elif how == "merge":
        clf = fit(ImprintClassifier(random_state=0), X, y, labels=["second"])
        other = fit(ImprintClassifier(random_state=0), X, y, labels=["first", "third"])
        clf.merge(other)
    else:
        clf.partial_fit(X[y == "third"], y[y == "third"])
    assert clf.forget("third").support_norm_ == "l2"
    assert clf.forget("second").support_norm_ == "power"
    assert clf.merge(fit(ImprintClassifier(random_state=0), X, y, labels=["third"]))
    assert clf.support_norm_ == "power"


@pytest.mark.parametrize("temperature", [1.0, "auto"])
def test_samples_that_come_twice_stay_two_proxies(temperature):
    """In another norm too, whether or not one of them is kept to be left out."""
    X = np.random.default_rng(0).uniform(0.1, 1, size=(8, 5))
    X, y = np.concatenate([X, X[:3], -X[:2]]), np.append(np.arange(11) % 2, [2, 2])
    clf = ImprintClassifier("all", temperature=temperature, whitening=None)
    clf.fit(X, y).forget([2])
    fresh = ImprintClassifier("all", temperature=temperature, whitening=None)
    fresh.fit(X[:11], y[:11])
    np.testing.assert_allclose(clf.proxies_, fresh.proxies_)
    np.testing.assert_array_equal(clf.proxy_indices_, fresh.proxy_indices_)
