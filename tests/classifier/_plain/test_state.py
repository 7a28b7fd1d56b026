"""How samples and proxies are written."""

import pickle

import numpy as np
from pickled import assert_same, support
from settings import plain_classifier


def test_a_row_that_is_sample_and_proxy_is_written_once():
    X, y = support(5, 10, 100)
    X[1] = X[0]  # equal samples are samples nevertheless
    clf = plain_classifier("all", kernel_weight=0.5).fit(X, y)
    rows = clf.__getstate__()["_fitted"]["arrays"]["rows"]
    assert rows.shape == X.shape
    assert rows.dtype == X.dtype
    again = pickle.loads(pickle.dumps(clf))
    assert_same(again.partial_fit(X[3:], y[3:]), clf.partial_fit(X[3:], y[3:]), X)


def test_rows_with_the_same_key_stay_apart(monkeypatch, digits):
    X, y = digits
    clf = plain_classifier("all", whitening=0.5, random_state=0).fit(X[:50], y[:50])
    monkeypatch.setattr(
        "skimprint.classifier._plain.state.row_keys",
        lambda rows, seed: np.zeros(len(rows), np.uint64),
    )
    assert_same(pickle.loads(pickle.dumps(clf)), clf, X)
