"""Heads that scikit-learn lacks, or has at a higher price."""

import numpy as np
from scipy.linalg import eigh, inv, solve
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    OneToOneFeatureMixin,
    TransformerMixin,
    clone,
)
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.utils.class_weight import compute_sample_weight

from skimprint.normalization import l2_normalize, power_normalize


class AutoNorm(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """The norm of our recommended setting, for its peers.

    Square roots where no embedding of the support is negative, then unit length.
    """

    def fit(self, X, y=None):
        self.has_roots_ = bool(X.min() >= 0)
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X):
        return power_normalize(X) if self.has_roots_ else l2_normalize(X)


def folds_of(y):
    """Three stratified folds, or two where a class has two samples.

    None where no class has two. Single samples of some classes do not count: they are
    in one of the folds.
    """
    sizes = np.bincount(y)
    smallest = sizes.min() if sizes.min() > 1 else sizes.max()
    if smallest < 2:
        return None
    return StratifiedKFold(min(3, smallest), shuffle=True, random_state=0)


class CrossValidatedLogisticRegression(ClassifierMixin, BaseEstimator):
    """Logistic regression with C from three folds, and less work than usual.

    The embeddings are centred and rotated onto the directions in which they differ.
    The penalty and the intercept make that change nothing but the number of features,
    where there are fewer samples, and the number of iterations. C is chosen by the log
    loss, which chooses better than the accuracy at few shots, where many C are as
    accurate, and as well elsewhere. Where some classes have one sample, so that the log
    loss of a fold is not defined, it is the balanced accuracy; where all have, C is the
    middle of the grid.

    Parameters
    ----------
    Cs : tuple of float
        The grid, ascending.
    class_weight : "balanced" or None
        As in scikit-learn.
    """

    def __init__(self, Cs=(0.1, 1, 10, 100, 1000, 10000), class_weight=None):
        self.Cs = Cs
        self.class_weight = class_weight

    def fit(self, X, y):
        params = {"max_iter": 2000, "class_weight": self.class_weight}
        folds = folds_of(y)
        if folds is None:
            model = LogisticRegression(C=self.Cs[len(self.Cs) // 2], **params)
        elif np.bincount(y).min() == 1:
            model = GridSearchCV(
                LogisticRegression(**params),
                {"C": self.Cs},
                cv=folds,
                scoring="balanced_accuracy",
            )
        else:
            model = LogisticRegressionCV(
                Cs=self.Cs,
                l1_ratios=(0,),
                cv=folds,
                scoring="neg_log_loss",
                use_legacy_attributes=False,
                **params,
            )
        self.model_ = make_pipeline(PCA(svd_solver="full"), model).fit(X, y)
        self.classes_ = self.model_.classes_
        return self

    def decision_function(self, X):
        return self.model_.decision_function(X)

    def predict_proba(self, X):
        return self.model_.predict_proba(X)

    def predict(self, X):
        return self.model_.predict(X)


class CrossValidatedSVM(ClassifierMixin, BaseEstimator):
    """A support vector machine with its parameters from three folds.

    Embeddings are rotated as for logistic regression, which changes nothing but the
    time. With a single sample in each class, parameters are those of the machine.

    Parameters
    ----------
    svm : estimator
        The machine.
    grid : dict
        Its parameters and the values to choose from.
    class_weight : "balanced" or None
        As in scikit-learn.
    """

    def __init__(self, svm, grid, class_weight=None):
        self.svm = svm
        self.grid = grid
        self.class_weight = class_weight

    def fit(self, X, y):
        self.pca_ = PCA(svd_solver="full")
        X = self.pca_.fit_transform(X)
        svm = clone(self.svm).set_params(class_weight=self.class_weight)
        folds = folds_of(y)
        if folds is not None:
            svm = GridSearchCV(svm, self.grid, cv=folds, scoring="balanced_accuracy")
        self.model_ = svm.fit(X, y)
        self.classes_ = self.model_.classes_
        return self

    def predict(self, X):
        return self.model_.predict(self.pca_.transform(X))


class RBFKernelRidge(ClassifierMixin, BaseEstimator):
    """Kernel ridge regression on one-hot targets, tuned by leave-one-out.

    Parameters
    ----------
    gammas : tuple of float
        Widths of the kernel ``exp(-gamma ||x - z||**2)``. With a single sample in each
        class, where leaving one out says nothing, the second one.
    alphas : tuple of float
        Regularisations; the middle one for single samples.
    n_tuned : int
        Both are chosen on so many random samples at most.
    class_weight : "balanced" or None
        As in scikit-learn.

    Notes
    -----
    With the kernel K, targets T and weights W, coefficients are C = G T with
    G = (K + alpha W^-1)^-1, and the error for a sample that is left out is
    C_i / G_ii (Rifkin and Lippert, "Notes on regularized least squares", 2007). With
    the eigendecomposition Q L Q' of V K V, V^2 = W, G is V Q (L + alpha)^-1 Q' V for
    every alpha.
    """

    def __init__(
        self,
        gammas=(0.5, 1, 2, 4, 8, 16),
        alphas=(1e-6, 1e-5, 1e-4, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1),
        n_tuned=1000,
        class_weight=None,
    ):
        self.gammas = gammas
        self.alphas = alphas
        self.n_tuned = n_tuned
        self.class_weight = class_weight

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        X = X.astype(np.float64)
        targets = (y[:, None] == self.classes_).astype(np.float64)
        weights = compute_sample_weight(self.class_weight, y)
        if len(y) == len(self.classes_):
            self.gamma_, self.alpha_ = (
                self.gammas[1],
                self.alphas[len(self.alphas) // 2],
            )
        else:
            some = np.random.default_rng(0).permutation(len(y))[: self.n_tuned]
            self.gamma_, self.alpha_ = self._tuned(
                X[some], targets[some], weights[some]
            )
        kernel = rbf_kernel(X, gamma=self.gamma_)
        kernel[np.diag_indices_from(kernel)] += self.alpha_ / weights
        self.X_, self.coef_ = X, solve(kernel, targets, assume_a="pos")
        return self

    def _tuned(self, X, targets, weights):
        """The width and the regularisation of the smallest squared error."""
        errors = {}
        roots = np.sqrt(weights)[:, None]
        for gamma in self.gammas:
            values, vectors = eigh(
                roots * rbf_kernel(X, gamma=gamma) * roots.T, driver="evd"
            )
            rotated = vectors.T @ (roots * targets)
            for alpha in self.alphas:
                inverse = 1 / (np.maximum(values, 0) + alpha)
                coef = roots * (vectors @ (inverse[:, None] * rotated))
                diagonal = roots**2 * (vectors**2 @ inverse)[:, None]
                errors[gamma, alpha] = np.sum(weights[:, None] * (coef / diagonal) ** 2)
        return min(errors, key=errors.get)

    def decision_function(self, X):
        scores = rbf_kernel(X, self.X_, gamma=self.gamma_) @ self.coef_
        return scores[:, 1] - scores[:, 0] if len(self.classes_) == 2 else scores

    def predict(self, X):
        scores = rbf_kernel(X, self.X_, gamma=self.gamma_) @ self.coef_
        return self.classes_[scores.argmax(axis=1)]


class GaussianDiscriminantAnalysis(ClassifierMixin, BaseEstimator):
    """Gaussian discriminant analysis of Wang et al. (ICLR 2024), with uniform priors.

    Classes share one covariance S of N samples in d dimensions. Its inverse is
    estimated as d ((N - 1) S + trace(S) I)^-1, which is scale-free and works with fewer
    samples than dimensions. scikit-learn's LDA shrinks the covariance of each class.
    """

    def fit(self, X, y):
        self.classes_, codes = np.unique(y, return_inverse=True)
        X = X.astype(np.float64)
        n_samples, n_features = X.shape
        self.means_ = np.stack([X[codes == c].mean(axis=0) for c in np.unique(codes)])
        residuals = X - self.means_[codes]
        scatter = residuals.T @ residuals
        trace = scatter.trace() / (n_samples - 1)
        if trace > 0:
            scatter[np.diag_indices(n_features)] += trace
            self.precision_ = n_features * inv(scatter, assume_a="pos")
        else:  # one sample in each class
            self.precision_ = np.eye(n_features)
        return self

    def _squared_distances(self, X):
        """Squared Mahalanobis distances to the means."""
        projected = self.precision_ @ self.means_.T
        offsets = np.einsum("cd,dc->c", self.means_, projected)
        lengths = np.einsum("nd,nd->n", X @ self.precision_, X)
        return lengths[:, None] - 2 * X @ projected + offsets

    def predict_proba(self, X):
        logits = -self._squared_distances(X) / 2
        logits = np.exp(logits - logits.max(axis=1, keepdims=True))
        return logits / logits.sum(axis=1, keepdims=True)

    def predict(self, X):
        return self.classes_[self._squared_distances(X).argmin(axis=1)]

    def score_samples(self, X):
        """How close the nearest mean is (Lee et al., NeurIPS 2018)."""
        return -self._squared_distances(X).min(axis=1)


class NearestNeighbors(KNeighborsClassifier):
    """Votes of the k nearest, and how near the k-th is (Sun et al., ICML 2022)."""

    def score_samples(self, X):
        k = min(self.n_neighbors, self.n_samples_fit_)
        return -self.kneighbors(X, n_neighbors=k)[0][:, -1]
