"""A classifier as a module of torch."""

import numpy as np
import torch

from ._recipe import Recipe


class _Torch:
    """The operations of recipes, by torch."""

    abs, exp, copysign, clip = torch.abs, torch.exp, torch.copysign, torch.clamp
    # These know NumPy's names, too: axis and keepdims.
    max, argmax, sum = torch.amax, torch.argmax, torch.sum

    def __init__(self, like):
        self.like = like

    def constant(self, values, dtype=None):
        return torch.as_tensor(np.asarray(values, dtype), device=self.like.device)

    def sqrt(self, X):
        # The slope at 0 is infinite, and 0 times it NaN: take 0 in its place.
        is_zero = X == 0
        return torch.sqrt(X.masked_fill(is_zero, 1)).masked_fill(is_zero, 0)

    def topk(self, X, n):
        # Unlike `torch.topk`, it takes the first of equal ones, as votes do.
        values, index = torch.sort(X, dim=-1, descending=True, stable=True)
        return values[..., :n], index[..., :n]

    def gather(self, X, index):
        return torch.gather(X, 1, index)

    def turned(self, X):
        return X.T

    def where(self, condition, X, Y):
        if isinstance(X, float):
            X = torch.full_like(self.like, X)
            Y = torch.full_like(self.like, Y)
        return torch.where(condition, X, Y)

    def take(self, X, index):
        return torch.index_select(X, 1, index)

    def look_up(self, values, index):
        return values[index]

    def concat(self, parts):
        return torch.cat(parts, 1)

    def with_column(self, X, value):
        return torch.nn.functional.pad(X, (0, 1), value=self.within_range(value))

    def within_range(self, value):
        return max(value, torch.finfo(self.like.dtype).min)  # it may be in half

    def boxes(self, X, n, width):
        return X.unflatten(1, (n, width))

    def sums_by(self, codes, votes, n):
        zeros = votes.new_zeros((votes.shape[0], n))
        return zeros.scatter_add(1, codes, votes)

    def cdist(self, X, Y, order):
        return torch.cdist(X, Y, p=float(order))


class ImprintModule(torch.nn.Module):
    """Score classes as `ImprintClassifier` does, with its arrays as buffers.

    Parameters
    ----------
    clf : ImprintClassifier
        Is fitted.

    Attributes
    ----------
    labels : list
        The classes, in the order of the scores.
    temperature : float
        The probabilities are ``softmax(scores / temperature)``.
    weight : tensor of shape (n_classes, n_features)
        The rows of a linear head, where the scores are those of one: see
        `ImprintClassifier.from_head`.
    """

    def __init__(self, clf):
        super().__init__()
        self._recipe = recipe = Recipe(clf)
        self.labels, self.temperature = recipe.classes.tolist(), recipe.temperature
        self._n_features = clf.n_features_in_
        for name, array in recipe.arrays.items():
            self.register_buffer(name, torch.from_numpy(array.copy()))

    def __getattr__(self, name):
        # Of a property, torch would hide the error.
        if name != "weight":
            return super().__getattr__(name)
        if not self._recipe.is_linear:
            raise AttributeError(
                "weight exists only where a score is a product with one proxy."
            )
        return self.proxies

    def forward(self, X):
        """Score classes.

        Parameters
        ----------
        X : tensor of shape (n, n_features)
            Embeddings.

        Returns
        -------
        scores : tensor of shape (n, n_classes)
            In the dtype of the buffers.

        Raises
        ------
        ValueError
            If ``X`` has another shape, which torch might stretch to this one.
        """
        if X.ndim != 2 or X.shape[1] != self._n_features:
            raise ValueError(
                f"X must have the shape (n, {self._n_features}), a row of features for "
                f"each query; got {tuple(X.shape)}."
            )
        recipe, arrays = self._recipe, dict(self.named_buffers())
        X = X.to(self.proxies.dtype)
        xp = _Torch(X.new_ones(()))
        X = recipe.normalized(xp, X)
        scores = recipe.scores(xp, X, recipe.similarities(xp, X, arrays), arrays)
        return recipe.widened(xp, scores, xp.within_range(recipe.lowest))
