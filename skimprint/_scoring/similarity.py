"""Similarities of queries to proxies: a class for each metric, registered in `METRICS`.

Similarities have the proxies as rows and the queries as columns. Of many proxies they
lie in memory so, and the maximum over the proxies of a class runs along contiguous
memory, for any class sizes. Of few proxies the product is faster the other way round.

A metric that is made of products runs on any device: its formulae stand once, over an
array namespace ``xp``.
"""

from copy import copy

import numpy as np
from scipy.spatial.distance import cdist
from sklearn.utils import gen_even_slices

from .._arrays.device import DeviceArray, in_halves, to_host
from .._arrays.groups import blocks_of_rows
from .._arrays.threads import run_blocks
from .._space.downdate import gain_without
from .._validation import check_instance, check_returned, read_only
from ..normalization import EPS, IDENTITY, NORMS, l2_normalize, lengths, squared_lengths

# Blocks of queries: their similarities stay in the last-level cache, but no block is so
# narrow that the matrix product loses its speed to packing the proxies.
_BLOCK_BYTES = 2**23
_MIN_BLOCK, _MAX_BLOCK = 256, 2048

# Few queries whose similarities fit into one block are one: threads of ours that have
# to be woken cost such a product more than BLAS's own do. Queries are copied where they
# are whitened or moved, so these are bounded too.
_QUERY_BYTES = 2**26

# Similarities of a block on a device: a fraction of its memory, and enough to fill it.
_DEVICE_BLOCK_BYTES = 2**28

# Number of proxies up to which their similarities lie in memory query by query.
_FEW = 1000

# Queries that meet vectors of their own, in products of which the diagonal is meant.
_PAIRS = 32


class Similarity:
    """Compare queries with a fixed set of proxies, under one metric.

    A metric is a subclass that overrides `compare`, and an entry in `METRICS`.
    Distances are negated, so that larger always means closer.

    Parameters
    ----------
    proxies : ndarray of shape (n_proxies, n_features)
        The proxies; queries are cast to their dtype.
    query_norm : Norm, default=IDENTITY
        Normalisation of the queries.
    whitening : Whitening, default=None
        What normalised queries go through. Those of a norm that gives unit length get
        it again afterwards.
    twice_whitened : tuple of ndarrays, default=None
        The proxies whitened once more, of shape (n_proxies, n_features), and their
        products with the origin of the whitening, of shape (n_proxies,). With them,
        products take less time.
    factor : ndarray of shape (n_features, n_features), default=None
        For a metric that needs a covariance: ``X @ factor`` has the distances sought.

    Attributes
    ----------
    name : str
        How the parameter `metric` calls it.
    needs_covariance : bool
        Whether it needs a ``factor``, and has a method ``without`` as `Mahalanobis`.
    zero_distance : float or None
        The similarity of what is equal, so that ``zero_distance - similarity`` is a
        distance; `None` where there is none.
    is_product : bool
        Whether it is the product of a query and a proxy, or of their directions.
    has_device_form : bool
        Whether it can be computed in any array namespace, as what derives from
        `_ByProducts` can.
    shows_non_finite : bool
        Whether a query with NaN or infinity has no finite similarity.
    is_callable : bool
        Whether it is a user's function, which may be unsafe in threads.

    Notes
    -----
    The way of a query: `prepare` casts it, applies ``query_norm``, the whitening and
    ``last_norm``, and moves it to where the metric compares (`_placed`); `raw` compares
    it with all proxies; `finish` makes similarities of those values that are asked for.
    What does not change the order of the proxies is left to `finish`, such as the
    length of a query that is multiplied with them. So without a whitening, a norm that
    only scales is the ``last_norm``.
    """

    name = None
    needs_covariance = False
    zero_distance = 0
    is_product = False
    has_device_form = False
    shows_non_finite = False
    is_callable = False

    # The namespace of the arrays, and what there is of them on another device.
    xp = np
    _on_device = None

    # Whether queries are not whitened, as proxies are whitened twice, and whether
    # they keep their length, by which `finish` divides.
    folds_whitening = divides_by_length = False

    # Where similarities of unit queries follow from products, a method: see `Dot`.
    of_products = None

    def __init__(
        self,
        proxies,
        *,
        query_norm=IDENTITY,
        whitening=None,
        twice_whitened=None,
        factor=None,
    ):
        self.proxies = proxies
        self.whitening = whitening
        # The norm before the whitening, and the one of what is compared.
        self.query_norm, self.last_norm = query_norm, IDENTITY
        if whitening is not None and query_norm.unit_length:
            self.last_norm = NORMS["l2"]
        elif whitening is None and query_norm.is_scaling:
            self.query_norm, self.last_norm = IDENTITY, query_norm

    def __getstate__(self):
        # Arrays of a device stay there.
        return vars(self) | {"_on_device": None}

    def compare(self, queries, vectors):
        """Compare prepared queries with vectors.

        Parameters
        ----------
        queries : ndarray of shape (n_queries, n_features)
            Prepared queries.
        vectors : ndarray of shape (n_vectors, n_features)
            Proxies, or what takes their place.

        Returns
        -------
        similarities : ndarray of shape (n_vectors, n_queries)
            The larger, the closer.
        """
        raise NotImplementedError

    def to(self, X):
        """Find the same similarity where queries are.

        Parameters
        ----------
        X : ndarray or DeviceArray of shape (n_queries, n_features)
            The queries.

        Returns
        -------
        similarity : Similarity
            This one for queries on the host, and where the metric or the norm has no
            form on devices: then rows come to the host. Else one whose arrays have been
            brought to the device; they are kept for the device that was asked last.
        """
        norms = self.query_norm, self.last_norm
        has_form = self.has_device_form and not any(norm.is_callable for norm in norms)
        if not (has_form and isinstance(X, DeviceArray)):
            return self
        place = X.xp.__name__, str(X.device)
        kept = self._on_device  # once: other threads may replace it
        if kept is None or kept[0] != place:
            self._on_device = kept = place, self._brought(X)
        return kept[1]

    def for_each_block(self, work, X, *, in_threads=True):
        """Call a function for blocks of queries, where they are.

        Parameters
        ----------
        work : callable
            Gets the slice of a block, to be prepared. On a device that lacks memory it
            is called again for halves of a block.
        X : ndarray or DeviceArray of shape (n_queries, n_features)
            The queries, for which `to` has returned this similarity.
        in_threads : bool, default=True
            Whether it may be called from several threads.

        Returns
        -------
        results : list
            What it has returned for each block, in the order of the queries.
        """
        blocks = self.blocks(len(X))
        in_threads = in_threads and not self.is_callable
        # What is too large for a product is refused by what comes of it, and BLAS may
        # leave a flag behind. What functions of users warn of is theirs.
        is_ours = in_threads and not self.query_norm.is_callable
        quiet = "ignore" if is_ours else "warn"

        def work_quietly(block):
            with np.errstate(over=quiet, invalid=quiet):
                return work(slice(block.start, block.stop))

        if self.xp is not np:
            ranges = [range(block.start, block.stop) for block in blocks]
            return [part for r in ranges for part in in_halves(work_quietly, r)]
        if in_threads:
            return run_blocks(work_quietly, blocks)
        return list(map(work_quietly, blocks))

    def blocks(self, n_queries):
        """Slice the queries to compare at a time: one slice, or an even number."""
        n_proxies, n_features = self.proxies.shape
        row_bytes = max(1, n_proxies) * self.proxies.itemsize
        if self.xp is not np:
            return blocks_of_rows(n_queries, max(1, _DEVICE_BLOCK_BYTES // row_bytes))
        query_bytes = n_queries * n_features * self.proxies.itemsize
        is_small = n_queries * row_bytes <= _BLOCK_BYTES and query_bytes <= _QUERY_BYTES
        if is_small and self.has_device_form:
            return [slice(0, n_queries)]
        size = int(np.clip(_BLOCK_BYTES // row_bytes, _MIN_BLOCK, _MAX_BLOCK))
        n_blocks = -(-n_queries // size)
        if n_blocks > 1:
            n_blocks += n_blocks % 2
        return list(gen_even_slices(n_queries, max(1, n_blocks)))

    def prepare(self, X, block=slice(None)):
        """Cast, normalise, whiten and project a block of queries."""
        if self.xp is np:
            X = np.ascontiguousarray(X[block], dtype=self.proxies.dtype)
        else:
            X = self.xp.astype(X.part(block), self.compared.dtype)
        X = self._normalized(self.query_norm, X)
        if self.whitening is not None and not self.folds_whitening:
            X = self.whitening(X)
        return self._placed(self._normalized(self.last_norm, X))

    def _normalized(self, norm, X):
        return norm(X) if self.xp is np else norm.on_device(self.xp, X)

    def _placed(self, X):
        """Move rows of the space of the proxies to where the metric compares them."""
        return X

    def project(self, vectors):
        """Move vectors in the place of proxies to where prepared queries meet them."""
        return self._placed(vectors.astype(self.proxies.dtype, copy=False))

    def raw(self, X):
        """Compute raw similarities, which order the proxies as similarities do.

        Parameters
        ----------
        X : ndarray of shape (n_queries, n_features)
            Prepared queries.

        Returns
        -------
        raw : ndarray of shape (n_proxies, n_queries)
            To be made similarities by `finish`; the transpose may be C-contiguous.
        """
        return np.asarray(self.compare(X, self.proxies), dtype=self.proxies.dtype)

    def finish(self, raw, X):
        """Make similarities of raw ones, which it may write on; any subset will do.

        Parameters
        ----------
        raw : ndarray of shape (any, n_queries)
            Values from `raw`, the queries in their order.
        X : ndarray of shape (n_queries, n_features)
            Prepared queries.

        Returns
        -------
        similarities : ndarray of shape (any, n_queries)
        """
        return raw

    def paired(self, X, vectors, which=None):
        """Compare each query with one vector of its own.

        Parameters
        ----------
        X : ndarray of shape (n_queries, n_features)
            Prepared queries.
        vectors : ndarray of shape (n_queries, n_features)
            What takes the place of a proxy.
        which : ndarray of shape (n_queries,), default=None
            After `without`: the sample that each query is.

        Returns
        -------
        similarities : ndarray of shape (n_queries,)
            As to proxies.
        """
        vectors = self.project(vectors)
        found = np.empty(len(X), self.proxies.dtype)
        for part in blocks_of_rows(len(X), _PAIRS):
            found[part] = np.diagonal(self.compare(X[part], vectors[part]))
        return found

    def nearest(self, X, n_neighbors):
        """Find the most similar proxies of each query.

        Parameters
        ----------
        X : ndarray of shape (n_queries, n_features)
            Prepared queries.
        n_neighbors : int
            How many; all where there are no more.

        Returns
        -------
        similarities : ndarray of shape (n_queries, n_neighbors)
            Largest first.
        indices : ndarray of shape (n_queries, n_neighbors)
            Of the proxies; of equally similar ones the first comes first.
        """
        raw = self.raw(X)
        indices = largest_rows(raw, n_neighbors)
        similarities = self.exact(X, indices, np.take_along_axis(raw, indices, 0))
        return largest_first(similarities, indices)

    def exact(self, X, indices, raw):
        """Compare with chosen proxies, as exactly as can be, by raw similarities."""
        return self.finish(raw, X)

    def best(self, X):
        """Compare prepared queries with their nearest proxies: (n_queries,)."""
        raw = self.xp.max(self.raw(X), axis=0, keepdims=True)
        return to_host(self.finish(raw, X)[0, :])


class OfFunction(Similarity):
    """A user's function of queries and proxies, whose result is checked."""

    zero_distance = None
    is_callable = True

    def compare(self, queries, vectors):
        shape = len(queries), len(vectors)
        found = self.function(read_only(queries), read_only(vectors))
        found = check_returned(found, shape, vectors.dtype, "metric").T
        return found.copy(order="K")  # it may be the user's, or not to be written on


class _Minkowski(Similarity):
    """Distances that come of differences, feature by feature: on the host."""

    def compare(self, queries, vectors):
        distances = cdist(vectors, queries, self.cdist_name)
        return np.negative(distances, dtype=vectors.dtype, casting="same_kind")

    def paired(self, X, vectors, which=None):
        return -np.linalg.norm(X - self.project(vectors), ord=self.order, axis=1)


class Chebyshev(_Minkowski):
    """Largest difference of a feature, negated."""

    name = cdist_name = "chebyshev"
    order = np.inf


class Manhattan(_Minkowski):
    """Sum of the differences of all features, negated."""

    name = "manhattan"
    cdist_name = "cityblock"
    order = 1


class _ByProducts(Similarity):
    """A metric that comes of the products of queries and proxies.

    Attributes
    ----------
    compared : array of shape (n_proxies, n_features)
        What is multiplied with the prepared queries.
    shift : array of shape (n_proxies,) or None
        What is taken from the products.
    """

    has_device_form = True
    shows_non_finite = True
    origin = factor = shift = None

    def _brought(self, X):
        """Copy this with its arrays where queries are."""
        there = copy(self)
        there.xp = X.xp
        for name in ("compared", "origin", "factor", "shift"):
            setattr(there, name, X.bring(getattr(self, name)))
        if self.whitening is not None:
            there.whitening = self.whitening.brought(X.bring)
        return there

    def raw(self, X):
        are_few = self.compared.shape[0] <= _FEW
        raw = (X @ self.compared.T).T if are_few else self.compared @ X.T
        if self.shift is not None:
            raw -= self.shift[:, None]
        return raw


class Dot(_ByProducts):
    """Product of query and proxy."""

    name = "dot"
    zero_distance = None
    is_product = True

    def __init__(self, proxies, *, twice_whitened=None, **params):
        super().__init__(proxies, **params)
        if self.last_norm.is_scaling:
            # The length of a query scales its products: no need to touch the query.
            self.last_norm = IDENTITY
            self.divides_by_length = True
        self.compared = proxies
        # A product with whitened queries is one with proxies whitened once more: then
        # queries need no product of their own with a matrix of all features.
        self.folds_whitening = twice_whitened is not None
        if self.folds_whitening:
            self.compared, self.shift = twice_whitened

    def _whitened(self, X):
        """Move prepared queries to the space of the proxies."""
        return self.whitening(X) if self.folds_whitening else X

    def finish(self, raw, X):
        if self.divides_by_length:
            raw /= lengths(self.xp, self._whitened(X))[:, 0]
        return raw

    def paired(self, X, vectors, which=None):
        products = np.einsum("ij,ij->i", self._whitened(X), self.project(vectors))
        return self.finish(products[None], X)[0]

    @staticmethod
    def of_products(products, squares):
        """Find similarities of queries of unit length, given inner products.

        Parameters
        ----------
        products : ndarray of shape (n_vectors, n_queries)
            Those of vectors and queries.
        squares : callable
            Returns those of the vectors with themselves, which take time.

        Returns
        -------
        similarities : ndarray of shape (n_vectors, n_queries)
        """
        return products


class Cosine(Dot):
    """Product of the directions of query and proxy."""

    name = "cosine"
    zero_distance = 1

    def __init__(self, proxies, *, twice_whitened=None, **params):
        sizes = lengths(np, proxies)
        if twice_whitened is not None:
            vectors, at_origin = twice_whitened
            twice_whitened = vectors / sizes, at_origin / sizes[:, 0]
        super().__init__(proxies / sizes, twice_whitened=twice_whitened, **params)
        self.divides_by_length = True

    def finish(self, raw, X):
        raw = super().finish(raw, X)
        return self.xp.clip(raw, -1.0, 1.0)  # what rounding may exceed

    def project(self, vectors):
        return l2_normalize(super().project(vectors))

    @staticmethod
    def of_products(products, squares):
        return np.clip(products / np.sqrt(np.maximum(squares(), EPS)), -1, 1)


class Euclidean(_ByProducts):
    """Euclidean distance, negated."""

    name = "euclidean"

    def __init__(self, proxies, **params):
        super().__init__(proxies, **params)
        # Distances from afar are small differences of large products: come close.
        self.origin = proxies.mean(axis=0)
        self.proxies = self.compared = self._placed(proxies)
        self.shift = squared_lengths(np, self.proxies)[:, 0] / 2

    def _placed(self, X):
        return X - self.origin

    def finish(self, raw, X):
        # |x - p|^2 = |x|^2 - 2 (x.p - |p|^2 / 2), which rounding may make negative.
        raw *= -2
        raw += squared_lengths(self.xp, X)[:, 0]
        return -self.xp.sqrt(self.xp.clip(raw, 0.0, None))

    def paired(self, X, vectors, which=None):
        return -np.linalg.norm(X - self.project(vectors), axis=1)

    def exact(self, X, indices, raw):
        # Without the cancellation of |x|^2 - 2 x.p.
        for chosen, values in zip(indices, raw, strict=True):
            values[:] = -np.linalg.norm(X - self.proxies[chosen], axis=1)
        return raw

    @staticmethod
    def of_products(products, squares):
        return -np.sqrt(np.maximum(1 + squares() - 2 * products, 0))


class Mahalanobis(Euclidean):
    """Distance under the covariance within the classes, negated."""

    name = "mahalanobis"
    needs_covariance = True
    of_products = None

    def __init__(self, proxies, *, factor, **params):
        self.exact_factor, self.factor = factor, factor.astype(proxies.dtype)
        super().__init__(proxies, **params)

    def _placed(self, X):
        return super()._placed(X) @ self.factor

    def without(self, *, residuals, lost, weight_left):
        """Compare samples of the support by the metric as it is without each of them.

        Parameters
        ----------
        residuals : ndarray of shape (n, n_features)
            The samples less the means of their classes, in the space of the proxies.
        lost : ndarray of shape (n,)
            How often the covariance loses the outer product of each residual; see
            `Downdate`.
        weight_left : ndarray of shape (n,)
            Share of the weight of all samples that is left without each of them.

        Returns
        -------
        without : Similarity
            Has `finish` and `paired` for these samples as queries.
        """
        return _WithoutThemselves(self, residuals, lost, weight_left)


class _WithoutThemselves(Mahalanobis):
    """Mahalanobis distances by the covariance as it is without the query itself.

    Parameters
    ----------
    similarity : Mahalanobis
        Compares queries with proxies by the covariance of all samples.
    residuals, lost, weight_left
        As for `Mahalanobis.without`.

    Notes
    -----
    The inner products of `Downdate` are those of an inverse covariance. It is relative
    to the weight that is left, so that the squared distance of a query from a proxy,
    whose difference is ``d``, is ``weight_left (<d, d> + g <d, r>^2)``. In coordinates
    times the factor ``F``, ``C^-1 = F F^T``, these are plain products.
    """

    def __init__(self, similarity, residuals, lost, weight_left):
        vars(self).update(vars(similarity))
        self.residuals = residuals @ self.exact_factor
        squares = np.einsum("ij,ij->i", self.residuals, self.residuals)
        self.gain = gain_without(squares, lost)
        self.weight_left = weight_left

    def finish(self, raw, X):
        along = np.einsum("ij,ij->i", X, self.residuals)
        along = along - self.proxies @ self.residuals.T
        return self._without(super().finish(raw, X), along, slice(None))

    def paired(self, X, vectors, which=None):
        differences = X - self.project(vectors)
        along = np.einsum("ij,ij->i", differences, self.residuals[which])
        return self._without(super().paired(X, vectors), along, which)

    def _without(self, similarities, along, which):
        squares = similarities**2 + self.gain[which] * along**2
        return -np.sqrt(self.weight_left[which] * squares)


METRICS = {
    metric.name: metric
    for metric in (Chebyshev, Cosine, Dot, Euclidean, Mahalanobis, Manhattan)
}


def make_metric(value):
    """Find the metric that a parameter stands for.

    Parameters
    ----------
    value : str or callable
        A name in `METRICS`, or a function ``f(queries, proxies)``.

    Returns
    -------
    metric : type[Similarity]
        A class of its own for a function.
    """
    if isinstance(value, str):
        return METRICS[value]
    check_instance(value, "metric")
    name = getattr(value, "__name__", type(value).__name__)
    # No name that a registry has.
    members = {"function": staticmethod(value), "name": f"{name}()"}
    return type(OfFunction.__name__, (OfFunction,), members)


def largest_rows(values, n_largest):
    """Find the rows that have the largest values of each column.

    Parameters
    ----------
    values : ndarray of shape (n_proxies, n_queries)
        Values.
    n_largest : int
        How many.

    Returns
    -------
    indices : ndarray of shape (min(n_largest, n_proxies), n_queries)
        Of the rows, ascending; of equal values the first ones are taken.
    """
    n_proxies = len(values)
    if n_largest >= n_proxies:
        return np.broadcast_to(np.arange(n_proxies)[:, None], values.shape)
    kth = n_proxies - n_largest
    indices = np.argpartition(values, kth, axis=0)[kth:]
    # Partitioning takes any of those that are equally far at the border.
    border = np.take_along_axis(values, indices[:1], axis=0)
    tied = np.count_nonzero(values >= border, axis=0) > n_largest
    if tied.any():
        order = np.argsort(-values[:, tied], axis=0, kind="stable")
        indices[:, tied] = order[:n_largest]
    indices.sort(axis=0)
    return indices


def largest_first(values, indices):
    """Sort the values of each query, the largest first, and what they belong to.

    Parameters
    ----------
    values, indices : ndarray of shape (n, n_queries)
        Values, and the index of each.

    Returns
    -------
    values, indices : ndarray of shape (n_queries, n)
        Of equal values the first one comes first.
    """
    order = np.argsort(-values, axis=0, kind="stable")
    return tuple(np.take_along_axis(each, order, 0).T for each in (values, indices))
