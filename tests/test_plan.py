"""What parameters mean together."""

import pickle
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from settings import plain_classifier
from sklearn.base import BaseEstimator, clone

from skimprint import ImprintClassifier, Rejection
from skimprint._memory.state import Needs
from skimprint._plan import MAY_DIFFER, Plan, first_difference
from skimprint._scoring.similarity import METRICS
from skimprint.aggregation import Votes
from skimprint.generation import KMeansProxies, LeastSquaresProxies
from skimprint.normalization import IDENTITY, NORMS, PROXY_NORMS, l2_normalize

# As the guide has them: bytes of scatters, and samples of each class.
EACH, SOME = 2**62, 128 * 2**20
SAMPLES, OF_KERNEL = 200, 1000


class Part(BaseEstimator):
    """A function of a user's, with a parameter."""

    def __init__(self, value):
        self.value = value

    def __call__(self, *args):
        """Do nothing."""


def plan_of(generator="mean", is_nonnegative=True, **params):
    return Plan.of(plain_classifier(generator, **params), is_nonnegative)


class TestResolves:
    def test_names(self):
        plan = plan_of("kmeans", metric="cosine", proxy_norm=None, aggregation="mnn")
        assert isinstance(plan.generator, KMeansProxies)
        assert plan.metric is METRICS["cosine"]
        assert plan.support_norm is plan.query_norm is NORMS["l2"]
        assert plan.proxy_norm is IDENTITY
        assert plan_of(proxy_norm="quantile").proxy_norm is PROXY_NORMS["quantile"]
        assert plan.aggregation.n_neighbors == 5
        assert plan_of(aggregation=Votes(3)).aggregation.n_neighbors == 3

    @pytest.mark.parametrize("is_nonnegative, name", [(True, "power"), (False, "l2")])
    def test_norms_by_the_first_samples(self, is_nonnegative, name):
        norms = {"support_norm": "auto", "query_norm": "auto"}
        plan = plan_of(is_nonnegative=is_nonnegative, **norms)
        assert plan.support_norm is plan.query_norm is NORMS[name]
        assert plan.support_norm_value == name

    @pytest.mark.parametrize(
        "support_norm, query_norm, agree",
        [
            ("l2", "l2", True),
            ("l2", "auto", True),
            ("l2", None, False),
            ("power", "l2", False),
            (None, "l2", True),  # what is not normalised is a query as it is
            (np.abs, np.abs, True),
            (np.abs, np.tanh, False),
        ],
    )
    def test_whether_norms_agree(self, support_norm, query_norm, agree):
        plan = plan_of(support_norm=support_norm, query_norm=query_norm)
        assert plan.norms_agree == agree

    @pytest.mark.parametrize(
        "norms", [(None, "l2"), ("l2", None), ("power", "l2"), (np.abs, np.tanh)]
    )
    def test_what_is_unlike_the_support_is_not_whitened(self, norms):
        names = dict(zip(("support_norm", "query_norm"), norms, strict=True))
        plan = plan_of(whitening="auto", **names)
        assert plan.whitening is None
        assert plan_of(whitening=0.3, **names).whitening == 0.3
        same = dict.fromkeys(names, norms[0])
        assert plan_of(whitening="auto", **same).whitening == "auto"

    def test_what_combines_all_classes_is_not_whitened(self):
        names = {"generator": "least_squares"}
        assert plan_of(whitening="auto", **names).whitening is None
        assert plan_of(whitening=0.3, **names).whitening == 0.3

    @pytest.mark.parametrize("metric", [*METRICS, lambda a, b: a @ b.T])
    @pytest.mark.parametrize("norm", ["l2", "power", None])
    @pytest.mark.parametrize("proxy_norm", [*PROXY_NORMS, None, np.abs])
    def test_distances_to_proxies_of_other_lengths_are_not_whitened(
        self, metric, norm, proxy_norm
    ):
        names = {"metric": metric, "proxy_norm": proxy_norm}
        names |= {"support_norm": norm, "query_norm": norm}
        are_far = (
            isinstance(metric, str)
            and metric not in ("dot", "cosine")
            and norm is not None
            and proxy_norm in (None, "quantile")
        )
        assert plan_of(whitening="auto", **names).whitening == (
            None if are_far else "auto"
        )
        assert plan_of(whitening=0.3, **names).whitening == 0.3

    @pytest.mark.parametrize("whitening", [True, False, np.False_])
    def test_whitening_is_no_switch(self, whitening):
        with pytest.raises(ValueError, match=f"does not whiten; got {whitening}"):
            plan_of(whitening=whitening)

    def test_seeds_are_drawn_once(self):
        state = np.random.RandomState(0)
        plan = plan_of(random_state=state)
        assert plan.seed != plan_of(random_state=state).seed
        assert plan_of(random_state=7).seed == 7

    def test_parameters_of_the_classifier_may_change_afterwards(self):
        clf = plain_classifier(KMeansProxies(n_init=2), aggregation=Votes(3))
        plan = Plan.of(clf, True)
        clf.set_params(n_proxies=7, metric="euclidean")
        assert plan.n_proxies == 20
        assert plan.metric is METRICS["dot"]
        with pytest.raises(FrozenInstanceError):
            plan.n_proxies = 7

    def test_numbers_of_proxies_may_change_afterwards(self):
        numbers = {"a": 2}
        plan = plan_of(n_proxies=numbers)
        numbers["a"] = 3
        assert plan.n_proxies_of(["a"]) == [2]
        assert plan.parameters["n_proxies"] == {"a": 2}

    @pytest.mark.parametrize(
        "name",
        [
            "support_norm",
            "generator",
            "proxy_norm",
            "query_norm",
            "aggregation",
            "metric",
        ],
    )
    def test_parameters_of_parts_may_change_afterwards(self, name):
        clf = plain_classifier(**{name: Part(1)})
        plan = Plan.of(clf, True)
        clf.set_params(**{f"{name}__value": 2})
        assert getattr(plan, name).function.value == 1


class TestNeeds:
    @pytest.mark.parametrize(
        "params, needs",
        [
            ({}, Needs()),
            ({"metric": "mahalanobis"}, Needs(2, 0, EACH)),
            ({"whitening": 0.3}, Needs(2, 0, SOME)),
            ({"whitening": 0.3, "forgettable": True}, Needs(2, 0, EACH)),
            ({"whitening": 0.3, "forgettable": False}, Needs(2)),
            ({"whitening": "auto"}, Needs(2, SAMPLES, SOME)),
            ({"mean_weight": 0.3}, Needs(1)),
            ({"mean_weight": 0}, Needs()),
            ({"mean_weight": "auto"}, Needs(1)),
            ({"kernel_weight": 0.3}, Needs(0, OF_KERNEL)),
            ({"temperature": "auto"}, Needs(0, SAMPLES)),
            ({"temperature": 2.0}, Needs()),
            ({"rejection": Rejection(-1)}, Needs(0, SAMPLES)),
            ({"rejection": Rejection(-1, threshold=0.5)}, Needs()),
            ({"generator": "least_squares"}, Needs(2, 0, SOME)),
            (
                {"generator": LeastSquaresProxies(alpha="auto")},
                Needs(2, SAMPLES, SOME),
            ),
            (
                {"kernel_weight": 0.3, "temperature": "auto", "whitening": 0.1},
                Needs(2, OF_KERNEL, SOME),
            ),
        ],
        ids=str,
    )
    def test_are_those_of_all_parts(self, params, needs):
        assert plan_of(**params).needs == needs

    def test_may_be_others(self):
        plan = plan_of()
        assert plan.with_needs(plan.needs) is plan
        assert plan.with_needs(Needs(samples=3)).needs.samples == 3
        assert plan.needs.samples == 0


class TestNumbers:
    def test_the_same_for_all_or_one_each(self):
        assert plan_of(n_proxies=3).n_proxies_of(["a", "b"]).tolist() == [3, 3]
        plan = plan_of(n_proxies={"a": 2, "b": 10**30})
        assert plan.n_proxies_of(["b", "a"]).tolist() == [np.iinfo(np.int32).max, 2]
        assert plan_of(n_proxies=10**30).n_proxies_of([1]) < 2**31

    @pytest.mark.parametrize(
        "n_proxies, message",
        [
            ({"a": 1}, r"none for \['b'\] \(its keys are \['a'\]\)"),
            ({"a": 1, "b": 0}, "at least 1; got 0 for 'b'"),
            ({"a": 1, "b": "many"}, "at least 1; got 'many' for 'b'"),
        ],
    )
    def test_refused(self, n_proxies, message):
        with pytest.raises(ValueError, match=message):
            plan_of(n_proxies=n_proxies).n_proxies_of(["a", "b"])

    def test_of_many_labels_a_few_are_named(self):
        plan = plan_of(n_proxies=dict.fromkeys(range(1000), 2))
        named = (
            r"none for \[1000, .*\(2000 in all\)\] \(its keys are \[0, .*\(1000 in all"
        )
        with pytest.raises(ValueError, match=named) as error:
            plan.n_proxies_of(range(3000))
        assert len(str(error.value)) < 300


class TestDifferences:
    @pytest.mark.parametrize("name", MAY_DIFFER)
    def test_of_what_may_differ(self, name):
        other = {
            "device": "cpu",
            "n_jobs": 2,
            "random_state": 3,
            "rejection": Rejection(-1, threshold=0.5),
            "temperature": 3.0,
            "verbose": 1,
        }[name]
        assert first_difference(plan_of(), plan_of(**{name: other})) is None

    @pytest.mark.parametrize(
        "mine, theirs, message",
        [
            ({"n_proxies": 3}, {"n_proxies": 4}, "n_proxies is 4 instead of 3."),
            ({}, {"whitening": 0.5}, "whitening is 0.5 instead of None."),
            (
                {"aggregation": Votes(3)},
                {"aggregation": Votes(4)},
                "aggregation__n_neighbors is 4 instead of 3.",
            ),
            (
                {"generator": KMeansProxies()},
                {"generator": KMeansProxies(tol=0.5)},
                "generator__tol is 0.5",
            ),
            (
                {"head": (np.eye(2), None)},
                {"head": (np.ones((2, 2)), None)},
                "head is ",
            ),
        ],
    )
    def test_are_named(self, mine, theirs, message):
        kmeans = {"generator": "kmeans"}
        found = first_difference(plan_of(**kmeans | mine), plan_of(**kmeans | theirs))
        assert found.startswith(message)

    @pytest.mark.parametrize("generator, n", [("kmeans", 20), ("least_squares", 1)])
    def test_the_number_of_a_generator_is_its_own(self, generator, n):
        own, same, other = (
            plan_of(generator=generator, n_proxies=value) for value in (None, n, n + 1)
        )
        assert first_difference(own, same) is None
        assert first_difference(own, other) == f"n_proxies is {n + 1} instead of {n}."

    def test_equal_parameters_have_none(self):
        params = {
            "generator": KMeansProxies(n_init=2),
            "n_proxies": {"a": 1, "b": 2},
            "aggregation": Votes(3),
            "support_norm": np.abs,
            "head": (np.eye(2), ["a", "b"]),
        }
        assert first_difference(plan_of(**params), plan_of(**params)) is None

    @pytest.mark.parametrize(
        "mine, theirs",
        [
            ({"mean_weight": 0}, {"mean_weight": 0.0}),
            ({"whitening": 0.5}, {"whitening": np.float64(0.5)}),
            ({"metric": "dot"}, {"metric": np.str_("dot")}),
            ({"n_proxies": {"a": 1}}, {"n_proxies": {"a": np.int64(1)}}),
            ({"aggregation": Votes(3)}, {"aggregation": Votes(np.int64(3))}),
            ({"head": (np.eye(2), None)}, {"head": (np.eye(2).tolist(), [0, 1])}),
        ],
    )
    def test_equal_values_of_other_types_have_none(self, mine, theirs):
        kmeans = {"generator": "kmeans"}
        first, second = plan_of(**kmeans | mine), plan_of(**kmeans | theirs)
        assert first_difference(first, second) is None

    @pytest.mark.parametrize(
        "other",
        [None, (np.eye(3, 4), None), (-np.eye(2, 4), None), (np.eye(2, 4), [5, 6])],
        ids=["none", "size", "weights", "labels"],
    )
    @pytest.mark.parametrize("turned", [False, True])
    def test_another_head_is_named_without_its_weights(self, other, turned):
        heads = [(np.eye(2, 4), None), other]
        plans = [plan_of(head=head) for head in heads[:: -1 if turned else 1]]
        assert first_difference(*plans) == (
            "head is another one. Start both from the same weights and labels."
        )


@pytest.mark.parametrize("name", ["support_norm", "query_norm", "metric", "generator"])
def test_names_of_numpy_mean_the_same(name, digits):
    """As they come from a grid in an array."""
    X, y = digits
    params = {"support_norm": "power", "query_norm": "power", "random_state": 0}
    clf = ImprintClassifier(**params).fit(X[:200], y[:200])
    other = clone(clf).set_params(**{name: np.str_(getattr(clf, name))})
    other.fit(X[:200], y[:200])
    expected = clf.predict_proba(X[200:300])
    np.testing.assert_array_equal(other.predict_proba(X[200:300]), expected)


@pytest.fixture(scope="module")
def some(digits):
    X, y = digits
    return X[:300].astype(np.float64), y[:300]


class TestAutoNorm:
    def auto(self, generator="mean", **params):
        return plain_classifier(
            generator, support_norm="auto", query_norm="auto", **params
        )

    @pytest.mark.parametrize("sign, norm", [(1, "power"), (-1, "l2")])
    def test_takes_roots_where_nothing_is_negative(self, some, sign, norm):
        X, y = some
        X = X.copy()
        X[7, 11] = sign
        assert X.min() >= min(sign, 0)
        given = plain_classifier("mean", support_norm=norm, query_norm=norm).fit(X, y)
        clf = self.auto().fit(X, y)
        assert clf.support_norm_ == norm
        np.testing.assert_array_equal(clf.proxies_, given.proxies_)
        scores = given.decision_function(X)
        np.testing.assert_array_equal(clf.decision_function(X), scores)
        clf = pickle.loads(pickle.dumps(clf))
        np.testing.assert_array_equal(clf.decision_function(X), scores)

    def test_stays_while_more_is_learnt(self, some):
        X, y = some
        clf = self.auto().fit(X, y).partial_fit(-X[:1], [99])
        assert clf.support_norm_ == "power"
        np.testing.assert_allclose(clf.predict(-X[:1]), 99)
        assert clf.fit(-X, y).support_norm_ == "l2"

    def test_of_a_head_is_that_of_its_weights(self):
        clf = ImprintClassifier.from_head(
            [[4.0, 0.0], [9.0, 16.0]], support_norm="auto"
        )
        np.testing.assert_allclose(clf.proxies_, [[1, 0], [0.6, 0.8]])

    @pytest.mark.parametrize("norm", ["l2", "power", None])
    def test_of_queries_is_that_of_the_support(self, some, norm):
        X, y = some
        clf = plain_classifier("mean", support_norm=norm, query_norm=norm).fit(X, y)
        scores = clf.decision_function(X)
        clf.set_params(query_norm="auto").fit(X, y)
        np.testing.assert_array_equal(clf.decision_function(X), scores)
        assert clf.support_norm_ == norm

    @pytest.mark.parametrize("norm", ["l2", "power"])
    @pytest.mark.parametrize(
        "params",
        [{}, {"kernel_weight": 0.5}, {"rejection": Rejection(-1, rate=0.1)}],
    )
    def test_of_the_support_is_that_of_queries_if_it_has_a_name(
        self, some, norm, params
    ):
        X, y = some
        params = params | {"generator": "mean", "query_norm": norm}
        for signed in (X, -X):
            clf = ImprintClassifier(**params).fit(signed, y)
            same = ImprintClassifier(**params, support_norm=norm).fit(signed, y)
            assert clf.support_norm_ == norm
            scores = same.predict_proba(signed)
            np.testing.assert_array_equal(clf.predict_proba(signed), scores)
            clf.partial_fit(-signed, y + 10).forget(y[0])
            assert clf.support_norm_ == norm

    @pytest.mark.parametrize("norms", [("l2", "auto"), ("auto", "l2"), ("auto", None)])
    def test_signs_are_looked_at_only_to_choose(self, some, norms, monkeypatch):
        monkeypatch.setattr("skimprint._memory.learner.have_negative", None)
        support, query = norms
        plain_classifier("mean", support_norm=support, query_norm=query).fit(*some)
        with pytest.raises(TypeError, match="not callable"):
            self.auto().fit(*some)

    @pytest.mark.parametrize("norm", [None, l2_normalize])
    def test_of_the_support_is_l2_beside_what_has_no_name(self, some, norm):
        X, y = some
        clf = plain_classifier("mean", support_norm="auto", query_norm=norm)
        for signed in (X, -X):
            assert clf.fit(signed, y).support_norm_ == "l2"

    def test_must_be_the_same_to_merge(self, some):
        X, y = some
        clf = self.auto().fit(X, y)
        with pytest.raises(ValueError, match="support_norm_; it is 'l2' instead"):
            clf.merge(self.auto().fit(-X, y))
        assert clf.class_count_.sum() == len(y)
