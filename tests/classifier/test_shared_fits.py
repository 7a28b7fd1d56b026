"""Candidates that have something in common do it once."""

import numpy as np
import pytest
from settings import plain_classifier
from sklearn.exceptions import FitFailedWarning

from skimprint import ImprintClassifierCV
from skimprint._scoring.similarity import METRICS
from skimprint._space import space
from skimprint.aggregation import Votes


@pytest.fixture(scope="module")
def data(digits):
    """300 embeddings of digits, the first 64 features of each."""
    X, y = digits
    return X[:300, :64], y[:300]


def test_proxies_are_made_once_for_candidates_that_agree(data):
    calls = []

    def first(X_c, n_proxies, random_state):
        calls.append(n_proxies)
        return X_c[:n_proxies]

    grid = {
        "n_proxies": [1, 2],
        "proxy_norm": [None, "l2"],
        "aggregation": ["max", "mnn"],
        "metric": ["dot", "euclidean", "mahalanobis"],
    }
    search = ImprintClassifierCV(plain_classifier(first), grid, cv=3, n_jobs=2)
    search.fit(*data)
    n_classes, n_folds, n_values = 10, 3, 2
    assert len(calls) == n_classes * (n_folds * n_values + 1)


@pytest.mark.parametrize("scoring", [None, "f1_macro"])
@pytest.mark.parametrize("norms", [[None, "l2"], ["l2", "power"]])
def test_neighbours_are_shared(data, monkeypatch, scoring, norms):
    calls = []
    raw = METRICS["dot"].raw

    def counted(self, X):
        calls.append(len(X))
        return raw(self, X)

    monkeypatch.setattr(METRICS["dot"], "raw", counted)
    grid = {
        "aggregation": ["max", "mnn", Votes(1), Votes(3)],
        "n_proxies": [2, 4],
        "query_norm": norms,
    }
    clf = plain_classifier("random")
    ImprintClassifierCV(clf, grid, cv=3, scoring=scoring).fit(*data)
    # With each norm, once for "max" and once for all votes.
    assert calls == [100] * 3 * 2 * 2 * 2


def test_one_scatter_for_all_shrinkages(data, monkeypatch):
    # Whatever proxies are made of the samples.
    calls = []

    class Counted(space.CommonMoments):
        def __init__(self, *args):
            calls.append(args)
            super().__init__(*args)

    monkeypatch.setattr(space, "CommonMoments", Counted)
    grid = {
        "whitening": [0.1, 0.5, "auto"],
        "metric": ["dot", "mahalanobis"],
        "generator": ["mean", "random"],
        "n_proxies": [1, 3],
    }
    ImprintClassifierCV(plain_classifier(), grid, cv=3).fit(*data)
    assert len(calls) == 3 + 1  # of each fold, and of the best classifier


def test_a_candidate_that_fails(data):
    # Others that learn together with it do not.
    def first(X_c, n_proxies, random_state):
        if n_proxies == 2:
            raise RuntimeError("two are too many")
        return X_c[:n_proxies]

    grid = {"n_proxies": [1, 2, 3], "metric": ["dot", "euclidean"]}
    search = ImprintClassifierCV(plain_classifier(first), grid, cv=2)
    with (
        pytest.warns(FitFailedWarning, match="4 fits failed out of a total of 12"),
        pytest.warns(UserWarning, match="non-finite"),
    ):
        search.fit(*data)
    failed = np.isnan(search.cv_results_["mean_test_score"])
    assert failed.sum() == 2
    assert (search.cv_results_["rank_test_score"][failed] == 5).all()
    search.set_params(error_score="raise")
    with pytest.raises(RuntimeError, match="too many"):
        search.fit(*data)


def test_invalid_candidates_do_not_keep_others_from_sharing(data):
    calls = []

    def first(X_c, n_proxies, random_state):
        calls.append(n_proxies)
        return X_c[:n_proxies]

    grid = {
        "metric": ["dot", "cosine"],
        "aggregation": ["mnn", Votes(weights="distance")],
    }
    search = ImprintClassifierCV(plain_classifier(first, 2), grid, cv=2, error_score=0)
    with pytest.warns(FitFailedWarning, match="2 fits failed out of a total of 8"):
        search.fit(*data)
    assert len(calls) == 10 * (2 + 1)
    assert search.cv_results_["mean_test_score"].tolist().count(0) == 1
