"""What a fitted classifier is made of: a plan, a state, and a head made on demand."""

from functools import cached_property

from .._memory.learner import batches_joined, learn
from .._scoring.scorer import Scorer
from .._space.space import Space
from ._head import Head

# Bytes of embeddings that may wait to be learnt.
_MAX_QUEUE_BYTES = 2**24


class Fitted:
    """A plan and what is known, replaced in one step and never changed.

    Learning a few rows of many classes costs as much as learning many. So small batches
    wait in a queue until somebody asks for the state, for generators whose result is
    the same to the bit. The state and the scorer are kept once they have been made, in
    one assignment each, so that any thread sees them whole.

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
    """

    def __init__(self, plan, state, queue=(), previous=None):
        self.plan = plan
        self._learnt = state, queue
        self._previous = previous

    @property
    def knows_classes(self):
        """Whether there are any classes to predict."""
        state, queue = self._learnt
        return bool(state.places or queue)

    @property
    def last_state(self):
        """What was known before what waits, if any, is learnt."""
        return self._learnt[0]

    @property
    def state(self):
        """What is known, with nothing waiting."""
        state, queue = self._learnt
        if queue:
            state = learn(self.plan, state, batches_joined(queue))
            self._learnt = state, ()
        return state

    @cached_property
    def scorer(self):
        """What scores queries by all that is known."""
        space = Space(self.state, self._previous)
        scorer = Scorer(Head(self.plan, space))
        self._previous = None
        return scorer

    def replaced(self, state, plan=None):
        """Derive what is fitted from another state of mostly the same classes."""
        return Fitted(plan or self.plan, state, (), self._space)

    def enqueued(self, batch):
        """Let a batch wait to be learnt; None if it has to be learnt now.

        That is where the result might differ, where a function of the user's may raise
        an error, on other devices, and where too much waits.
        """
        if (
            not self.plan.generator.learns_in_order
            or self.plan.needs.moments  # whose sums round by how samples come
            or self.plan.support_norm.is_callable
            or not hasattr(batch.X, "nbytes")
        ):
            return None
        state, queue = self._learnt
        if queue and not queue[0].joins(batch):
            state, queue = self.state, ()
        if batch.classes.dtype.kind != "U" and batch.classes.dtype != state.label_dtype:
            return None  # those that wait are of a type that holds all labels
        n_bytes = batch.X.nbytes + sum(each.X.nbytes for each in queue)
        if n_bytes > _MAX_QUEUE_BYTES:
            return None
        return Fitted(self.plan, state, (*queue, batch.copies()), self._space)

    @property
    def _space(self):
        """The space that was made last."""
        scorer = vars(self).get("scorer")
        return self._previous if scorer is None else scorer.head.space
