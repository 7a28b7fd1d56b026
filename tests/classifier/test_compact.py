"""Classifiers without what only learning needs."""

import numpy as np
import pytest
from settings import plain_classifier

from skimprint import Rejection


@pytest.mark.parametrize(
    "params", [{}, {"whitening": 0.5}, {"kernel_weight": 0.5}], ids=str
)
def test_what_was_set_after_fit_is_chosen_while_there_are_samples(digits, params):
    X, y = digits
    params = params | {"temperature": "auto", "rejection": Rejection(-1)}
    clf = plain_classifier("mean", random_state=0, **params).fit(X, y)
    clf.set_params(rejection__score="contrast")
    compact = clf.compact()
    assert compact.temperature_ == clf.temperature_
    assert compact.rejection_threshold_ == clf.rejection_threshold_
    np.testing.assert_array_equal(compact.predict_proba(X), clf.predict_proba(X))
    np.testing.assert_array_equal(compact.score_samples(X), clf.score_samples(X))
    with pytest.raises(ValueError, match="cannot learn more"):
        compact.partial_fit(X, y)


@pytest.mark.parametrize("score", ["similarity", "contrast"])
@pytest.mark.parametrize("later", [None, Rejection(-1, threshold=0.5)], ids=str)
def test_familiarities_of_every_kind_are_told_later(digits, score, later):
    """Whatever the rejection was when it was made."""
    X, y = digits
    clf = plain_classifier("mean", whitening=0.5, rejection=Rejection(-1, score=score))
    compact = clf.fit(X, y).compact()
    for model in (clf, compact):
        model.set_params(rejection=later)
    for method in ("score_samples", "predict"):
        found, expected = (getattr(each, method)(X) for each in (compact, clf))
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(
        compact.explain(X).familiarity, clf.explain(X).familiarity
    )
