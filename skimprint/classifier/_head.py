"""Make what predictions need of what a classifier knows: proxies, whitening, kernel."""

from copy import copy

import numpy as np

from .._arrays.groups import blocks_of_rows, row_keys
from .._arrays.threads import cached_property
from .._space.whitening import precision_cholesky
from ..normalization import l2_normalize, squared_lengths

# Proxies that are blended side by side, so that little more is held.
_BLOCK_ROWS = 1024

# Proxies are many if there are more than so many for each feature.
_MANY = 6


def lowest_score(dtype):
    """Find what to tell of a class that cannot be predicted: less than any score.

    It is finite also where scores are scaled, in `CalibratedClassifierCV` by up to
    exp(10), and where they are summed, as in `BaggingClassifier`.
    """
    return float(-np.finfo(dtype).max / 2**16)


class Head:
    """The classes in sorted order, with their normalised proxies.

    The parameter ``head`` is something else: a linear classifier to start from.
    ``is_head``, and all that is "of a head", or "from" one, speak of that.

    Parameters
    ----------
    plan : Plan
        How proxies are normalised, whitened and blended.
    space : Space
        Knows the classes.

    Attributes
    ----------
    classes : ndarray of shape (n_classes,)
        The labels that can be predicted.
    all_classes : ndarray of shape (n_all_classes,)
        These and, in sorted order, those of which no sample had weight.
    offsets : ndarray of shape (n_classes + 1,)
        Where the proxies of each class start.
    codes : ndarray of shape (n_proxies_total,)
        Index of the class of each proxy.
    proxies : ndarray of shape (n_proxies_total, n_features)
        The normalised proxies, whitened if the space is.
    counts, indices : ndarray of shape (n_proxies_total,)
        The weight of the samples that each stands for, and its training row.
    whitening : Whitening or None
        What queries go through too.
    shrinkage : float or None
        That of the whitening.
    factor : ndarray of shape (n_features, n_features) or None
        What makes Mahalanobis distances Euclidean ones.
    covariance_shrinkage : float or None
        That of the covariance within classes that it is made of.
    kernel : KernelRidge or None
        The regression.
    """

    def __init__(self, plan, space):
        self.plan = plan
        self.space = space
        state, points = space.state, space.proxies
        labels = state.column(lambda block: block.labels)
        # For text, NumPy's own choice: as wide as the longest label that is left.
        is_text = state.label_dtype.kind in "US"
        label_dtype = None if is_text else state.label_dtype
        self.classes = self.all_classes = np.array(labels.tolist(), label_dtype)
        if state.absent:
            labels = [*labels.tolist(), *state.absent]
            self.all_classes = np.unique(np.array(labels, label_dtype))
            self.classes = self.classes.astype(self.all_classes.dtype)
        self.offsets, self.codes = points.offsets, points.codes
        self.counts, self.indices = points.values.counts, points.values.indices
        self.dtype = state.dtype
        self._check_size(points.values.vectors)  # a whitening would only hide it
        self.shrinkage = self.whitening = None
        self.covariance_shrinkage = self.factor = None
        moments = space.moments if plan.needs.moments == 2 else None
        if moments is not None and plan.whitening is not None:
            chosen = plan.whitening == "auto"
            self.shrinkage = space.shrinkage if chosen else float(plan.whitening)
            self.whitening = space.whitening(self.shrinkage)
        if plan.metric.needs_covariance:
            covariance, self.covariance_shrinkage = space.covariance
            self.factor = precision_cholesky(self._whitened_covariance(covariance))
        self.make_proxies(points.values.vectors, moments)
        self.kernel = space.kernel if plan.kernel_weight else None

    def widened(self, values, fill):
        """Put a value in the places of the classes that cannot be predicted.

        Parameters
        ----------
        values : ndarray of shape (..., n_classes)
            One for each class that can be.
        fill : float
            For those that cannot.

        Returns
        -------
        widened : ndarray of shape (..., n_all_classes)
            ``values`` itself where they are all classes.
        """
        if self.classes is self.all_classes:
            return values
        shape = *values.shape[:-1], len(self.all_classes)
        widened = np.full(shape, fill, values.dtype)
        widened[..., np.searchsorted(self.all_classes, self.classes)] = values
        return widened

    def blended(self, vectors, means):
        """Blend normalised vectors and class means, of the same shape, into proxies."""
        return (1 - self.plan.mean_weight) * vectors + self.plan.mean_weight * means

    def whitened(self, vectors):
        """Whiten vectors, where anything is whitened: by solving, once for a head."""
        if self.whitening is None:
            return vectors
        return self.whitening.solve(vectors)

    def normalized(self, vectors, own):
        """Normalise whitened vectors that take the places of proxies.

        Parameters
        ----------
        vectors : ndarray of shape (n, n_features)
            In the space of the proxies.
        own : ndarray of shape (n,)
            The proxies whose places they take.

        Returns
        -------
        normalized : ndarray of shape (n, n_features)
            As the proxies are, before any blending.
        """
        return self.plan.proxy_norm.in_place_of(
            vectors.astype(self.dtype, copy=False),
            own,
            self.proxies,
            self.codes,
            self.space.is_head,
        )

    @property
    def covariance(self):
        """The covariance within classes, where it is known and needed, or None."""
        is_known = self.factor is not None and self.space.state.places
        return self.space.covariance[0] if is_known else None

    @property
    def _whitening_to_combine(self):
        """The whitening in float64: what is solved there enlarges rounding errors."""
        return self.space.whitening(self.shrinkage, np.float64)

    @cached_property
    def generator(self):
        """The generator of the plan: a copy, which may keep what it has chosen here."""
        return copy(self.plan.generator)

    @cached_property
    def twice_whitened(self):
        """Proxies whitened once more, and their products with the origin; or None.

        For a query x and a proxy p, with the whitening W and the origin o, ``(x - o) W
        . p = x . (p W^T) - o . (p W^T)``: products need no whitened queries. Beside
        products with many proxies these cost little, and the proxies much.
        """
        n_proxies, n_features = self.proxies.shape
        if self.whitening is None or n_proxies > _MANY * n_features:
            return None
        twice = self.whitening.solve_transposed(self.proxies)
        return twice, twice @ self.whitening.origin

    @cached_property
    def mean_directions(self):
        """The class means before any whitening, of unit length: (n_classes, d)."""
        return l2_normalize(self.space.means.astype(self.dtype))

    @cached_property
    def twins(self):
        """A number for each proxy, the same for those of a class that are equal.

        A sample that occurs twice may be two proxies, and both are gone without it.
        """
        proxies = self.space.proxies
        keys = row_keys(proxies.values.vectors, seed=0)
        return np.unique(keys, return_inverse=True)[1] * len(proxies) + proxies.codes

    def make_proxies(self, generated, moments=None):
        """Make proxies of vectors that were generated, and of class means.

        Parameters
        ----------
        generated : ndarray of shape (n_proxies_total, n_features)
            The vectors.
        moments : CommonMoments, default=None
            For a generator that combines: of the support.
        """
        vectors = self._combined(generated, moments)
        vectors = np.ascontiguousarray(vectors, dtype=self.dtype)
        known = (block.proxies.values.vectors for block in self.space.state.blocks)
        if any(np.may_share_memory(vectors, each) for each in known):
            vectors = vectors.copy()  # those that are remembered stay as they are
        self.proxies = self.plan.proxy_norm.of_proxies(
            vectors, self.offsets, self.space.is_head
        )
        self._check_size(self.proxies)
        if self.plan.mean_weight:
            means = self.whitened(self.space.means)
            means = self.normalized(means, np.arange(len(self.classes)))
            for part in blocks_of_rows(len(self.proxies), _BLOCK_ROWS):
                of_class = means[self.codes[part]]
                self.proxies[part] = self.blended(self.proxies[part], of_class)

    def _combined(self, generated, moments):
        """Whiten what was generated, and let the generator combine all classes."""
        generator, left_out = self.generator, None
        if generator.needs.samples:
            left_out = self.space.left_out()
            if self.whitening is not None:
                rows = self._whitening_to_combine(left_out.rows)
                left_out = left_out._replace(rows=rows)
        if generator.combines and self.whitening is not None:
            whitening = self._whitening_to_combine
            vectors, moments = whitening.solve(generated), moments.whitened(whitening)
        else:
            vectors = self.whitened(generated)
        return generator.combine(vectors, self.counts, moments, left_out)

    def _check_size(self, vectors):
        """Refuse vectors whose squared lengths are not finite."""
        vectors = vectors.astype(self.dtype, copy=False)
        if not np.isfinite(squared_lengths(np, vectors)).all():
            raise ValueError(
                f"X is too large for {self.dtype}: squared lengths of proxies are not "
                "finite. Scale the embeddings, or use norms that give unit length."
            )

    def _whitened_covariance(self, covariance):
        """Express a covariance of embeddings in the whitened space."""
        if self.whitening is None:
            return covariance
        return self.whitening.apply(self.whitening.apply(covariance).T)
