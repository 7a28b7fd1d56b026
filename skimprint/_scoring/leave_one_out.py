"""Score support samples as queries of which nothing is known.

Each is scored by the proxies as they would be without it: its generator says how. Class
means, the whitening and a covariance lose it in closed form. Everything else stays.

`calibrate` asks when a temperature or a threshold is first needed (`leave_one_out`, or
`scores_of_kept` where nothing can be left out), and a report on labels that look wrong
does (`scores_without`).
"""

from typing import NamedTuple

import numpy as np

from .._arrays.groups import blocks_of_rows, numbers_within, places_from
from .._arrays.threads import cached_property
from .._memory.columns import take
from .._space.downdate import TINY, Downdate, Vectors, shift_without
from .._space.kernel_ridge import MAX_ROWS
from .._space.regularization import SAMPLE_SIZE, LeftOut
from .._space.whitening import MIN_SHRINKAGE
from ..normalization import IDENTITY, l2_normalize
from .familiarity import MEANS

# Bound for the scores of support samples; a kernel regression knows no more of them.
_MAX_SCORES = 2**22

# Bounds for the values of all proxies that samples are compared with, each in a space
# of its own: by products, and by moving each proxy there. With 100 classes of 16
# samples, that takes as long as the fit. As many samples as are enough for a
# temperature and a threshold are compared by products in any case.
_MAX_MULTIPLIED, _MAX_MOVED = 2**28, 2**26
_ENOUGH = 500

# Values of proxies that are moved at a time, or similarities that follow from products:
# with many operations on each, they had better stay in the cache.
_AT_A_TIME = 2**17

# Share of the samples of a class that a mean is still of; less is rounding.
_LEFT = 1e-9

# A sample that is nearly alone in its direction leaves little there: about N h / d of
# the covariance, for the weight N, the shrinkage h and d features. Less than this share
# is not told from rounding in float32.
_LITTLE = 1e-2


class LeftOutScores(NamedTuple):
    """What is said of support samples by what would be known without each of them.

    Attributes
    ----------
    scores : ndarray of shape (n, n_classes)
        Class scores.
    familiarities : ndarray of shape (n,)
        How familiar they are.
    codes : ndarray of shape (n,)
        The class of each.
    weights : ndarray of shape (n,)
        The weight of the samples that each stands for.
    is_alone : ndarray of bool, of shape (n_classes,)
        Whether none of the samples of a class can be left out; of very many classes
        that have several, not all have been asked.
    one_shot : ndarray of shape (n,)
        How familiar they would be if another one of them were all that is known of
        their class. NaN where there is no other, or where nothing asks for it.
    indices : ndarray of shape (n,)
        The training row that each is.
    """

    scores: np.ndarray
    familiarities: np.ndarray
    codes: np.ndarray
    weights: np.ndarray
    is_alone: np.ndarray
    one_shot: np.ndarray
    indices: np.ndarray


class _Change(NamedTuple):
    """What becomes of proxies without each of some samples.

    Attributes
    ----------
    own : ndarray of shape (n,)
        The proxy that changes; -1 for none.
    gone : ndarray of bool, of shape (n,)
        Whether it is gone.
    becomes : ndarray of shape (n, n_features)
        What it becomes, before the normalisation of proxies.
    """

    own: np.ndarray
    gone: np.ndarray
    becomes: np.ndarray


def leave_one_out(scorer, kind):
    """Score support samples, each by what the head would be without it.

    Parameters
    ----------
    scorer : Scorer
        Of a head whose plan has kept samples.
    kind : str
        Which familiarity to tell: as for `Scorer.familiarities`.

    Returns
    -------
    found : LeftOutScores or None
        Of at most 6,000 samples, equally many of each class where there are more.
        Samples of which their class has nothing left are not among them; `None` if
        there are no others.
    """
    samples = _chosen(scorer)
    if not len(samples.rows):
        return None
    samples, change, is_alone = _changes(scorer, samples)
    if not len(samples.rows):
        return None
    head, others = scorer.head, _others(scorer, samples, is_alone)
    scores, familiar, one_shot = _by_proxies(scorer, samples, change, kind, others)
    if head.kernel is not None:
        # Reasons need the same factor; where they were asked for, it is there.
        shares = vars(scorer).get("label_shares")
        of_kernel = head.kernel.scores_without(
            head.space.support(), samples, shares and shares.factor
        )
        scores = scorer.with_kernel(scores, of_kernel.T)
    if kind == "auto":
        to_means = samples.rows @ head.mean_directions.T
        own_means = _means_without(head, samples)
        to_nearest = _to_nearest_mean(samples, to_means, own_means)
        familiar = scores.max(axis=1) + MEANS * to_nearest
        if others is not None:
            # One sample says little in a kernel regression. With 0 for it, fewer of the
            # known are rejected than with half of what all others of its class say.
            own = (1 - scorer.plan.kernel_weight) * one_shot
            to_nearest = _to_nearest_mean(samples, to_means, samples.rows[others])
            one_shot = _largest_with(own, scores, samples.codes) + MEANS * to_nearest
    if others is not None:
        one_shot[others == np.arange(len(others))] = np.nan
    return LeftOutScores(
        scores,
        familiar,
        samples.codes,
        samples.counts,
        is_alone,
        one_shot,
        samples.indices,
    )


def _others(scorer, samples, is_alone):
    """Find another sample of its class for each: the next, and the first for the last.

    They are in a random order. One that has no other gets itself; where all are so, or
    no class of one sample asks for them, it is None.
    """
    codes, n = samples.codes, len(samples.codes)
    starts, sizes = np.unique(codes, return_index=True, return_counts=True)[1:]
    # A covariance would lose the sample, and not the other one: to it, Mahalanobis
    # distances are short, so that more of the known would be rejected, not less.
    if scorer.plan.metric.needs_covariance or not is_alone.any() or len(starts) == n:
        return None
    others = np.arange(1, n + 1)
    others[starts + sizes - 1] = starts
    return others


def scores_without(scorer, rows, codes):
    """Score samples that were learnt by the proxies as they would be without them.

    Parameters
    ----------
    scorer : Scorer
        Of a head whose plan samples can be left out of; it need not have kept any. Its
        kernel regression has no part in this.
    rows : ndarray of shape (n, n_features)
        The samples, normalised as the generator sees them.
    codes : ndarray of shape (n,)
        The class of each. All samples of a class count as having the same weight.

    Returns
    -------
    scores : ndarray of shape (n, n_classes)
        NaN for a sample of which its class has nothing left.
    """
    order = np.argsort(codes, kind="stable")
    space = scorer.head.space
    counts = space.state.column(lambda block: block.n_samples)
    weights = (space.class_weights / np.maximum(counts, 1))[codes[order]]
    samples = LeftOut(
        rows[order], codes[order], weights, weights, numbers_within(codes[order])
    )
    found = np.full((len(codes), len(scorer.head.classes)), np.nan)
    usable, change = _changes_of(scorer, samples)
    if len(usable):
        samples = take(samples, usable)
        found[order[usable]] = _by_proxies(scorer, samples, change, "similarity")[0]
    return found


def scores_of_kept(scorer, classes=None):
    """Score support samples as they are, where none can be left out.

    Parameters
    ----------
    scorer : Scorer
        Of a head whose plan has kept samples.
    classes : ndarray of bool, of shape (n_classes,), default=None
        Those whose samples to score; by default all.

    Returns
    -------
    scores : ndarray of shape (n, n_classes)
        Those of other classes are as those of queries; not of the kernel regression,
        which has been fitted to these samples.
    codes : ndarray of shape (n,)
        The class of each.
    """
    head, samples = scorer.head, _chosen(scorer)
    if classes is not None:
        samples = take(samples, classes[samples.codes])
    if not len(samples.codes):  # all classes come from a head
        return np.empty((0, len(head.classes))), samples.codes
    similarity = scorer.plan.metric(head.proxies, factor=head.factor)
    queries = _as_queries(scorer, samples.rows)
    queries = similarity.prepare(_of_unit_length(scorer, queries))
    similarities = similarity.finish(similarity.raw(queries), queries)
    scores = scorer.plan.aggregation.scores(similarities, head.offsets, similarity).T
    return scores, samples.codes


def _by_proxies(scorer, samples, change, kind, others=None):
    """Find scores and familiarities of samples by proxies as they would be without.

    Parameters
    ----------
    scorer : Scorer
        Its kernel regression has no part in this.
    samples : LeftOut
        That can be left out, as they were learnt.
    change : _Change
        What becomes of the proxies of their classes.
    kind : str
        Which familiarity to tell; ``"auto"`` needs more than proxies, and is not told.
    others : ndarray of shape (n,), default=None
        Of `_others`.

    Returns
    -------
    scores : ndarray of shape (n, n_classes)
    familiarities : ndarray of shape (n,)
    one_shot : ndarray of shape (n,)
        How familiar they are with the other sample in the place of all proxies of their
        class; for ``"auto"``, their similarities to that.
    """
    head, plan = scorer.head, scorer.plan
    scores = np.empty((len(samples.rows), len(head.classes)), dtype=head.dtype)
    familiar = np.empty(len(samples.rows), dtype=head.dtype)
    one_shot = np.full_like(familiar, np.nan)

    # All goes to the whitened space as it is with the samples. `_HeadWithout` moves it
    # on to the space without each of them.
    vectors = _whitened(head, head.space.proxies.values.vectors)
    means = np.zeros((len(head.classes), vectors.shape[1]), vectors.dtype)
    if plan.needs.moments:  # else nothing depends on them
        means = _whitened(head, head.space.means)
    change = change._replace(becomes=_whitened(head, change.becomes))
    queries = _as_queries(scorer, samples.rows)
    rows = queries if plan.support_norm != IDENTITY else _whitened(head, samples.rows)
    samples = samples._replace(rows=rows)
    similarity = plan.metric(head.proxies, factor=head.factor)

    def head_without(which):
        some = take((samples, change, queries), which)
        return _HeadWithout(scorer, similarity, vectors, means, *some)

    if others is not None:
        as_proxies = head_without(others).as_proxies()

    def score_block(block):
        without = head_without(block)
        similarities = without.similarities()
        gone = without.gone()
        scores[block] = plan.aggregation.without(
            similarities, gone, head.offsets, similarity
        ).T
        if kind != "auto":
            similarities[gone] = -np.inf
            familiar[block] = scorer.familiarity(similarities, kind)
        if others is None:
            return
        one_shot[block] = without.paired(as_proxies[block])
        if kind != "auto":
            codes = without.codes
            similarities[head.codes[:, None] == codes] = -np.inf
            similarities[head.offsets[codes], np.arange(len(codes))] = one_shot[block]
            one_shot[block] = scorer.familiarity(similarities, kind)

    is_safe = not (plan.aggregation.is_callable or plan.proxy_norm.is_callable)
    similarity.for_each_block(score_block, queries, in_threads=is_safe)
    return scores, familiar, one_shot


def _means_without(head, samples):
    """Make the mean of its class without each sample: of the shape of the samples."""
    means = head.space.means[samples.codes]
    shift = shift_without(head.space.weights_of_means[samples.codes], samples.weights)
    return means + shift[:, None] * (means - samples.rows)


def _to_nearest_mean(samples, to_means, own):
    """Find the cosine of each sample to the nearest class mean: (n,).

    Parameters
    ----------
    samples : LeftOut
        Of unit length.
    to_means : ndarray of shape (n, n_classes)
        Cosines to the means as they are.
    own : ndarray of shape (n, n_features)
        What stands for the mean of its class for each, of any length.
    """
    to_own = np.einsum("ij,ij->i", samples.rows, l2_normalize(own))
    return _largest_with(to_own, to_means, samples.codes)


def _largest_with(own, values, codes):
    """Take the largest value of each sample, with another one for its own class."""
    values = values.copy()
    values[np.arange(len(codes)), codes] = own
    return values.max(axis=1)


def _chosen(scorer):
    """Choose samples to score: of each class, or of very many classes of some.

    Those with one sample, which cannot be left out, take no place of the others.
    """
    head, budget = scorer.head, _budget(scorer)
    have_one = _have_one(head)
    # For classes of one sample speak pairs of others: of fewer classes, if need be.
    least = 2 if have_one.any() else 1
    most = min(max(least, budget // len(head.classes)), SAMPLE_SIZE)
    kept = head.space.state.column(lambda block: block.samples.first(most))
    samples = LeftOut.of(kept, head.space.class_weights)
    have_one = have_one[samples.codes]
    chosen = []
    for which, n_each in ((have_one, 1), (~have_one, most)):
        found = np.unique(samples.codes[which])
        chosen += [*found[:: max(1, -(-len(found) * n_each // budget))]]
    return take(samples, np.isin(samples.codes, chosen))


def _have_one(head):
    """Tell of which classes one sample was learnt: bools of shape (n_classes,)."""
    n_samples = head.space.state.column(lambda block: block.n_samples)
    return (n_samples == 1) & ~head.space.is_head


def _budget(scorer):
    """Find how many samples may be scored."""
    head = scorer.head
    most = min(MAX_ROWS, _MAX_SCORES // len(head.classes))
    if head.whitening is None or _has_products(scorer):
        most = min(most, max(_ENOUGH, _MAX_MULTIPLIED // head.proxies.size))
    else:
        most = min(most, _MAX_MOVED // head.proxies.size)
    return max(1, most)


def _changes(scorer, samples):
    """Find what becomes of the proxies of their class, for samples that can be scored.

    The samples get the weight of those that each stands for. The classes are told that
    have one sample, or of which none of the samples can be scored.
    """
    head = scorer.head
    usable, change = _changes_of(scorer, samples)
    is_alone = _have_one(head)
    is_alone[samples.codes] = True
    is_alone[samples.codes[usable]] = False
    samples = take(samples, usable)
    return samples.standing_for(head.space.class_weights), change, is_alone


def _changes_of(scorer, samples):
    """Find what becomes of proxies without each of some samples, one at least.

    Returns
    -------
    usable : ndarray of shape (n_usable,)
        The samples of which their class has something left.
    change : _Change or None
        For each of these; None if there are none.
    """
    head = scorer.head
    usable = np.arange(len(samples.rows))
    if scorer.plan.mean_weight or head.whitening is not None:
        # All that was learnt of a class of a head leaves its row, but no mean.
        share_left = 1 - samples.weights / head.space.weights_of_means[samples.codes]
        (usable,) = np.nonzero(share_left > _LEFT)
    if not len(usable):
        return usable, None
    samples = take(samples, usable)
    codes, starts = np.unique(samples.codes, return_index=True)
    proxies, changes = head.space.proxies, []
    for code, start, stop in zip(codes, starts, [*starts[1:], None], strict=True):
        rows, weights = samples.rows[start:stop], samples.weights[start:stop]
        changes.append(scorer.plan.generator.without(proxies.one(code), rows, weights))
    own, gone, becomes = map(np.concatenate, zip(*changes, strict=True))
    own = np.where(own < 0, -1, own + head.offsets[samples.codes])
    # Of a class whose proxies are all equal, none is left if one is gone.
    starts = head.offsets[:-1]
    least, most = (f.reduceat(head.twins, starts) for f in (np.minimum, np.maximum))
    (left,) = np.nonzero(~(gone & (least == most)[samples.codes]))
    return usable[left], take(_Change(own, gone, becomes), left)


def _whitened(head, vectors):
    """Whiten vectors, in a precision that tells what each leaves of the covariance."""
    if head.whitening is not None:
        weight = head.space.scatter.total_weight
        if weight * head.shrinkage < _LITTLE * vectors.shape[1]:
            return head.space.whitening(head.shrinkage, np.float64).solve(vectors)
    return head.whitened(vectors).astype(head.dtype, copy=False)


def _as_queries(scorer, rows):
    """Move samples to the space of the proxies as queries, but for their length."""
    if scorer.plan.support_norm == IDENTITY:  # else they have been normalised
        rows = scorer.plan.query_norm(rows)
    return _whitened(scorer.head, rows)


def _of_unit_length(scorer, queries):
    """Normalise whitened queries; without a whitening they are normalised already."""
    if scorer.head.whitening is None or not scorer.plan.query_norm.unit_length:
        return queries
    return l2_normalize(queries)


def _has_products(scorer):
    """Tell whether proxies need not be moved: what is compared is products."""
    plan = scorer.plan
    return (
        (scorer.head.whitening is not None or plan.mean_weight > 0)
        and plan.query_norm.unit_length
        and plan.proxy_norm.is_scaling
        and plan.metric.of_products is not None
    )


class _HeadWithout:
    """Compare samples with the proxies of a head, all as they are without the sample.

    Parameters
    ----------
    scorer : Scorer
        Its head knows the samples.
    similarity : Similarity
        Compares with what is in the space of the proxies.
    vectors, means : ndarray of shape (n_proxies or n_classes, n_features)
        Proxies as they were generated and class means, whitened.
    samples : LeftOut
        Some that leave something of their class, whitened.
    change : _Change
        What becomes of the proxies of their class, whitened.
    queries : ndarray of shape (n, n_features)
        The samples as queries, whitened.

    Attributes
    ----------
    losing : ndarray of shape (n,)
        The proxy that is made of each sample and others; -1 for none.
    residuals : ndarray of shape (n, n_features)
        The samples less their class means: the r of `Downdate`.
    lost, shift, mean_shift : ndarray of shape (n,)
        Its l if nothing is shrunk, its t, and its t - s: how often the covariance loses
        a residual, and how far vectors and their class mean seem to move along it.
    weight_left : ndarray of shape (n,)
        Share of the weight of all samples that is left.
    """

    def __init__(self, scorer, similarity, vectors, means, samples, change, queries):
        self.scorer, self.head = scorer, (head := scorer.head)
        self.similarity, self.change = similarity, change
        self.vectors, self.means = vectors, means
        self.queries, self.codes = queries, samples.codes
        self.losing = np.where(change.gone, -1, change.own)
        self.rows, self.residuals = samples.rows, samples.rows - means[self.codes]
        class_weights = head.space.weights_of_means
        own_weights = class_weights[self.codes]
        total = class_weights[~head.space.is_head].sum()
        shift = shift_without(own_weights, samples.weights)
        self.lost = own_weights * shift / total
        weight_left = 1 - samples.weights / total
        # Without all that was learnt beside a head, the covariance is the identity.
        self.weight_left = np.where(weight_left > 0, weight_left, 1)
        is_whitened = head.whitening is not None
        self.downdate = Downdate(
            np.einsum("ij,ij->i", self.residuals, self.residuals),
            self.lost * (1 - max(head.shrinkage, MIN_SHRINKAGE) if is_whitened else 0),
        )
        # The mean of a single class is not the origin.
        moves = is_whitened and len(means) > 1
        self.shift = (shift * (moves / len(means))).astype(queries.dtype)
        self.mean_shift = self.shift - shift.astype(queries.dtype)

    def similarities(self):
        """Compare the samples with all proxies: (n_proxies, n)."""
        head, plan = self.head, self.scorer.plan
        compare, needs_covariance = self.similarity, plan.metric.needs_covariance
        queries = self.moved_queries
        if needs_covariance:
            compare = compare.without(
                residuals=self.residuals,
                lost=self.lost * (1 - head.covariance_shrinkage),
                weight_left=self.weight_left,
            )
            queries = self.downdate.moved_back(queries, self.residuals)
        prepared = compare.prepare(queries)
        # First to all proxies as if they stayed, then to those that do not, in pairs.
        if _has_products(self.scorer):
            similarities = self._of_products(queries)
        else:
            similarities = compare.finish(compare.raw(prepared), prepared)
        proxies, samples = self._pairs()
        step = max(1, _AT_A_TIME // self.queries.shape[1])
        for part in blocks_of_rows(len(proxies), step):
            own, which = proxies[part], samples[part]
            vectors = self._proxies(own, which)
            if needs_covariance:
                vectors = self.downdate.moved_back(
                    vectors, self.residuals[which], which
                )
            similarities[own, which] = compare.paired(prepared[which], vectors, which)
        return similarities

    def gone(self):
        """List proxies that are gone, with those equal to them, and for which sample.

        Each is one of the class of the sample.
        """
        head, own = self.head, self.change.own
        (lost,) = np.nonzero(self.change.gone)
        codes = head.codes[own[lost]]
        sizes = np.diff(head.offsets)[codes]
        proxies, which = places_from(head.offsets[codes], sizes), np.repeat(lost, sizes)
        equal = head.twins[proxies] == head.twins[own[which]]
        return proxies[equal], which[equal]

    def as_proxies(self):
        """Make a proxy of each sample alone, in the space without it."""
        rows = self.downdate.moved(self.rows, self.residuals, self.shift)
        return self.head.normalized(rows, self.head.offsets[self.codes])

    def paired(self, proxies):
        """Compare each sample with a proxy, by a metric without a covariance: (n,)."""
        prepared = self.similarity.prepare(self.moved_queries)
        return self.similarity.paired(prepared, proxies)

    @cached_property
    def moved_queries(self):
        """The samples as queries, each in the space without it."""
        queries = self.downdate.moved(self.queries, self.residuals, self.shift)
        return _of_unit_length(self.scorer, queries)

    def _pairs(self):
        """List proxies that are others without a sample, and the sample: two arrays.

        Those that only move with the space are not among them if products tell that.
        """
        head = self.head
        is_whitened = head.whitening is not None
        if _has_products(self.scorer) or not (is_whitened or head.plan.mean_weight):
            (samples,) = np.nonzero(self.losing >= 0)
            return self.losing[samples], samples
        return np.nonzero(is_whitened | (head.codes[:, None] == self.codes))

    def _proxies(self, own, which):
        """Make proxies as they are without one sample each."""
        head, downdate = self.head, self.downdate
        residuals, shift = self.residuals[which], self.shift[which]
        vectors = self.vectors[own]
        loses = own == self.losing[which]
        vectors[loses] = self.change.becomes[which[loses]]
        vectors = head.normalized(downdate.moved(vectors, residuals, shift, which), own)
        if not head.plan.mean_weight:
            return vectors
        of_class = head.codes[own]
        loses = of_class == self.codes[which]
        shift = np.where(loses, self.mean_shift[which], shift)
        means = downdate.moved(self.means[of_class], residuals, shift, which)
        return head.blended(vectors, head.normalized(means, own))

    def _of_products(self, queries):
        """Compare the moved samples with proxies, of which none loses the sample.

        Moved, a vector is ``(I + k r r^T) (p + t r)``, in the words of `Downdate`: its
        product with a query is one of ``p + t r`` with the query moved once more.
        """
        head, plan, downdate = self.head, self.scorer.plan, self.downdate
        residuals, shift, weight = self.residuals, self.shift, plan.mean_weight
        twice = downdate.moved(queries, residuals, 0)
        at_origin = shift * np.einsum("ij,ij->i", residuals, twice)

        def cosines(vectors):
            found = vectors @ twice.T
            found += at_origin
            squares = np.einsum("ij,ij->i", vectors, vectors)[:, None]
            if head.whitening is not None:  # else nothing moves
                beside = Vectors(squares, vectors @ residuals.T, shift)
                squares = downdate.squared_lengths(beside)
            found /= np.sqrt(np.maximum(squares, TINY, out=squares), out=squares)
            return np.clip(found, -1, 1, out=found)  # rounding, where nothing is left

        if weight:
            own = downdate.moved(self.means[self.codes], residuals, self.mean_shift)
            m_x = cosines(self.means)
            m_x[self.codes, np.arange(len(shift))] = np.einsum(
                "ij,ij->i", l2_normalize(own), queries
            )
        similarities = np.empty((len(self.vectors), len(shift)), head.dtype)
        step = max(1, _AT_A_TIME // len(shift))
        for part in blocks_of_rows(len(self.vectors), step):
            vectors, codes = self.vectors[part], head.codes[part]
            products = cosines(vectors)
            if weight:
                products = head.blended(products, m_x[codes])

            def squares(vectors=vectors, codes=codes):
                means, is_own = self.means[codes], codes[:, None] == self.codes
                p, m, p_m = (
                    np.einsum("ij,ij->i", a, b)[:, None]
                    for a, b in ((vectors, vectors), (means, means), (vectors, means))
                )
                p = Vectors(p, vectors @ residuals.T, shift)
                mean_shift = np.where(is_own, self.mean_shift, shift)
                m = Vectors(m, means @ residuals.T, mean_shift)
                apart = 1 - downdate.cosines(p, m, p_m)
                return 1 - 2 * weight * (1 - weight) * apart

            similarities[part] = plan.metric.of_products(products, squares)
        return similarities
