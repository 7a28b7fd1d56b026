"""Rows that are no finite numbers are named."""

import numpy as np
import pytest
from settings import plain_classifier

from skimprint.aggregation import Votes


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("column", [0, 3, 15])
@pytest.mark.parametrize("n_queries", [1, 5, 3000])
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"query_norm": None, "proxy_norm": None},
        {"metric": "cosine", "query_norm": None},
        {"metric": "euclidean"},
        {"metric": "mahalanobis"},
        {"metric": "chebyshev"},
        {"whitening": 0.5},
        {"aggregation": Votes(2)},
    ],
    ids=str,
)
def test_any_query_that_is_not_finite_is_named(params, n_queries, column, bad):
    X = np.eye(16)[:4]
    clf = plain_classifier("mean", **params).fit(np.r_[X, 2 * X], [0, 1, 2, 3] * 2)
    queries = np.ones((n_queries, 16))
    queries[-1, column] = bad
    found = "NaN" if np.isnan(bad) else "infinity"
    message = rf"X contains {found}: rows \[{n_queries - 1}\] have NaN or infinity"
    for method in (clf.predict, clf.predict_proba, clf.decision_function):
        with pytest.raises(ValueError, match=message):
            method(queries)


@pytest.mark.parametrize("dtype", ["Float32", "Float64", "Int64", "object"])
def test_rows_of_tables_without_a_value_are_named(dtype):
    pandas = pytest.importorskip("pandas")
    X = pandas.DataFrame(np.arange(8).reshape(4, 2)).astype(dtype)
    X.iloc[2, 1] = pandas.NA
    with pytest.raises(ValueError, match=r"X contains NaN: rows \[2\] have no value"):
        plain_classifier("mean").fit(X, [0, 1, 0, 1])
