"""Measure how collapsed the classes of an embedding are: small, and far apart."""

from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import assert_all_finite, check_X_y
from sklearn.utils._param_validation import StrOptions, validate_params

from ._arrays.device import embedding_dtypes, like_input, readable, to_host
from ._validation import check_labels, stacked, whole_labels
from .normalization import l2_normalize

__all__ = ["neural_collapse_score", "variability_collapse_index"]

# Values that are gathered and cast at a time: 8 MiB of float64.
_BLOCK = 2**20

_PARAMETERS = {
    "X": ["array-like"],
    "y": ["array-like"],
    "norm": [StrOptions({"l2"}), None],
    "average": [StrOptions({"pooled"}), None],
}


_Norm = Literal["l2"] | None


@overload
def neural_collapse_score(
    X: ArrayLike, y: ArrayLike, *, norm: _Norm = ..., average: Literal["pooled"] = ...
) -> float: ...
@overload
def neural_collapse_score(
    X: ArrayLike, y: ArrayLike, *, norm: _Norm = ..., average: None
) -> Any: ...
@validate_params(_PARAMETERS, prefer_skip_nested_validation=True)
def neural_collapse_score(X, y, *, norm="l2", average="pooled"):
    r"""Measure the scatter within classes relative to that between them: NC1.

    With the mean :math:`\Sigma_W` of the covariances of the C classes and the
    covariance :math:`\Sigma_B` of the class means about the mean of all samples, it is
    :math:`\mathrm{tr}(\Sigma_W \Sigma_B^+) / C`. It is 0 where all samples of a class
    coincide, and the larger, the less collapsed the classes are [1]_. In [2]_,
    imprinting gains the more from several proxies per class, the larger it is; across
    other data sets and models that relation is weak.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Embeddings of dtype float16, float32 or float64.
    y : array-like of shape (n_samples,)
        Their labels, of at least two classes.
    norm : {"l2"} or None, default="l2"
        Normalisation of each embedding beforehand.
    average : {"pooled"} or None, default="pooled"
        ``"pooled"`` is the score of all classes. `None` is the score of each one, with
        its own covariance in place of the mean: how large its scatter is in the
        directions in which the class means differ.

    Returns
    -------
    score : float or ndarray of shape (n_classes,)
        Not negative. In sorted order of the labels if ``average=None``; the pooled
        score is their mean.

    Raises
    ------
    ValueError
        If there is only one class, or if all class means are the same.

    See Also
    --------
    variability_collapse_index : A score between 0 and 1.

    Notes
    -----
    Covariances divide by the number of samples, and each class counts the same. The
    embeddings are read twice, in blocks, and the sums are taken in float64; memory
    beyond ``X`` is some means per class and a few MiB, for any number of samples.

    With the eigenvectors :math:`u_k` of :math:`\Sigma_B` to eigenvalues
    :math:`\lambda_k > 0`, and the residual :math:`r` of a sample from its class mean,
    :math:`\mathrm{tr}(\Sigma_W \Sigma_B^+) = \sum_k u_k^T \Sigma_W u_k / \lambda_k` is
    the mean of :math:`\sum_k (u_k^T r)^2 / \lambda_k` over the samples of a class, and
    over the classes. So no matrix of features by features is needed: there are fewer
    :math:`u_k` than classes.

    The implementation of [2]_ subtracts centred class means from samples that are not
    centred. Its figures are larger by :math:`\mu^T \Sigma_B^+ \mu / C`, for the mean
    :math:`\mu` of all samples.

    References
    ----------
    .. [1] V. Papyan, X. Y. Han, D. L. Donoho, "Prevalence of neural collapse during the
       terminal phase of deep learning training", PNAS 117, 2020.
    .. [2] J. Westerhoff et al., "Robust Weight Imprinting: Insights from Neural
       Collapse and Proxy-Based Aggregation", TMLR 2025, arXiv:2503.14572.

    Examples
    --------
    >>> from skimprint.datasets import load_digits_embeddings
    >>> from skimprint.metrics import neural_collapse_score
    >>> X, y = load_digits_embeddings(return_X_y=True)
    >>> round(neural_collapse_score(X, y), 2)
    0.8
    >>> neural_collapse_score(X, y, average=None).round(2)
    array([0.54, 0.93, 0.9 , 0.8 , 0.76, 0.92, 0.63, 0.78, 0.89, 0.9 ])
    """
    classes = _Classes(X, y, norm)
    # Sigma_B^+ = V S^-2 V^T for the thin SVD of the means, so that the trace is a sum
    # of squares in as few dimensions as the means span.
    axes = classes.axes.T / classes.spreads
    scores = np.zeros(len(classes))
    for c in range(len(classes)):
        for residuals in classes.residuals(c):
            scores[c] += np.sum((residuals @ axes) ** 2)
    scores /= classes.sizes * len(classes)
    return like_input(X, scores) if average is None else float(scores.mean())


@overload
def variability_collapse_index(
    X: ArrayLike, y: ArrayLike, *, norm: _Norm = ..., average: Literal["pooled"] = ...
) -> float: ...
@overload
def variability_collapse_index(
    X: ArrayLike, y: ArrayLike, *, norm: _Norm = ..., average: None
) -> Any: ...
@validate_params(_PARAMETERS, prefer_skip_nested_validation=True)
def variability_collapse_index(X, y, *, norm="l2", average="pooled"):
    r"""Measure how much of the class means' scatter that within classes hides: VCI.

    With :math:`\Sigma_W` and :math:`\Sigma_B` as in `neural_collapse_score`, it is
    :math:`1 - \mathrm{tr}(\Sigma_B (\Sigma_B + \Sigma_W)^+) / \mathrm{rank}(\Sigma_B)`
    [1]_: 0 where all samples of a class coincide, at most 1. Unlike NC1 it does not
    change when the embeddings go through an invertible linear map (``norm=None``).

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Embeddings of dtype float16, float32 or float64.
    y : array-like of shape (n_samples,)
        Their labels, of at least two classes.
    norm : {"l2"} or None, default="l2"
        Normalisation of each embedding beforehand.
    average : {"pooled"} or None, default="pooled"
        ``"pooled"`` is the index of all classes. `None` is the index of each one, with
        its own covariance in place of the mean. Their mean is not the pooled index.

    Returns
    -------
    index : float or ndarray of shape (n_classes,)
        Between 0 and 1. In sorted order of the labels if ``average=None``.

    Raises
    ------
    ValueError
        If there is only one class, or if all class means are the same.

    See Also
    --------
    neural_collapse_score : NC1, which needs less memory and time.

    Notes
    -----
    Fewer samples than features can always be separated, and their index is 0. That
    holds for the index of one class, too, if its samples and the other classes together
    are fewer than the features. Take more samples, or fewer principal components, to
    learn anything of the classes.
    Pseudo-inverses in single precision leave out more directions, and give such samples
    an index above 0.

    The embeddings are read twice, in blocks, and the sums are taken in float64; memory
    beyond ``X`` is a few matrices of shape (n_features, n_features).

    References
    ----------
    .. [1] J. Xu, H. Liu, "Quantifying the variability collapse of neural networks",
       ICML 2023, arXiv:2306.03440.

    Examples
    --------
    >>> from skimprint.datasets import load_digits_embeddings
    >>> from skimprint.metrics import variability_collapse_index
    >>> X, y = load_digits_embeddings(return_X_y=True)
    >>> round(variability_collapse_index(X, y), 3)
    0.064
    """
    classes = _Classes(X, y, norm)
    everyone, d = range(len(classes)), classes.means.shape[1]
    if average is None:
        indices = [
            classes.hidden_by_few(c)
            if 2 * classes.sizes[c] <= d
            else classes.hidden_by(classes.covariance([c]))
            for c in everyone
        ]
        return like_input(X, np.array(indices))
    return float(classes.hidden_by(classes.covariance(everyone) / len(classes)))


class _Classes:
    """Hold the means of classes, the space they span, and the samples by block.

    Attributes
    ----------
    means : ndarray of shape (n_classes, n_features)
        Of the normalised samples.
    sizes : ndarray of shape (n_classes,)
        Number of samples.
    axes : ndarray of shape (rank, n_features)
        Eigenvectors of Sigma_B.
    spreads : ndarray of shape (rank,)
        Square roots of its eigenvalues, none of them zero.
    """

    def __init__(self, X, y, norm):
        X = stacked(X)
        # `_blocks` looks for what is not finite, since a look at all of X may copy it.
        dtypes = embedding_dtypes(X)
        y = whole_labels(to_host(y))
        X, y = check_X_y(X, y, dtype=dtypes, ensure_all_finite=False)
        self.X = readable(X)
        self.norm = norm
        check_labels(y)
        labels, codes = np.unique(y, return_inverse=True)
        if len(labels) < 2:
            raise ValueError(
                "Neural collapse compares classes, so y must have at least two; got "
                f"one, {labels.tolist()[0]!r}. Pass the embeddings of all classes."
            )
        self.sizes = np.bincount(codes)
        order = np.argsort(codes, kind="stable")
        self._rows = np.split(order, np.cumsum(self.sizes)[:-1])

        sums = np.zeros((len(labels), self.X.shape[1]))
        for c in range(len(labels)):
            for rows in self._blocks(c):
                sums[c] += rows.sum(axis=0)
        self.means = sums / self.sizes[:, None]

        deviations = self.means - sums.sum(axis=0) / len(y)
        deviations /= np.sqrt(len(labels))  # Sigma_B = deviations^T deviations
        _, spreads, axes = np.linalg.svd(deviations, full_matrices=False)
        # The means carry rounding errors of their own size, not of their differences'.
        scale = max(deviations.shape) * np.finfo(np.float64).eps
        noise = scale * np.abs(self.means).max() + scale * spreads[0]
        rank = min(np.sum(spreads > noise), len(labels) - 1)
        if rank == 0:
            raise ValueError(
                "All class means are the same, so there is no scatter between classes "
                "to compare with. Check that y belongs to X."
            )
        self.spreads, self.axes = spreads[:rank], axes[:rank]

    def __len__(self):
        return len(self.sizes)

    def _blocks(self, c):
        """Yield samples of a class, normalised, in float64: new arrays."""
        step = max(1, _BLOCK // self.X.shape[1])
        for start in range(0, self.sizes[c], step):
            rows = self.X[self._rows[c][start : start + step]].astype(np.float64)
            assert_all_finite(rows, input_name="X")
            yield l2_normalize(rows, out=rows) if self.norm == "l2" else rows

    def residuals(self, c):
        """Yield samples of a class less their mean, block by block."""
        for rows in self._blocks(c):
            rows -= self.means[c]
            yield rows

    def covariance(self, some):
        """Sum the covariances of some classes."""
        d = self.means.shape[1]
        total = np.zeros((d, d))
        for c in some:
            for residuals in self.residuals(c):
                total += residuals.T @ (residuals / self.sizes[c])
        return total

    def hidden_by(self, covariance):
        """Compute 1 - tr(Sigma_B (Sigma_B + covariance)^+) / rank(Sigma_B)."""
        roots = self.axes * self.spreads[:, None]
        values, vectors = np.linalg.eigh(covariance + roots.T @ roots)
        kept = values > len(values) * np.finfo(np.float64).eps * values[-1]
        seen = np.sum((roots @ vectors[:, kept]) ** 2 / values[kept])
        return np.clip(1 - seen / len(self.spreads), 0.0, 1.0)

    def hidden_by_few(self, c):
        """Compute `hidden_by` the covariance of a class of few samples, by these alone.

        With B B^T = Sigma_B and R R^T = covariance, the trace is that of the first
        block of the projector to the rows of M = [B R], for (M M^T)^+ M has the same
        rows; what is hidden is that of the projector to the null space of M. That is
        spanned by the columns of [-G; I], where G = B^+ R N and N spans the
        combinations of samples without a part outside the means' space: the trace is
        the sum of g^2 / (1 + g^2) over the singular values g of G.
        """
        rows = np.concatenate(list(self.residuals(c))) / np.sqrt(self.sizes[c])
        inside = rows @ self.axes.T
        outside = rows - inside @ self.axes
        squares, combinations = np.linalg.eigh(outside @ outside.T)
        largest = max(np.sum(rows**2), self.spreads[0] ** 2)
        alone = squares <= rows.shape[1] * np.finfo(np.float64).eps * largest
        g = combinations[:, alone].T @ inside / self.spreads
        g_squared = np.maximum(np.linalg.eigvalsh(g @ g.T), 0)
        return np.sum(g_squared / (1 + g_squared)) / len(self.spreads)
