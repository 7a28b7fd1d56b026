"""Split data into a few shots per class and a test set."""

import warnings
from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from sklearn.model_selection import BaseShuffleSplit
from sklearn.utils import column_or_1d

from ._arrays.device import to_host
from ._validation import check_labels, seed_from, whole_labels

__all__ = ["NShotSplit"]


class NShotSplit(BaseShuffleSplit):
    """Draw the same number of support samples from each class, again and again.

    Each split has `n_shots` random samples of each class for training, the support,
    and a stratified test set. With the same int as `random_state`, the splits of
    different shot counts fit together: the support of five shots contains that of one
    shot, and both are tested on the same samples, so that a difference between them is
    due to the shots and not to the draw.

    Parameters
    ----------
    n_shots : int or "all"
        Number of training samples per class. ``"all"`` takes all that are not in the
        test set.
    n_splits : int, default=10
        Number of draws.
    test_size : float, int or None, default=0.25
        What is held out for testing, the same for every `n_shots`:

        - a float is the share of each class, rounded up to whole samples;
        - an int is the number of samples in total, shared among the classes in
          proportion to their sizes;
        - `None` tests on every sample that is not in the support. That is the most
          there is to test on, but it differs from one `n_shots` to the next.

    random_state : int, RandomState instance or None, default=None
        Seed of the draws. Give an int to compare shot counts or to draw the same splits
        in several calls.

    See Also
    --------
    sklearn.model_selection.StratifiedShuffleSplit : Keeps the classes' proportions in
        the training set too.
    sklearn.model_selection.learning_curve : Fits to growing parts of one support.

    Notes
    -----
    What is drawn from a class depends on the seed, its label and its samples alone: it
    stays the same when other classes come, go or change places, and for labels of
    another type that are equal (1, 1.0 and True).

    The support comes shot by shot: first one sample of each class, then a second one,
    and so on. Each prefix of whole shots is thus the support of fewer shots, and
    `learning_curve`, which takes prefixes, sweeps the shots in one call (below).

    Examples
    --------
    >>> from sklearn.model_selection import cross_val_score
    >>> from skimprint import ImprintClassifier
    >>> from skimprint.datasets import load_digits_embeddings
    >>> from skimprint.model_selection import NShotSplit
    >>> X, y = load_digits_embeddings(return_X_y=True)
    >>> clf = ImprintClassifier("mean")
    >>> for n_shots in [1, 5, 20]:
    ...     cv = NShotSplit(n_shots, n_splits=5, random_state=0)
    ...     scores = cross_val_score(clf, X, y, cv=cv)
    ...     print(f"{n_shots:2} shots: {scores.mean():.2f}")
     1 shots: 0.57
     5 shots: 0.80
    20 shots: 0.93

    The same in one call, where the sizes are in samples (there are ten classes):

    >>> from sklearn.model_selection import learning_curve
    >>> sizes, _, scores = learning_curve(clf, X, y, cv=cv, train_sizes=[10, 50, 200])
    >>> scores.mean(axis=1).round(2)
    array([0.57, 0.8 , 0.93])
    """

    def __init__(
        self,
        n_shots: int | Literal["all"],
        n_splits: int = 10,
        *,
        test_size: float | None = 0.25,
        random_state: int | np.random.RandomState | None = None,
    ):
        is_all = isinstance(n_shots, str) and n_shots == "all"
        if not (is_all or _is_count(n_shots)):
            raise ValueError(
                f"n_shots must be an int of at least 1 or 'all'; got {n_shots!r}."
            )
        if not _is_count(n_splits):
            raise ValueError(
                f"n_splits must be an int of at least 1; got {n_splits!r}."
            )
        is_share = isinstance(test_size, Real) and 0 < test_size < 1
        if not (test_size is None or is_share or _is_count(test_size)):
            raise ValueError(
                "test_size must be a float between 0 and 1, the share of each class, "
                "an int of at least 1, the number of samples, or None; got "
                f"{test_size!r}."
            )
        if is_all and test_size is None:
            raise ValueError(
                "n_shots='all' with test_size=None leaves nothing to test on: give "
                "test_size a number."
            )
        super().__init__(
            n_splits=n_splits, test_size=test_size, random_state=random_state
        )
        self.n_shots = n_shots

    def split(
        self, X: Any, y: ArrayLike, groups: object = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Draw the splits.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The samples; only their number is used.
        y : array-like of shape (n_samples,)
            Their labels.
        groups : object
            Ignored, with a warning; here for compatibility.

        Returns
        -------
        splits : iterator of (train, test)
            Row numbers of the support, shot by shot, of shape (n_shots * n_classes,),
            and of the test set, in ascending order, of shape (n_test,).

        Raises
        ------
        ValueError
            If a class has too few samples; the error names it.
        """
        if groups is not None:
            warnings.warn(
                "NShotSplit ignores groups: samples of one group may be in the support "
                "and in the test set.",
                UserWarning,
                stacklevel=2,
            )
        return super().split(X, whole_labels(to_host(y)), groups)

    def _iter_indices(self, X, y, groups=None):
        if y is None:
            raise ValueError("NShotSplit needs the labels: pass y; got None.")
        y = column_or_1d(y)
        if not len(y):
            raise ValueError("NShotSplit found no samples: at least 1 is required.")
        check_labels(y)
        classes, codes = np.unique(y, return_inverse=True)
        sizes = np.bincount(codes)
        members = np.split(np.argsort(codes, kind="stable"), np.cumsum(sizes)[:-1])
        n_support, n_test = self._counts(classes, sizes)
        seed = seed_from(self.random_state)

        for split in range(self.n_splits):
            support, shots, tested = [], [], []
            for label, rows, n_first, n_last in zip(
                classes.tolist(), members, n_support, n_test, strict=True
            ):
                # From the front to train, from the end to test: neither of them
                # depends on how many the other one takes.
                rng = np.random.default_rng([seed, split, *_bytes_of(label)])
                order = rng.permutation(rows)
                support.append(order[:n_first])
                shots.append(np.arange(n_first))
                tested.append(order[len(order) - n_last :])
            support = np.concatenate(support)
            shot_by_shot = np.lexsort((support, np.concatenate(shots)))
            yield support[shot_by_shot], np.sort(np.concatenate(tested))

    def _counts(self, classes, sizes):
        """Count the samples of each class to train and to test on."""
        if self.test_size is None:
            n_test = np.maximum(sizes - self.n_shots, 1)
        elif isinstance(self.test_size, Integral):
            if not len(classes) <= self.test_size < sizes.sum():
                raise ValueError(
                    f"test_size={self.test_size} must be at least the number of "
                    f"classes, {len(classes)}, and less than the number of samples, "
                    f"{sizes.sum()}; a float is the share of each class."
                )
            n_test = _in_proportion(self.test_size, sizes)
        else:
            # 0.07 of 100 are 7, though their product is a little more.
            n_test = np.ceil((1 - 1e-15) * self.test_size * sizes).astype(np.intp)

        n_support = sizes - n_test
        n_shots = 1 if self.n_shots == "all" else self.n_shots
        lacking = np.flatnonzero(n_support < n_shots)
        if len(lacking):
            labels = classes.tolist()
            named = ", ".join(
                f"{labels[c]!r} has {sizes[c]} and needs {n_shots + n_test[c]}"
                for c in lacking[:5]
            )
            if len(lacking) > 5:
                named += f", and so on: {len(lacking)} classes in all"
            cures = ["add samples to these classes", "leave them out"]
            if np.all(sizes > n_shots) and self.test_size is not None:
                cures.insert(0, "use a smaller test_size")
            if n_support.min() >= 1:
                cures.insert(0, f"use n_shots={n_support.min()} or fewer")
            raise ValueError(
                f"Too few samples for n_shots={self.n_shots!r} and "
                f"test_size={self.test_size!r}: class {named}. To go on, "
                f"{', '.join(cures[:-1])} or {cures[-1]}."
            )
        if self.n_shots != "all":
            n_support = np.full(len(sizes), self.n_shots)
        return n_support, n_test


def _bytes_of(label):
    """Encode a label by its value: 1, 1.0 and True are the same class, as are texts."""
    if isinstance(label, bytes):
        return label
    if isinstance(label, Real) and label % 1 == 0:
        label = int(label)
    return str(label).encode(errors="surrogatepass")


def _is_count(value):
    is_int = isinstance(value, Integral) and not isinstance(value, bool)
    return is_int and value >= 1


def _in_proportion(total, sizes):
    """Share a total among the classes by the method of largest remainders."""
    quotas = total * sizes / sizes.sum()
    counts = np.floor(quotas).astype(np.intp)
    largest = np.argsort(counts - quotas, kind="stable")
    counts[largest[: total - counts.sum()]] += 1
    return counts
