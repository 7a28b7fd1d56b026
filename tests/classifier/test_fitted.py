"""What is fitted: samples that wait in a queue, and parameters that do not change."""

import copy
import pickle
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from settings import plain_classifier
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics.pairwise import laplacian_kernel

from skimprint import Rejection
from skimprint._memory.learner import learn
from skimprint.aggregation import Votes
from skimprint.generation import KMeansProxies
from skimprint.persistence import load, save


class Root(BaseEstimator):
    """A norm with a parameter."""

    def __init__(self, p=0.5):
        self.p = p

    def __call__(self, X):
        return np.sign(X) * np.abs(X) ** self.p


class Laplacian(BaseEstimator):
    """A metric with a parameter."""

    def __init__(self, gamma=0.1):
        self.gamma = gamma

    def __call__(self, queries, proxies):
        return laplacian_kernel(queries, proxies, gamma=self.gamma)


def queue_of(clf):
    """The batches that wait to be learnt."""
    return clf._fitted._state_and_queue[1]


def waiting_in(clf):
    """The classes whose proxies are to be generated when first needed."""
    state = clf._fitted.last_state
    return {
        label
        for label, (block, place) in state.places.items()
        if block.proxies.sizes[place] == 0
    }


WAITING = ["kmeans", "kmedoids", "fps", "cov_max", "least_squares"]


class TestProxiesWait:
    """Those of a class that learns more, until needed, which nobody is to notice."""

    @pytest.fixture
    def parts(self, digits):
        X, y = digits
        return [(X[i::3], y[i::3]) for i in range(3)]

    @pytest.mark.parametrize(
        "params", [{}, {"whitening": "auto", "kernel_weight": 0.5}]
    )
    @pytest.mark.parametrize("generator", WAITING)
    def test_looking_changes_nothing(self, parts, generator, params, tmp_path):
        pytest.importorskip("safetensors", reason="needs safetensors")
        if params and generator == "least_squares":
            params = {"whitening": "auto"}
        clf = plain_classifier(generator, n_proxies=3, random_state=0, **params)
        blind, seen = clone(clf), clone(clf)
        for X, y in parts:
            blind.partial_fit(X, y)
            seen.partial_fit(X, y).predict(X[:3])
            assert not waiting_in(seen)
        assert waiting_in(blind) == set(np.unique(parts[0][1]))
        copies = pickle.loads(pickle.dumps(blind))
        save(blind, tmp_path / "model")
        for other in (blind, copies, load(tmp_path / "model")):
            np.testing.assert_array_equal(other.proxies_, seen.proxies_)
            np.testing.assert_array_equal(other.proxy_indices_, seen.proxy_indices_)
            assert not waiting_in(other)

    def test_classes_of_several_numbers_of_proxies(self, parts):
        labels = np.unique(parts[0][1]).tolist()
        n_proxies = {label: 1 + label % 3 for label in labels}
        clf = plain_classifier("kmeans", n_proxies=n_proxies, random_state=0)
        for X, y in parts:
            clf.partial_fit(X, y)
        assert waiting_in(clf) == {label for label in labels if n_proxies[label] > 1}
        counts = np.unique(clf.proxy_labels_, return_counts=True)[1]
        np.testing.assert_array_equal(counts, list(n_proxies.values()))

    def test_forgetting_and_merging_before_they_are_needed(self, parts):
        (X, y), *more = parts
        clf = plain_classifier("kmeans", n_proxies=3, random_state=0)
        blind, seen = clone(clf).fit(X, y), clone(clf).fit(X, y)
        others = [clone(clf).fit(*more[0]).partial_fit(*more[1]) for _ in range(2)]
        others[1].predict(X[:1])
        for model, other in zip((blind, seen), others, strict=True):
            model.partial_fit(X[::2], y[::2])
            if model is seen:
                model.predict(X[:1])
            model.forget(3).merge(other)
            if model is seen:
                model.predict(X[:1])
            model.forget([3, 5])
        np.testing.assert_array_equal(blind.proxies_, seen.proxies_)
        np.testing.assert_array_equal(blind.classes_, seen.classes_)

    def test_an_error_of_a_generator_of_ones_own_is_raised_at_once(self, parts):
        class Fails(KMeansProxies):
            fails = False

            def generate(self, support, n_proxies, **options):
                if Fails.fails:
                    raise RuntimeError("on purpose")
                return super().generate(support, n_proxies, **options)

        (X, y), *_ = parts
        clf = plain_classifier(Fails(), n_proxies=3, random_state=0).fit(X, y)
        before = clf.proxies_.copy()
        Fails.fails = True
        with pytest.raises(RuntimeError, match="on purpose"):
            clf.partial_fit(X, y)
        np.testing.assert_array_equal(clf.proxies_, before)


class TestQueue:
    """Small parts wait to be learnt together, which nobody is to notice."""

    @pytest.mark.parametrize("weighted", [False, True])
    @pytest.mark.parametrize("generator", ["mean", "all"])
    def test_any_parts_give_what_fit_gives_to_the_bit(
        self, digits, generator, weighted, monkeypatch
    ):
        X, y = digits
        weights = np.random.default_rng(0).uniform(0.1, 3, len(y)) if weighted else None
        whole = plain_classifier(generator).fit(X, y, sample_weight=weights)
        for n_parts, every, most in ((2, 1, 2**24), (40, 7, 2**24), (40, 50, 10**5)):
            monkeypatch.setattr("skimprint.classifier._fitted._MAX_QUEUE_BYTES", most)
            clf = plain_classifier(generator)
            for i, rows in enumerate(np.array_split(np.arange(len(y)), n_parts)):
                part = None if weights is None else weights[rows]
                clf.partial_fit(X[rows], y[rows], sample_weight=part)
                if i % every == 0:
                    clf.predict(X[:2])
            order = np.lexsort([clf.proxy_indices_, clf.proxy_labels_])
            np.testing.assert_array_equal(clf.proxies_[order], whole.proxies_)
            assert clf.n_samples_seen_ == len(y)

    @pytest.fixture
    def waiting(self, digits):
        """A classifier with samples that wait, and what it is to predict."""
        X, y = digits
        clf = plain_classifier("mean").fit(X[y < 8], y[y < 8])
        expected = clone(clf).fit(X, y).predict(X)
        for label in (8, 9):
            clf.partial_fit(X[y == label], y[y == label])
        assert len(queue_of(clf)) == 2
        return clf, X, expected

    def test_does_not_follow_the_samples(self, digits):
        X, y = digits
        expected = plain_classifier("mean").fit(X, y, np.ones(len(y))).proxies_
        clf, X, weights = plain_classifier("mean"), X.copy(), np.ones(len(y))
        for part in (slice(0, 100), slice(100, None)):
            clf.partial_fit(X[part], y[part], sample_weight=weights[part])
        assert queue_of(clf)
        X[:] = weights[:] = 0
        np.testing.assert_array_equal(clf.proxies_, expected)

    def test_is_bounded(self, digits, monkeypatch):
        X, y = digits
        most = 3 * X[:20].nbytes
        monkeypatch.setattr("skimprint.classifier._fitted._MAX_QUEUE_BYTES", most)
        clf, longest = plain_classifier("mean"), 0
        for rows in np.array_split(np.arange(len(y)), len(y) // 20):
            clf.partial_fit(X[rows], y[rows])
            longest = max(longest, len(queue_of(clf)))
        assert longest == 3

    def test_grows_with_what_is_known(self, digits, monkeypatch):
        """Else each part would write all samples again."""
        X, y = digits
        monkeypatch.setattr("skimprint.classifier._fitted._MAX_QUEUE_BYTES", 0)
        clf, states = plain_classifier("all"), set()
        for rows in np.array_split(np.arange(len(y)), 50):
            clf.partial_fit(X[rows], y[rows])
            states.add(clf._fitted.last_state.n_samples)
            known = clf._fitted.last_state.__sizeof__()
            assert sum(each.X.nbytes for each in queue_of(clf)) <= known / 2
        assert 4 < len(states) < 15

    def test_predictions_of_8_threads(self, waiting):
        clf, X, expected = waiting
        with ThreadPoolExecutor(8) as pool:
            for found in pool.map(lambda _: clf.predict(X), range(16)):
                np.testing.assert_array_equal(found, expected)
        assert not queue_of(clf)

    def test_nothing_is_lost_if_it_is_interrupted(self, waiting, monkeypatch):
        clf, X, expected = waiting

        def interrupt(*_, **__):
            raise KeyboardInterrupt

        for use in (lambda: clf.predict(X), lambda: clf.forget(3)):
            with monkeypatch.context() as patch:
                patch.setattr("skimprint.classifier._fitted.learn", interrupt)
                with pytest.raises(KeyboardInterrupt):
                    use()
        np.testing.assert_array_equal(clf.predict(X), expected)

    @pytest.mark.parametrize(
        "X, y, message",
        [
            (np.ones((1, 3)), [1], "3 features"),
            (np.full((1, 1024), np.nan), [1], "NaN"),
            (np.ones((1, 1024)), ["text"], "type of those"),
            (np.ones((2, 1024)), [1], "inconsistent"),
        ],
    )
    def test_errors_are_raised_at_once(self, waiting, X, y, message):
        clf, queries, expected = waiting
        before = clf._fitted
        with pytest.raises(ValueError, match=message):
            clf.partial_fit(X, y)
        assert clf._fitted is before
        np.testing.assert_array_equal(clf.predict(queries), expected)

    def test_pickles_and_copies_have_learnt_it(self, waiting):
        clf, X, expected = waiting
        assert queue_of(clf)
        twin = pickle.loads(pickle.dumps(clf))
        assert not queue_of(twin)
        np.testing.assert_array_equal(twin.predict(X), expected)

    def test_samples_may_be_changed_afterwards(self, digits):
        X, y = digits[0].copy(), digits[1]
        expected = plain_classifier("mean").fit(X, y).proxies_
        clf = plain_classifier("mean").partial_fit(X[:250], y[:250])
        clf.partial_fit(X[250:], y[250:])
        X[:] = 0
        np.testing.assert_array_equal(clf.proxies_, expected)

    def test_labels_of_other_types_and_lengths(self):
        clf = plain_classifier("mean").fit(np.eye(4)[:1], [1])
        for row, label in zip(np.eye(4)[1:], (True, 2.0, -3), strict=True):
            clf.partial_fit(row[None], [label])
        np.testing.assert_array_equal(clf.classes_, [-3, 1, 2])
        clf = plain_classifier("mean").fit(np.eye(4)[:1], ["a"])
        for row, label in zip(np.eye(4)[1:], ("b" * 9, "c", "b"), strict=True):
            clf.partial_fit(row[None], [label])
        assert clf.classes_.tolist() == ["a", "b", "b" * 9, "c"]


class TestQueueInParts:
    """A batch waits that rewrites much, which nobody is to notice."""

    @pytest.fixture(autouse=True)
    def small_parts(self, monkeypatch):
        monkeypatch.setattr("skimprint._memory.learner._PART_BYTES", 2**12)
        monkeypatch.setattr("skimprint._memory.learner._PARTS_PER_THREAD", 2)

    @pytest.fixture
    def batches(self, digits):
        X, y = digits[0][:, :24], digits[1]
        return [(X[i::10], y[i::10]) for i in range(10)]

    @staticmethod
    def learn(clf, batches, most, monkeypatch, looks=False):
        monkeypatch.setattr("skimprint.classifier._fitted._MAX_REWRITTEN_BYTES", most)
        n_waiting = 0
        for i, (X, y) in enumerate(batches):
            clf.partial_fit(X, y)
            n_waiting += len(queue_of(clf)) > 1
            if looks and i % 3 == 2:
                clf.predict(X[:3])
                assert not queue_of(clf)
        return n_waiting

    @pytest.mark.parametrize("n_jobs, looks", [(None, True), (3, False)])
    @pytest.mark.parametrize(
        "params",
        [
            {},
            {"support_norm": "auto"},
            {"whitening": "auto", "mean_weight": 0.5},
            {"whitening": "auto", "kernel_weight": 0.5},
        ],
        ids=str,
    )
    @pytest.mark.parametrize("generator", WAITING)
    def test_gives_what_learning_at_once_gives_to_the_bit(
        self, batches, generator, n_jobs, params, looks, monkeypatch
    ):
        if generator == "least_squares" and params.get("whitening"):
            params = {"whitening": "auto"}
        clf = plain_classifier(
            generator, n_proxies=3, random_state=0, forgettable=False, **params
        )
        at_once, later = clone(clf), clone(clf).set_params(n_jobs=n_jobs)
        assert self.learn(at_once, batches, 2**40, monkeypatch, looks) == 0
        assert self.learn(later, batches, 0, monkeypatch, looks) > 3
        X = batches[0][0]
        assert everything_said(later, X) == everything_said(at_once, X)
        for name in ("proxies_", "proxy_indices_", "class_count_"):
            np.testing.assert_array_equal(getattr(later, name), getattr(at_once, name))

    @pytest.fixture
    def waiting(self, batches, monkeypatch):
        """A classifier of which parts wait, one that learnt at once, and a batch."""
        clf = plain_classifier(n_proxies=3, random_state=0)
        expected = clone(clf)
        self.learn(expected, batches[:-1], 2**40, monkeypatch)
        self.learn(clf, batches[:-1], 0, monkeypatch)
        assert len(queue_of(clf)) > 2
        return clf, expected, batches[-1]

    @pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
    def test_nothing_is_lost_if_it_is_interrupted(self, waiting, error, monkeypatch):
        clf, expected, (X, y) = waiting
        n_parts, n_calls = len(queue_of(clf)), 0

        def second_call_fails(*args, **options):
            nonlocal n_calls
            n_calls += 1
            if n_calls == 2:
                raise error
            return learn(*args, **options)

        with monkeypatch.context() as patch:
            patch.setattr("skimprint.classifier._fitted.learn", second_call_fails)
            with pytest.raises(error):
                clf.partial_fit(X, y)
        assert len(queue_of(clf)) == n_parts - 1
        assert everything_said(copy.deepcopy(clf), X) == everything_said(expected, X)
        for model in (clf, expected):
            model.partial_fit(X, y)
        assert everything_said(clf, X) == everything_said(expected, X)
        assert clf.n_samples_seen_ == expected.n_samples_seen_

    def test_what_was_known_is_freed_on_the_way(self, waiting, monkeypatch):
        clf, *_ = waiting
        blocks = clf._fitted.last_state.blocks
        known = [weakref.ref(block.memory.values.vectors) for block in blocks]
        n_there = []
        del blocks

        def count(*args, **options):
            n_there.append(sum(ref() is not None for ref in known))
            return learn(*args, **options)

        monkeypatch.setattr("skimprint.classifier._fitted.learn", count)
        assert clf.classes_ is not None
        assert n_there == sorted(n_there, reverse=True)
        assert n_there[-1] < n_there[0] / 2

    def test_samples_may_be_changed_afterwards(self, waiting):
        clf, expected, (X, y) = waiting
        expected.partial_fit(X, y)
        X, queries = X.copy(), X
        clf.partial_fit(X, y)
        X[:] = 0
        assert everything_said(clf, queries) == everything_said(expected, queries)

    def test_learns_at_once_what_would_differ(self, waiting):
        clf, _, (X, y) = waiting
        for more, labels, weights in (
            (X, y, np.ones(len(y))),  # a sum of weights may round
            (X, y + 1, None),  # a new class
            (np.tile(X, (50, 1)), np.tile(y, 50), None),  # more than what is known
        ):
            other = copy.deepcopy(clf).partial_fit(more, labels, sample_weight=weights)
            assert not queue_of(other)


def everything_said(clf, X):
    """All that a classifier says of queries, as bytes."""
    methods = ("predict", "decision_function", "predict_log_proba", "score_samples")
    said = [getattr(clf, name)(X) for name in methods]
    return [array.tobytes() for array in (*said, *clf.kproxies(X, 3))]


class TestSetAfterFit:
    """Parameters take effect with the next fit, but for those of decisions alone."""

    @pytest.fixture
    def fitted(self, digits):
        X, y = digits[0][:200, :64], digits[1][:200]
        return plain_classifier(n_proxies=3, random_state=0).fit(X, y), X, y

    @pytest.mark.parametrize(
        "params",
        [
            {"generator": "mean"},
            {"generator": "least_squares", "n_proxies": 1},
            {"n_proxies": 2},
            {"n_proxies": {0: 1}},
            {"support_norm": "power"},
            {"proxy_norm": "quantile"},
            {"query_norm": None},
            {"aggregation": "mnn"},
            {"aggregation": Votes(3)},
            {"aggregation": lambda similarities, proxy_classes: similarities},
            {"metric": "euclidean"},
            {"metric": "mahalanobis"},
            {"whitening": 0.5},
            {"whitening": "auto"},
            {"mean_weight": 0.5},
            {"kernel_weight": 0.5},
            {"head": (np.eye(2, 64), ["a", "b"])},
            {"random_state": 7},
        ],
        ids=" ".join,
    )
    def test_is_without_effect_until_the_next_fit(self, fitted, params):
        clf, X, y = fitted
        twin = pickle.loads(pickle.dumps(clf))
        clf.set_params(**params)
        assert everything_said(clf, X) == everything_said(twin, X)
        for model in (clf, twin):
            model.partial_fit(X[:50] + 0.1, y[:50]).partial_fit(X[50:60], y[50:60] + 10)
        assert everything_said(clf, X) == everything_said(twin, X)
        for model in (clf, twin):
            model.forget(3)
        assert everything_said(clf, X) == everything_said(twin, X)
        np.testing.assert_array_equal(clf.proxies_, twin.proxies_)

    @pytest.mark.parametrize(
        "params",
        [
            {"generator__max_iter": 1},
            {"generator__n_init": 5},
            {"aggregation__n_neighbors": 1},
            {"aggregation__weights": "distance"},
            {"metric__gamma": 1.0},
            {"support_norm__p": 0.3},
            {"query_norm__p": 0.3},
            {"proxy_norm__p": 0.3},
        ],
        ids=str,
    )
    def test_parameters_of_components_are_without_effect_too(self, fitted, params):
        _, X, y = fitted
        components = {"generator": KMeansProxies(), "aggregation": Votes(3)}
        of_norm, of_metric = "norm" in str(params), "metric" in str(params)
        if of_norm:
            names = ("support_norm", "query_norm", "proxy_norm")
            components |= {name: Root() for name in names} | {"whitening": "auto"}
        components["metric"] = Laplacian() if of_metric else "cosine"
        clf = plain_classifier(n_proxies=3, random_state=0, **components).fit(X, y)
        assert hasattr(clf, "whitening_") == of_norm  # the norms agree
        assert everything_said(clone(clf).fit(X, y), X) == everything_said(clf, X)
        twin = pickle.loads(pickle.dumps(clf))
        clf.set_params(**params)
        for step in (0, 1):
            again = pickle.loads(pickle.dumps(clf))
            for model in (clf, again):
                assert everything_said(model, X) == everything_said(twin, X)
            for model in (clf, twin):
                model.partial_fit(X[:50] + step, y[:50])
        assert everything_said(clf, X) == everything_said(twin, X)
        np.testing.assert_array_equal(clf.proxies_, twin.proxies_)
        assert clf.get_params() != twin.get_params()
        fresh = clone(clf).fit(X, y)
        assert everything_said(clf.fit(X, y), X) == everything_said(fresh, X)

    def test_a_number_for_each_class_may_be_changed_afterwards(self, fitted):
        clf, X, y = fitted
        numbers = dict.fromkeys(range(10), 3)
        clf.set_params(n_proxies=numbers).fit(X, y)
        twin = pickle.loads(pickle.dumps(clf))
        numbers[0] = 1
        again = pickle.loads(pickle.dumps(clf))
        for model in (clf, twin, again):
            model.partial_fit(X[:50] + 1, y[:50])
            np.testing.assert_array_equal(model.proxies_, clf.proxies_)

    def test_takes_effect_with_the_next_fit(self, fitted):
        clf, X, y = fitted
        params = {"metric": "euclidean", "whitening": 0.5, "aggregation": Votes(3)}
        clf.set_params(**params).predict(X)
        fresh = clone(clf).fit(X, y)
        assert everything_said(clf.fit(X, y), X) == everything_said(fresh, X)

    def test_temperature_and_rejection_act_at_once(self, fitted):
        clf, X, y = fitted
        probabilities = clf.predict_proba(X)
        clf.set_params(temperature=0.1, rejection=Rejection(-1, threshold=0.9))
        fresh = clone(clf).fit(X, y)
        assert everything_said(clf, X) == everything_said(fresh, X)
        assert clf.predict_proba(X).max() > probabilities.max()
        assert 0 < np.mean(clf.predict(X) == -1) < 1
        clf.set_params(rejection__threshold=-2.0, rejection__score="contrast")
        fresh = clone(clf).fit(X, y)
        assert everything_said(clf, X) == everything_said(fresh, X)
        assert -1 not in clf.predict(X)
        assert -1 not in clf.set_params(rejection=None).predict(X)

    @pytest.mark.parametrize(
        "params", [{"temperature": "auto"}, {"rejection": Rejection(-1)}], ids=str
    )
    def test_what_needs_samples_asks_for_a_fit(self, fitted, params):
        clf, X, y = fitted
        clf.set_params(**params)
        method = clf.predict if "rejection" in params else clf.predict_proba
        with pytest.raises(NotFittedError, match="call fit again"):
            method(X)
        clf.partial_fit(X[:50] + 0.1, y[:50])  # those of later samples would not do
        with pytest.raises(NotFittedError, match="call fit again"):
            method(X)
        clf.fit(X, y)
        assert method(X).shape[0] == len(X)

    def test_a_merge_goes_by_the_parameters_of_the_fits(self, fitted):
        clf, X, y = fitted
        other = clone(clf).fit(X[:50], y[:50])
        twin = pickle.loads(pickle.dumps(clf)).merge(other)
        clf.set_params(metric="euclidean", n_proxies=9)
        assert everything_said(clf.merge(other), X) == everything_said(twin, X)
        with pytest.raises(ValueError, match="n_proxies is 2 instead of 3"):
            clf.merge(clone(clf).set_params(metric="dot", n_proxies=2).fit(X, y))


@pytest.mark.parametrize("generator", ["mean", "kmeans"])
def test_copies_share_what_is_fitted_and_go_on_by_themselves(digits, generator):
    X, y = digits
    clf = plain_classifier(generator, random_state=0).fit(X, y)
    before, labels = clf.proxies_.copy(), clf.classes_.copy()
    other = copy.copy(clf).set_params(temperature=2.0)
    assert other._fitted is clf._fitted
    other.partial_fit(X[:20], np.full(20, 10)).forget(0)
    assert clf.temperature != 2.0
    np.testing.assert_array_equal(clf.proxies_, before)
    np.testing.assert_array_equal(clf.classes_, labels)
    assert other.classes_.tolist() == [*range(1, 11)]
