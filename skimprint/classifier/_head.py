"""What predictions need, made of what a classifier remembers."""

from copy import copy
from functools import cached_property

import numpy as np

from .._arrays.groups import offsets_of
from .._memory.learner import left_out_of
from .._scoring.similarity import METRICS
from .._space.kernel_ridge import KernelRidge, Support
from .._space.leave_one_out import choose_shrinkage
from .._space.moments import PooledMoments
from .._space.whitening import (
    Whitening,
    precision_cholesky,
    spectrum_without,
    within_class_covariance,
    within_class_spectrum,
)

# Samples to leave out in turn, and scores of them by class, to choose something by:
# more tell little more, and cost.
_MAX_LEFT_OUT = 4000
_MAX_SCORES = 120_000


# Parts of the samples that are kept from the covariance while they are scored.
_N_FOLDS = 10


def _origin_of(means):
    """Where the whitened space has its origin, given the class means."""
    if len(means) == 1:  # from its own mean, a class would lie in no direction
        return np.zeros_like(means[0])
    return means.mean(axis=0)


def _max_rows(n_classes):
    """How many samples of so many classes to leave out in turn."""
    return min(_MAX_LEFT_OUT, _MAX_SCORES // n_classes)


def make_similarity(metric, proxies, **params):
    """Compare queries with proxies under a metric, given by its name."""
    return METRICS[metric](proxies, **params)


class Head:
    """The classes in sorted order, with their normalised proxies.

    Parameters
    ----------
    learnt : Learnt
        All that is known.
    proxy_norm : Norm
        Normalisation of the proxies.
    mahalanobis : bool
        Whether the covariance is needed.
    shrinkage : float, "auto" or None, default=None
        Of the covariance that whitens the space; `None` leaves the space as it is.
    mean_weight : float, default=0.0
        Share of the normalised class mean in each proxy.
    with_kernel : bool, default=False
        Whether there is a kernel regression on the samples.
    previous : Head, default=None
        Of mostly the same classes, to save work.
    shared : dict, default=None
        What heads of the same samples have in common, for those that follow.

    Attributes
    ----------
    memory : Memories
        What is remembered of each class.
    generator : ProxyGenerator
        Has made the proxies.
    norm : {"l2", "power"} or None
        The normalisation of the support embeddings, if it was chosen by them.
    classes : ndarray of shape (n_classes,)
        The labels.
    class_count : ndarray of shape (n_classes,)
        Weight of the samples of each class.
    offsets : ndarray of shape (n_classes + 1,)
        Where the proxies of each class start.
    codes : ndarray of shape (n_proxies_total,)
        Index of the class of each proxy.
    proxies : ndarray of shape (n_proxies_total, n_features)
        The normalised proxies, whitened if the space is.
    indices : ndarray of shape (n_proxies_total,)
        Their training rows.
    mean_weight : float
        Share of the class mean in them.
    covariance, factor : ndarray of shape (n_features, n_features) or None
        Within-class covariance, and what makes Mahalanobis distances Euclidean ones.
    covariance_shrinkage : float or None
        That of this covariance.
    kernel : KernelRidge or None
        The regression.
    calibration : Calibration or None
        What leaving samples out has shown, once it has been asked for.
    shrinkage : float or None
        That of the whitening.
    whitening : Whitening or None
        What queries go through too.
    compared : tuple or None
        What was compared with queries last, and how: metric and norm, proxies,
        similarity.
    similarity : callable
        From the name of a metric and the parameters of a `Similarity` to one.
    """

    def __init__(
        self,
        learnt,
        proxy_norm,
        *,
        mahalanobis,
        shrinkage=None,
        mean_weight=0.0,
        with_kernel=False,
        previous=None,
        shared=None,
    ):
        self.memory = learnt.memory
        self.generator = learnt.generator
        self.norm = learnt.norm
        self.mean_weight = mean_weight
        labels, parts = zip(*sorted(self.memory.as_dict().items()), strict=True)
        # For text, NumPy's own choice: as wide as the longest label that is left.
        is_text = learnt.label_dtype.kind in "US"
        self.classes = np.array(labels, None if is_text else learnt.label_dtype)
        self.class_count = np.array([part.weight for part in parts])
        self.offsets = offsets_of([len(part.vectors) for part in parts])
        self.codes = np.repeat(np.arange(len(parts)), np.diff(self.offsets))
        self.indices = np.concatenate([part.indices for part in parts])

        shared = {} if shared is None else shared
        self.moments = shared.get("moments")
        uses_moments = learnt.generator.uses_moments or mahalanobis
        if self.moments is None and (uses_moments or shrinkage is not None):
            moments = {
                label: part.moments
                for label, part in zip(labels, parts, strict=True)
                if part.moments is not None
            }
            # Some were learnt before the moments were needed: better none than some.
            complete = all(part.moments or part.is_head for part in parts)
            if moments and complete:
                self.moments = PooledMoments(moments, previous and previous.moments)
                shared["moments"] = self.moments
        self.shrinkage = self.whitening = None
        if shrinkage is not None and self.moments is not None:
            self._whiten(parts, shrinkage, shared)
        self.covariance = self.covariance_shrinkage = self.factor = None
        if mahalanobis and self.moments is not None:
            self.covariance, self.covariance_shrinkage = within_class_covariance(
                self.moments
            )
            self.factor = precision_cholesky(self._whitened(self.covariance))

        vectors = self.vectors
        counts = np.concatenate([part.counts for part in parts])
        moments = self.moments
        if self.whitening is not None:
            if learnt.generator.uses_moments:
                moments = moments.whitened(self.whitening)
            self.whitening = self.whitening.astype(learnt.dtype)
            vectors = self.whitening(vectors)
        left_out = None
        if learnt.generator.uses_sample:
            left_out = left_out_of(parts, _max_rows(len(parts)))
            if self.whitening is not None:
                left_out = left_out._replace(rows=self.whitening(left_out.rows))
        vectors = learnt.generator.combine(vectors, counts, moments, left_out)
        self._place(vectors.astype(learnt.dtype, copy=False), proxy_norm)
        self.kernel = None
        if with_kernel:
            if "kernel" not in shared:
                support = Support.of(parts, learnt.dtype)
                shared["kernel"] = support and KernelRidge(support)
            self.kernel = shared["kernel"]
        self.calibration = None
        self.compared = None
        self.similarity = make_similarity

    def __getstate__(self):
        return vars(self) | {"compared": None}

    def each_without(self, held_out, proxy_norm):
        """Heads whose whitening does not know some of the samples, fold by fold.

        A sample makes the covariance a little more like its own residual, and so lies
        nearer to its class than any query does; where features are many, much nearer.

        Parameters
        ----------
        held_out : HeldOut
            Samples, class by class.
        proxy_norm : Norm
            Normalisation of the proxies.

        Yields
        ------
        fold : ndarray of int
            Some of the samples.
        head : Head
            The same proxies, whitened by covariance and means of all other samples; or
            this head, if it does not whiten.
        """
        codes, means, spectrum = held_out.codes, self.means, None
        if self.whitening is not None:
            origin = _origin_of(means)
            spectrum = within_class_spectrum(self.moments, origin, means)
        if spectrum is None or not len(spectrum.eigenvalues):
            yield np.arange(len(codes)), self
            return
        vectors = self.vectors
        weights = self.class_count[codes] * held_out.shift / (1 + held_out.shift)
        within = np.arange(len(codes)) - np.searchsorted(codes, codes)
        for number in range(min(_N_FOLDS, within.max() + 1)):
            fold = np.flatnonzero(within % _N_FOLDS == number)
            others, other_means = spectrum_without(
                spectrum,
                self.class_count,
                means,
                *(values[fold] for values in (held_out.rows, codes, weights)),
            )
            head = copy(self)
            vars(head).pop("twice_whitened", None)
            origin = _origin_of(other_means)
            head.whitening = Whitening(others, origin, self.shrinkage)
            head.whitening = head.whitening.astype(self.proxies.dtype)
            if self.factor is not None:
                head.covariance = others.covariance(self.covariance_shrinkage)
                head.factor = precision_cholesky(head._whitened(head.covariance))
            head._place(head.whitening(vectors), proxy_norm)
            yield fold, head

    @property
    def parts(self):
        """What is remembered of each class, in the order of the classes."""
        return [self.memory[label] for label in self.classes.tolist()]

    @property
    def is_head(self):
        """Whether each class comes from a linear head: (n_classes,)."""
        return np.array([part.is_head for part in self.parts])

    @property
    def means(self):
        """The class means, of shape (n_classes, n_features)."""
        return np.stack([part.mean for part in self.parts])

    @property
    def vectors(self):
        """The proxies as they were made, of shape (n_proxies_total, n_features)."""
        return np.concatenate([part.vectors for part in self.parts])

    def _place(self, vectors, proxy_norm):
        """Make proxies of vectors: whitened, but neither normalised nor blended."""
        vectors = np.ascontiguousarray(vectors)
        vectors = proxy_norm.of_proxies(vectors, self.offsets, self.is_head)
        self.proxies = vectors
        if self.mean_weight:
            means = self.renormalize(
                self.means, np.arange(len(self.classes)), proxy_norm
            )
            # In a new array: what a callable returned may be the user's.
            self.proxies = self.blended(vectors, means[self.codes])

    def blended(self, vectors, means):
        """Proxies of normalised vectors and class means, of the same shape."""
        return (1 - self.mean_weight) * vectors + self.mean_weight * means

    def renormalize(self, vectors, own, proxy_norm):
        """Normalise vectors that take the places of proxies, before any blending.

        Parameters
        ----------
        vectors : ndarray of shape (n, n_features)
            Not normalised.
        own : ndarray of shape (n,)
            The proxies whose places they take.
        proxy_norm : Norm
            Normalisation of the proxies.

        Returns
        -------
        normalized : ndarray of shape (n, n_features)
            As the proxies are.
        """
        vectors = vectors.astype(self.proxies.dtype)
        if self.whitening is not None:
            vectors = self.whitening(vectors)
        return proxy_norm.in_place_of(
            vectors, own, self.proxies, self.codes, self.is_head
        )

    def _whiten(self, parts, shrinkage, shared):
        """Make the whitening, by a shrinkage that is given or chosen."""
        means = self.means
        origin = _origin_of(means)
        if "spectrum" not in shared:
            shared["spectrum"] = within_class_spectrum(self.moments, origin, means)
        spectrum = shared["spectrum"]
        if shrinkage == "auto":
            if "shrinkage" not in shared:
                left_out = left_out_of(parts, _max_rows(len(parts)))
                shared["shrinkage"] = choose_shrinkage(
                    spectrum, self.class_count, means, left_out
                )
            shrinkage = shared["shrinkage"]
        self.shrinkage = float(shrinkage)
        self.whitening = Whitening(spectrum, origin, self.shrinkage)

    def _whitened(self, covariance):
        """What a covariance of embeddings is in the whitened space."""
        if self.whitening is None:
            return covariance
        return self.whitening.turn(self.whitening.turn(covariance).T)

    @cached_property
    def twice_whitened(self):
        """Proxies whitened once more, and their products with the origin; or None.

        With them, products need no whitened queries.
        """
        if self.whitening is None:
            return None
        twice_whitened = self.whitening.turn(self.proxies)
        return twice_whitened, twice_whitened @ self.whitening.origin

    @property
    def n_proxies(self):
        """Number of proxies of all classes."""
        return len(self.proxies)
