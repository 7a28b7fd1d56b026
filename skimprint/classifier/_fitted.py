"""What a fitted classifier is made of: a plan, a state, and a head made on demand.

It is ``_fitted`` of an `ImprintClassifier`, which reads its ``scorer`` to predict.
"""

from copy import deepcopy
from threading import RLock
from typing import NamedTuple

from .._arrays.threads import ForkSafeLock, cached_property
from .._memory.learner import batches_joined, copied_parts, learn, with_all_proxies
from .._scoring.scorer import Scorer
from .._space.space import Space
from ._head import Head

# Bytes of embeddings that may wait to be learnt; or half as many as what is known, if
# that is more: so what is known is written again less and less often.
_MAX_QUEUE_BYTES = 2**24

# Bytes of blocks that may be rewritten all at once.
_MAX_REWRITTEN_BYTES = 2**26


class once_property(cached_property):
    """Compute once: threads that come meanwhile wait.

    Else what one thread finds later is missing in what another one has.
    """

    def __get__(self, instance, owner=None):
        if instance is None:
            return self
        with instance.lock:
            return super().__get__(instance, owner)


class KeptShrinkage(NamedTuple):
    """A choice that stays while more is learnt, until the samples have doubled.

    So a class is added in a fraction of the time that choosing takes.

    Attributes
    ----------
    shrinkage : float
        Of the whitening.
    weight : float
        That of the samples by which it was chosen.
    """

    shrinkage: float
    weight: float


class Fitted:
    """A plan and what is known, replaced in one step and never changed.

    Learning a few rows of many classes costs as much as learning many. So small batches
    wait in a queue until somebody asks for the state, for generators whose result is
    the same to the bit. A batch by which much is rewritten waits, too, in parts. An
    error must not lose what was known, so that all of it has to be kept until a batch
    has been learnt; of what waits, an error loses nothing, and each part that is learnt
    frees the blocks that it replaces. The state and the scorer are kept once they have
    been made, in one assignment each, so that any thread sees them whole. `last_state`
    lacks what waits; `learnt_state` has it, but may lack proxies; `state` has all.

    Parameters
    ----------
    plan : Plan
        How samples are learnt and queries are scored.
    state : State
        What is known.
    queue : tuple of Batch, default=()
        More samples, of which the state knows nothing yet.
    previous : Space, default=None
        Of mostly the same classes, to save work.
    kept : KeptShrinkage, default=None
        What was chosen by fewer samples, if it stays.

    Attributes
    ----------
    lock : ForkSafeLock
        Held while a space or a scorer is made.
    """

    def __init__(self, plan, state, queue=(), previous=None, kept=None):
        self.plan = plan
        self.lock = ForkSafeLock(RLock)
        self._state_and_queue = state, queue
        self._previous = None
        # It holds all that was known, so only where it does save work.
        if previous is not None and plan.needs.moments == 2 and state.pooled is None:
            self._previous = previous
        self.kept = kept

    @property
    def knows_classes(self):
        """Whether there are any classes to predict."""
        state, queue = self._state_and_queue
        return bool(state.places or queue)

    @property
    def last_state(self):
        """What is known without what waits."""
        return self._state_and_queue[0]

    @property
    def learnt_state(self):
        """What is known of all samples; it may lack proxies."""
        state, queue = self._state_and_queue
        while queue:
            n = len(queue) if self.plan.generator.learns_in_order else 1
            batch = batches_joined(queue[:n]) if n > 1 else queue[0]
            state = learn(self.plan, state, batch, n_jobs=self._n_jobs)
            queue = queue[n:]
            self._state_and_queue = state, queue
        return state

    @property
    def state(self):
        """What is known of all samples, with all proxies."""
        before = self.learnt_state
        state = with_all_proxies(self.plan, before, n_jobs=self._n_jobs)
        if state is not before:
            self._state_and_queue = state, ()
        return state

    @property
    def _n_jobs(self):
        return self.plan.parameters.get("n_jobs")

    @once_property
    def space(self):
        """What the samples of all classes say together, proxies aside."""
        shrinkage = self.kept and self.kept.shrinkage
        space = Space(self.learnt_state, self._previous, shrinkage)
        self._previous = None
        return space

    @once_property
    def scorer(self):
        """What scores queries by all that is known."""
        self.space.state = self.state  # the same, with all proxies
        return Scorer(Head(self.plan, self.space))

    @property
    def weight(self):
        """Weight of the samples by which a shrinkage is chosen, or was."""
        return self.kept.weight if self.kept else self.learnt_state.weight

    def replaced(self, state, plan=None, kept=None):
        """Derive what is fitted from another state of mostly the same classes."""
        last_space = vars(self).get("space", self._previous)
        return Fitted(plan or self.plan, state, previous=last_space, kept=kept)

    def extended(self, state):
        """Derive what is fitted from a state that knows more: some choices stay."""
        return self.replaced(state, kept=self._kept_until(state.weight))

    def _kept_until(self, weight):
        """Find the shrinkage that stays when all samples have that weight, or None."""
        if self.plan.whitening != "auto" or not self.knows_classes:
            return None
        if weight >= 2 * self.weight or self.space.moments is None:
            return None
        if not self.space.moments.varies:  # there was nothing to choose it by
            return None
        return self.kept or KeptShrinkage(self.space.shrinkage, self.weight)

    def enqueued(self, batch):
        """Let a batch wait to be learnt; None if it has to be learnt now.

        That is where the result might differ, where a function of the user's may raise
        an error, on other devices, and where too much waits, or too little to be worth
        it.
        """
        generator = self.plan.generator
        # A function of the user's, or samples on a device.
        if self.plan.support_norm.is_callable or not hasattr(batch.X, "nbytes"):
            return None
        if generator.waits:
            return self._enqueued_in_parts(batch)
        # Sums of moments round by how samples come.
        if not generator.learns_in_order or self.plan.needs.moments:
            return None
        state, queue = self._state_and_queue
        if queue and queue[0].kind != batch.kind:
            state, queue = self.learnt_state, ()
        if _has_other_labels(state, batch):
            return None
        n_bytes = batch.X.nbytes + sum(each.X.nbytes for each in queue)
        if n_bytes <= max(_MAX_QUEUE_BYTES, state.__sizeof__() // 2):
            return Fitted(self.plan, state, (*queue, deepcopy(batch)))
        if not queue:
            return None
        return Fitted(self.plan, Fitted(self.plan, state, (*queue, batch)).learnt_state)

    def _enqueued_in_parts(self, batch):
        """Let copies of samples wait where they take less than what they rewrite."""
        state, labels = self.learnt_state, batch.classes.tolist()
        if (
            batch.weights is not None  # whose sum may round by how they come
            # All scatters are pooled at once.
            or (self.plan.needs.moments == 2 and state.pooled is None)
            or _has_other_labels(state, batch)
            or not state.places.keys() >= set(labels)
        ):
            return None
        most = max(_MAX_REWRITTEN_BYTES, batch.X.nbytes)
        if state.block_bytes(labels) <= most:
            return None
        kept = self._kept_until(state.weight + len(batch.X))
        parts = copied_parts(self.plan, state, batch, n_jobs=self._n_jobs)
        return Fitted(self.plan, state, parts, kept=kept)


class PredictOnly:
    """Stand in for `Fitted` where nothing more can be learnt.

    Parameters
    ----------
    plan : Plan
        How queries are scored.

    Attributes
    ----------
    scorer : Scorer
        Scores them. It is set from outside.
    """

    knows_classes = True

    def __init__(self, plan):
        self.plan = plan

    @property
    def state(self):
        """What is known: an error here."""
        raise ValueError(
            "A compact classifier has only what predictions need: it cannot learn more "
            "with partial_fit, forget or merge, nor say which samples a proxy stands "
            "for. Do so with the classifier that it was made of, or call fit, which "
            "starts again."
        )

    last_state = learnt_state = state


def _has_other_labels(state, batch):
    """Tell whether labels are not of the type that holds all that are known."""
    dtype = batch.classes.dtype
    return dtype.kind != "U" and dtype != state.label_dtype
