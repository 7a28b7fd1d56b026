"""Real conditions: what is done to a support set, to its queries, or to both."""

import numpy as np

CLEAN = "clean"
LONG_TAIL = "long tail"
BLURRED = "blurred queries"
UNKNOWN = "unknown queries"

#: A long tail falls from so many times the shots to one sample of a class.
TAIL = 4


def long_tail(y, shots, rng):
    """Rows of a support set whose classes have ever fewer samples, down to one.

    Parameters
    ----------
    y : ndarray of shape (n,)
        Labels as indices of the classes.
    shots : int
        A quarter of the samples of the largest class.
    rng : Generator
        Draws the samples, and which class has how many.

    Returns
    -------
    rows : ndarray of int
        The rows; their number falls exponentially from class to class.
    """
    n_classes = y.max() + 1
    sizes = np.geomspace(TAIL * shots, 1, n_classes).round().astype(int)
    sizes = rng.permutation(sizes)
    order = [rng.permutation(np.flatnonzero(y == c)) for c in range(n_classes)]
    return np.concatenate([rows[:n] for rows, n in zip(order, sizes, strict=True)])


def _wrong_labels(share):
    def change(problem, rng):
        n_classes, labels = problem.n_classes, problem.y_train.copy()
        wrong = rng.random(len(labels)) < share
        labels[wrong] += rng.integers(1, n_classes, wrong.sum())
        return problem._replace(y_train=labels % n_classes)

    return change


def _embeddings(function):
    """The same change to the embeddings of the support and of the queries."""

    def change(problem, rng):
        return problem._replace(
            X_train=function(problem.X_train), X_test=function(problem.X_test)
        )

    return change


def _int8(X):
    """Round to 255 levels between minus and plus the largest value of a row."""
    scale = np.abs(X).max(axis=1, keepdims=True) / 127
    scale[scale == 0] = 1
    return np.rint(X / scale) * scale


def _first_half(X):
    return X[:, : X.shape[1] // 2]


def _as_it_is(problem, rng):
    return problem


#: From a problem and a random generator to the changed problem. What a long tail,
#: blurred and unknown queries change is which rows there are: see
#: `protocol.Data.problem`.
CONDITIONS = {
    CLEAN: _as_it_is,
    LONG_TAIL: _as_it_is,
    "10 % wrong labels": _wrong_labels(0.1),
    "30 % wrong labels": _wrong_labels(0.3),
    BLURRED: _as_it_is,
    "int8": _embeddings(_int8),
    "half of the features": _embeddings(_first_half),
    UNKNOWN: _as_it_is,
}


def balance(estimator, n_classes):
    """Have a classifier give all classes the same weight, where it can.

    Parameters
    ----------
    estimator : estimator
        A parameter ``class_weight`` that is None becomes ``"balanced"``, and ``priors``
        uniform.
    n_classes : int
        The number of classes.
    """
    values = {"class_weight": "balanced", "priors": np.full(n_classes, 1 / n_classes)}
    changes = {
        name: values[name.split("__")[-1]]
        for name, value in estimator.get_params().items()
        if value is None and name.split("__")[-1] in values
    }
    estimator.set_params(**changes)
