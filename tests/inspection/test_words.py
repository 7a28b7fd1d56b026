"""What the settings of a classifier do is said in words."""

import re

import numpy as np
import pytest
from settings import first_rows
from sklearn.cluster import BisectingKMeans

from skimprint import ImprintClassifier
from skimprint.aggregation import Votes
from skimprint.inspection import report


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
