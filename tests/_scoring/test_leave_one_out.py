"""Support samples scored by what would be known without each of them.

That this is what refits say is tested where it is used: see the tests of calibration.
"""

import numpy as np
import pytest
from settings import plain_classifier

from skimprint import Rejection
from skimprint._scoring import leave_one_out as module
from skimprint._scoring.leave_one_out import _changes, _chosen, leave_one_out


def calibrated():
    """Parameters that are chosen by samples left out."""
    return {"temperature": "auto", "rejection": Rejection(-1)}


def test_a_mean_is_taken_apart_where_the_sample_is_nearest(few):
    """K-means, against the means of the clusters without the sample."""
    X, y = few
    clf = plain_classifier("kmeans", 3, random_state=0, **calibrated()).fit(X, y)
    scorer, state = clf._fitted.scorer, clf._fitted.state
    head, (samples, _) = scorer.head, _chosen(scorer)
    left_out, change = _changes(scorer, samples)
    assert len(left_out.rows) == len(X)
    for row, own, gone, left in zip(
        left_out.rows, change.own, change.gone, change.left, strict=True
    ):
        known = state.gather([clf.classes_[head.codes[own]]])
        rows, vectors = known.samples.values.rows, known.proxies.values.vectors
        distances = np.linalg.norm(rows[:, None] - vectors, axis=2)
        members = distances.argmin(axis=1) == own - head.offsets[head.codes[own]]
        others = rows[members & (rows != row).any(axis=1)]
        assert gone == (len(others) == 0)
        if not gone:
            np.testing.assert_allclose(left, others.mean(axis=0), atol=1e-9)


@pytest.mark.parametrize("proxy_norm", ["quantile", None, lambda rows: rows * 2])
def test_other_norms_of_proxies(few, proxy_norm):
    X, y = few
    clf = plain_classifier("all", proxy_norm=proxy_norm, **calibrated()).fit(X, y)
    assert np.isfinite(clf.rejection_threshold_)
    head = clf._fitted.scorer.head
    vectors = head.space.proxies.values.vectors
    same = head.normalized(vectors, np.arange(len(vectors)))
    np.testing.assert_allclose(same, head.proxies, rtol=1e-12)


@pytest.mark.parametrize("metric", ["cosine", lambda A, B: A @ B.T])
def test_folds_by_threads_unless_a_function_is_the_users(few, metric, monkeypatch):
    X, y = few
    params = {"metric": metric, "whitening": 0.3, "random_state": 0, **calibrated()}
    scorer = plain_classifier("kmeans", 3, **params).fit(X, y)._fitted.scorer
    folds = []

    def in_turn(function, blocks):
        folds.append(len(blocks))
        for block in blocks:
            function(block)

    found = leave_one_out(scorer, "similarity")
    monkeypatch.setattr(module, "run_blocks", in_turn)
    expected = leave_one_out(scorer, "similarity")
    assert bool(folds) != callable(metric)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-12)
    np.testing.assert_allclose(found.familiarities, expected.familiarities, atol=1e-12)


def test_only_as_many_tenths_are_scored_as_hold_enough(few, monkeypatch):
    """The same scores as of all, for a part of the samples of each class."""
    X, y = few
    params = {"whitening": 0.3, "random_state": 0, **calibrated()}
    scorer = plain_classifier("mean", **params).fit(X, y)._fitted.scorer
    everything = leave_one_out(scorer, "similarity")
    assert len(everything.scores) == len(X)
    monkeypatch.setattr(module, "_ENOUGH", 25)
    found = leave_one_out(scorer, "similarity")
    assert len(found.scores) == 30  # of 10 classes, three tenths of some six samples
    assert np.all(np.bincount(found.codes) == 3)
    rows = np.abs(everything.scores[:, None] - found.scores).max(axis=2)
    np.testing.assert_allclose(rows.min(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(
        np.bincount(found.codes, found.weights), np.bincount(y.astype(int))
    )


def test_samples_that_cannot_go_do_not_count_as_scored(digits, monkeypatch):
    monkeypatch.setattr(module, "_ENOUGH", 30)
    X, y = digits
    order = np.argsort(y, kind="stable")
    few = [order[y[order] == c][:6] for c in range(10)]
    single = [order[y[order] == c][6:16] for c in range(10)]
    rows = np.concatenate([*few, *single])
    labels = np.concatenate([np.repeat(np.arange(10), 6), np.arange(10, 110)])
    params = {"whitening": 0.3, "random_state": 0, **calibrated()}
    scorer = plain_classifier("mean", **params).fit(X[rows], labels)._fitted.scorer
    assert len(leave_one_out(scorer, "similarity").scores) == 30


def test_a_kernel_that_is_factored_already_is_not_again(few, monkeypatch):
    X, y = few
    clf = plain_classifier("mean", kernel_weight=0.5, temperature="auto").fit(X, y)
    scorer = clf._fitted.scorer
    expected = leave_one_out(scorer, "similarity")
    clf.explain(X[:1])
    monkeypatch.setattr("skimprint._space.kernel_ridge._factor", None)
    found = leave_one_out(scorer, "similarity")
    np.testing.assert_array_equal(found.scores, expected.scores)


def test_the_samples_are_bounded_and_of_all_classes(few, monkeypatch):
    X, y = few
    scorer = plain_classifier("mean", **calibrated()).fit(X, y)._fitted.scorer
    everything = leave_one_out(scorer, "similarity")
    assert len(everything.codes) == len(X)
    monkeypatch.setattr(module, "MAX_ROWS", 30)
    some = leave_one_out(scorer, "similarity")
    assert np.bincount(some.codes).tolist() == [3] * 10
    # They stand for all samples of their class.
    np.testing.assert_allclose(
        np.bincount(some.codes, some.weights), np.bincount(y), rtol=1e-9
    )
    # Of very many classes, only some.
    monkeypatch.setattr(module, "MAX_ROWS", 4)
    fewer = leave_one_out(scorer, "similarity")
    assert np.unique(fewer.codes).tolist() == [0, 3, 6, 9]
    which = np.isin(everything.codes, fewer.codes)
    assert fewer.scores.shape[1] == everything.scores[which].shape[1] == 10


def test_a_class_of_one_sample_has_nothing_left(few):
    X, y = few
    X, y = np.concatenate([X, X[:1] + 1]), np.append(y, 77)
    scorer = plain_classifier("mean", **calibrated()).fit(X, y)._fitted.scorer
    assert 10 not in leave_one_out(scorer, "contrast").codes
    alone = plain_classifier("mean", whitening="auto").fit(np.eye(3), [0, 1, 2])
    assert leave_one_out(alone._fitted.scorer, "contrast") is None
