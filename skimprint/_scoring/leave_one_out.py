"""Score support samples as queries of which nothing is known.

Each is scored by the proxies as they would be without it: its generator says how. A
whitening is made again without it and a tenth of the others; a covariance loses it in
closed form. Everything else stays.
"""

from typing import NamedTuple

import numpy as np

from .._arrays.groups import numbers_within
from .._arrays.threads import run_blocks
from .._space.kernel_ridge import MAX_ROWS
from .._space.leave_one_out import SAMPLE_SIZE, LeftOut, can_be_left_out
from .._space.space import N_FOLDS, shift_without
from ..normalization import IDENTITY, NORMS, l2_normalize
from .familiarity import MEANS

# Samples whose scores say enough of a temperature and a threshold. Each tenth of all is
# scored in a space of its own, which has to be made.
_ENOUGH = 1000

# Bound for the scores of support samples; a kernel regression knows no more of them.
_MAX_SCORES = 2**22


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
    """

    scores: np.ndarray
    familiarities: np.ndarray
    codes: np.ndarray
    weights: np.ndarray


class _Change(NamedTuple):
    """What becomes of proxies without each of some samples.

    Attributes
    ----------
    own : ndarray of shape (n,)
        The proxy that changes; -1 for none.
    gone : ndarray of bool, of shape (n,)
        Whether it is gone.
    left : ndarray of shape (n, n_features)
        What it becomes, before the normalisation of proxies.
    """

    own: np.ndarray
    gone: np.ndarray
    left: np.ndarray

    def take(self, part):
        return _Change(*(values[part] for values in self))


def leave_one_out(scorer, score):
    """Score support samples, each by what the head would be without it.

    Parameters
    ----------
    scorer : Scorer
        Of a head whose plan has kept samples.
    score : str
        Which familiarity to tell.

    Returns
    -------
    found : LeftOutScores or None
        Of at most 6,000 samples, equally many of each class where there are more; with
        a whitening, of as many tenths of them as hold 1,000.
        Samples of which their class has nothing left are not among them; `None` if
        there are no others.
    """
    samples, n_folds = _chosen(scorer)
    samples, change = _changes(scorer, samples)
    if not len(samples.rows):
        return None
    scores, familiar = _by_proxies(scorer, samples, change, score, n_folds)
    head = scorer.head
    if head.kernel is not None:
        # Reasons need the same factor; where they were asked for, it is there.
        shares = vars(scorer).get("label_shares")
        of_kernel = head.kernel.scores_without(
            head.space.support(), samples, shares and shares.factor
        )
        scores = scorer.with_kernel(scores, of_kernel.T)
    if score == "auto":
        familiar = scores.max(axis=1) + MEANS * _to_nearest_mean(head, samples)
    return LeftOutScores(scores, familiar, samples.codes, samples.shares)


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
        The class of each.

    Returns
    -------
    scores : ndarray of shape (n, n_classes)
        NaN for a sample of which its class has nothing left.
    """
    order = np.argsort(codes, kind="stable")
    weights = np.ones(len(codes))
    samples = LeftOut(
        rows[order], codes[order], weights, weights, numbers_within(codes[order])
    )
    found = np.full((len(codes), len(scorer.head.classes)), np.nan)
    change, usable = _changes_of(scorer, samples)
    if usable.any():
        samples, change = samples.take(usable), change.take(usable)
        found[order[usable]] = _by_proxies(scorer, samples, change, "similarity")[0]
    return found


def scores_of_kept(scorer):
    """Score support samples as they are, where none can be left out.

    Parameters
    ----------
    scorer : Scorer
        Of a head whose plan has kept samples.

    Returns
    -------
    scores : ndarray of shape (n, n_classes)
        Those of other classes are as those of queries; not of the kernel regression,
        which has been fitted to these samples.
    codes : ndarray of shape (n,)
        The class of each.
    """
    head, (samples, _) = scorer.head, _chosen(scorer)
    if not len(samples.codes):  # all classes come from a head
        return np.empty((0, len(head.classes))), samples.codes
    step = -(-len(samples.codes) // _budget(head))
    samples = samples.take(slice(None, None, step))
    similarity = _similarity_of_normalized(head)
    queries = similarity.prepare(samples.rows)
    similarities = similarity.finish(similarity.ranks(queries), queries)
    scores = scorer.plan.aggregation.scores(similarities, head.offsets, similarity).T
    return scores, samples.codes


def _by_proxies(scorer, samples, change, score, n_folds=N_FOLDS):
    """Find scores and familiarities of samples by proxies as they would be without."""
    head, plan = scorer.head, scorer.plan
    scores = np.empty((len(samples.rows), len(head.classes)), dtype=head.proxies.dtype)
    familiar = np.empty(len(samples.rows), dtype=head.proxies.dtype)

    def score_fold(fold):
        without_fold = _without(head, samples.take(fold))
        similarity = _similarity_of_normalized(without_fold)
        means = vectors = None
        if plan.mean_weight:
            means = without_fold.space.means
            vectors = without_fold.unblended
            if vectors is None:
                own = np.arange(without_fold.n_proxies)
                vectors = without_fold.normalized(
                    head.space.proxies.values.vectors, own
                )
        for block in similarity.blocks(len(fold)):
            part = fold[block]
            some, changed = samples.take(part), change.take(part)
            similarities = _similarities_without(
                without_fold, similarity, some, changed, vectors, means
            )
            gone = np.zeros(similarities.shape, bool)
            (lost,) = np.nonzero(changed.gone)
            gone[:, lost] = head.twins[:, None] == head.twins[changed.own[lost]]
            scores[part] = plan.aggregation.without(
                similarities, gone, head.offsets, similarity
            ).T
            if score != "auto":
                familiar[part] = scorer.familiarity(
                    np.where(gone, -np.inf, similarities), score
                )

    folds = [np.arange(len(samples.codes))]
    if head.whitening is not None:
        folds = head.space.folds(samples, n_folds)
    # Each factors a matrix of all features, in which BLAS's threads often wait for each
    # other: where another process keeps a core busy, ten times as long as one works.
    parts = plan.metric, plan.aggregation, plan.proxy_norm
    if any(part.is_callable for part in parts):  # perhaps unsafe in threads
        for fold in folds:
            score_fold(fold)
    else:
        run_blocks(score_fold, folds)
    return scores, familiar


def _to_nearest_mean(head, samples):
    """Compute cosines of samples to the nearest class mean, each made without it."""
    means, codes = head.space.means[samples.codes], samples.codes
    shift = shift_without(head.space.class_weights[codes], samples.weights)
    own = l2_normalize(means + shift[:, None] * (means - samples.rows))
    cosines = samples.rows @ head.mean_directions.T
    cosines[np.arange(len(codes)), codes] = np.einsum("ij,ij->i", samples.rows, own)
    return cosines.max(axis=1)


def _chosen(scorer):
    """Choose samples to score, and in how many folds."""
    head, n_folds = scorer.head, N_FOLDS
    most = min(max(1, _budget(head) // len(head.classes)), SAMPLE_SIZE)
    kept = head.space.state.column(lambda block: block.samples)
    samples = LeftOut.of(kept, head.space.class_weights, most)
    if head.whitening is not None:
        fold = numbers_within(samples.codes) % N_FOLDS
        can_go = can_be_left_out(
            head.space.class_weights, samples.codes, samples.weights
        )
        ends = np.bincount(fold[can_go], minlength=N_FOLDS).cumsum()
        n_folds = min(int(np.searchsorted(ends, _ENOUGH)) + 1, N_FOLDS)
        samples = samples.take(fold < n_folds)
    return samples, n_folds


def _budget(head):
    """Find how many samples may be scored."""
    return min(MAX_ROWS, max(1, _MAX_SCORES // len(head.classes)))


def _changes(scorer, samples):
    """Find what becomes of the proxies of their class, for samples that can be scored.

    The samples get the weight of those that each stands for.
    """
    head = scorer.head
    n_classes = len(head.classes)
    change, usable = _changes_of(scorer, samples)
    if change is None:
        return samples, None
    samples, change = samples.take(usable), change.take(usable)
    totals = np.bincount(samples.codes, samples.weights, minlength=n_classes)
    codes = samples.codes  # not of classes of a head, which have no samples
    shares = samples.weights * (head.space.class_weights[codes] / totals[codes])
    samples = samples._replace(shares=shares)
    found = np.unique(samples.codes)
    step = -(-len(found) // _budget(head))  # of very many classes, only some
    if step > 1:
        chosen = np.isin(samples.codes, found[::step])
        samples, change = samples.take(chosen), change.take(chosen)
    return samples, change


def _changes_of(scorer, samples):
    """Find what becomes of proxies without each of some samples.

    Returns
    -------
    change : _Change or None
        None of no samples.
    usable : ndarray of bool, of shape (n,)
        Whether the class of a sample has anything left.
    """
    head = scorer.head
    bounds = np.searchsorted(samples.codes, np.arange(len(head.classes) + 1))
    changes, usable = [], []
    for code, proxies in enumerate(head.space.proxies):
        part = slice(bounds[code], bounds[code + 1])
        if part.start == part.stop:
            continue  # a class of a head
        rows, weights = samples.rows[part], samples.weights[part]
        own, gone, left = scorer.plan.generator.without(proxies, rows, weights)
        own = np.where(own < 0, -1, own + head.offsets[code])
        changes.append(_Change(own, gone, left))
        twins = head.twins[head.offsets[code] : head.offsets[code + 1]]
        is_one = np.all(twins == twins[0])
        usable.append(~gone if is_one else np.ones(len(rows), bool))
    if not changes:
        return None, np.zeros(0, bool)
    return _Change(*map(np.concatenate, zip(*changes, strict=True))), np.concatenate(
        usable
    )


def _without(head, samples):
    """Make the head in a space that does not know some samples."""
    if head.whitening is None:
        return head
    scatter, means = head.space.without(samples)
    return head if scatter is None else head.rewhitened(scatter, means)


def _similarity_of_normalized(head):
    """Compare rows that are normalised already with the proxies."""
    plan = head.plan
    # Once more, unit length does no harm, and roots would.
    norm = NORMS["l2"] if plan.query_norm.unit_length else IDENTITY
    # Each of these rows meets many vectors of its own: better whitened itself.
    return plan.metric(
        head.proxies, query_norm=norm, whitening=head.whitening, factor=head.factor
    )


def _similarities_without(head, similarity, samples, change, vectors, means):
    """Compare samples with all proxies as they are without the sample."""
    space = head.space
    queries = similarity.prepare(samples.rows)
    similarities = similarity.finish(similarity.ranks(queries), queries)
    if head.plan.metric.needs_covariance:
        similarity = similarity.without(
            rows=samples.rows,
            means=space.means[samples.codes],
            class_weight=space.class_weights[samples.codes],
            weight=samples.weights,
            total=space.moments.weights.sum(),
            shrinkage=head.covariance_shrinkage,
        )
    similarities = similarity.to_all(similarities, queries)
    if head.plan.mean_weight:
        _compare_blends(
            head, queries, similarity, samples, change, vectors, means, similarities
        )
        return similarities
    left = head.normalized(change.left, change.own)
    changed = np.flatnonzero(change.own >= 0)
    own = change.own[changed]
    similarities[own, changed] = similarity.paired(
        queries[changed], left[changed], changed
    )
    return similarities


def _compare_blends(
    head, queries, similarity, samples, change, vectors, means, similarities
):
    """Compare samples with what the proxies of their class blend into without them.

    The mean m of a class loses a sample x: it moves by the shift times ``m - x``. The
    similarities to the proxies of each sample's class are replaced, in place.
    """
    class_weights = head.space.class_weights[samples.codes]
    shift = shift_without(class_weights, samples.weights)[:, None]
    left = head.normalized(change.left, change.own)
    moved = means[samples.codes]
    moved += shift * (moved - samples.rows)
    moved = head.normalized(moved, change.own)
    for code in np.unique(samples.codes):
        columns = np.flatnonzero(samples.codes == code)
        own, gone = change.own[columns], change.gone[columns]
        start, stop = head.offsets[code : code + 2]
        n_proxies = stop - start
        of_class = np.repeat(vectors[None, start:stop], len(columns), axis=0)
        changed = np.flatnonzero((own >= 0) & ~gone)
        of_class[changed, own[changed] - start] = left[columns[changed]]
        blends = head.blended(of_class, moved[columns][:, None])
        which = np.repeat(columns, n_proxies)
        similar = similarity.paired(
            queries[which], blends.reshape(-1, blends.shape[-1]), which
        )
        similarities[start:stop, columns] = similar.reshape(-1, n_proxies).T
