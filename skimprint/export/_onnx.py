"""A classifier as a graph of ONNX."""

import re

import numpy as np
from onnx import helper, numpy_helper
from scipy.sparse import issparse
from sklearn.linear_model._base import LinearClassifierMixin

from .._arrays.device import to_host
from ..classifier import ImprintClassifier
from ..classifier._adapted_classifier import places_in
from ..classifier._checks import rejected_labels
from ..classifier._steps import steps_of
from ._recipe import Recipe

# The first version of the operators whose reductions take their axes as an input. Any
# runtime of 2023 and later knows it.
OPSET = 18

# Halves of surrogate pairs, which UTF-8 does not write.
_HALVES = "[\\ud800-\\udfff]"

# Scores over a smaller temperature may be too large for float32.
_TINY = 1e-30


def _operator(kind):
    """Make the method of an operator between two values."""
    return lambda self, other: self.graph.op(kind, self, other)


class Value:
    """A tensor in a graph, by its name.

    Parameters
    ----------
    graph : Graph
        Gets the operations.
    name : str
        Of the tensor.
    shape : tuple, default=None
        As far as somebody asks for it.
    """

    def __init__(self, graph, name, shape=None):
        self.graph, self.name, self.shape = graph, name, shape

    __add__ = _operator("Add")
    __sub__ = _operator("Sub")
    __mul__ = _operator("Mul")
    __truediv__ = _operator("Div")
    __matmul__ = _operator("MatMul")
    __gt__ = _operator("Greater")
    __ge__ = _operator("GreaterOrEqual")

    def __rsub__(self, other):
        return self.graph.op("Sub", other, self)

    def __rtruediv__(self, other):
        return self.graph.op("Div", other, self)

    def __neg__(self):
        return self.graph.op("Neg", self)


def _operation(kind, **attributes):
    """Make a method of `Graph` that adds an operation to its inputs."""
    return lambda self, *inputs: self.op(kind, *inputs, **attributes)


class Graph:
    """The operations of recipes, as nodes of ONNX.

    Parameters
    ----------
    dtype : dtype
        Of all floats.
    unique : callable
        From a name to one that is free.
    """

    def __init__(self, dtype, unique):
        self.dtype, self.unique = np.dtype(dtype), unique
        self.nodes, self.initializers, self._arrays = [], [], {}

    def op(self, kind, *inputs, n_outputs=1, outputs=None, **attributes):
        """Add an operation; numbers among the inputs become constants."""
        inputs = [
            value if isinstance(value, Value) else self.constant(value, self.dtype)
            for value in inputs
        ]
        names = outputs or [self.unique(kind) for _ in range(n_outputs)]
        names_in = [value.name for value in inputs]
        self.nodes.append(helper.make_node(kind, names_in, names, **attributes))
        found = [Value(self, name) for name in names]
        return found[0] if len(found) == 1 else found

    def constant(self, values, dtype=None, name="constant"):
        """Add an array."""
        array = np.ascontiguousarray(np.asarray(values, dtype))
        name = self.unique(name)
        self.initializers.append(numpy_helper.from_array(array, name))
        self._arrays[name] = array
        return Value(self, name, array.shape)

    def cast(self, X):
        """Make floats of numbers of any type."""
        return self.op("Cast", X, to=helper.np_dtype_to_tensor_dtype(self.dtype))

    def ints(self, *values):
        """Add a list of integers."""
        return self.constant(values, np.int64)

    def used_initializers(self):
        """List the arrays that a node reads: not all that a recipe has."""
        nodes = list(self.nodes)
        for node in self.nodes:
            for attribute in node.attribute:
                nodes += attribute.g.node
        names = {name for node in nodes for name in node.input}
        return [array for array in self.initializers if array.name in names]

    def turned(self, X):
        return self.constant(self._arrays[X.name].T, name=f"{X.name}_T")

    abs = _operation("Abs")
    sqrt = _operation("Sqrt")
    exp = _operation("Exp")
    clip = _operation("Clip")
    where = _operation("Where")
    take = _operation("Gather", axis=1)
    look_up = _operation("Gather")
    gather = _operation("GatherElements", axis=1)

    def copysign(self, X, sign):
        return X * self.op("Sign", sign)  # X is not negative

    def max(self, X, axis, keepdims=False):
        return self.op("ReduceMax", X, self.ints(axis), keepdims=int(keepdims))

    def argmax(self, X, axis, keepdims=False):
        return self.op("ArgMax", X, axis=axis, keepdims=int(keepdims))

    def sum(self, X, axis, keepdims=False):
        return self.op("ReduceSum", X, self.ints(axis), keepdims=int(keepdims))

    def topk(self, X, n):
        return self.op("TopK", X, self.ints(n), n_outputs=2, axis=-1)

    def concat(self, parts):
        return self.op("Concat", *parts, axis=1)

    def with_column(self, X, value):
        pads = self.ints(0, 0, 0, 1)
        return self.op("Pad", X, pads, self.constant(value, self.dtype))

    def boxes(self, X, n, width):
        found = self.op("Reshape", X, self.ints(-1, n, width))
        found.shape = (None, n, width)
        return found

    def sums_by(self, codes, votes, n):
        rows = self.op("Shape", votes, start=0, end=1)
        shape = self.op("Concat", rows, self.ints(n), axis=0)
        zeros = self.op("Expand", self.constant(0, self.dtype), shape)
        return self.op("ScatterElements", zeros, codes, votes, axis=1, reduction="add")

    def cdist(self, X, Y, order):
        # Query by query: all differences at once would not fit into memory.
        body = Graph(self.dtype, self.unique)
        query = Value(body, self.unique("query"))
        reduced = self.unique("distances")
        away = body.op("Abs", body.op("Sub", Y, query))
        kind = "ReduceSum" if order == 1 else "ReduceMax"
        body.op(kind, away, body.ints(1), keepdims=0, outputs=[reduced])
        kind, shape = helper.np_dtype_to_tensor_dtype(self.dtype), Y.shape
        inner = helper.make_graph(
            body.nodes,
            self.unique("distances_of_a_query"),
            [helper.make_tensor_value_info(query.name, kind, shape[1:])],
            [helper.make_tensor_value_info(reduced, kind, shape[:1])],
            body.initializers,
        )
        return self.op("Scan", X, num_scan_inputs=1, body=inner)


def learner_of(clf):
    """Take what has learnt the samples: of an `AdaptedClassifier` a part."""
    return getattr(clf, "imprint_", clf)


def write_graph(model, graph, X, names, *, kind, raw_scores, X_estimator=None):
    """Write the operations from queries to labels into a graph.

    Parameters
    ----------
    model : ImprintClassifier or AdaptedClassifier
        Is fitted. Of the latter, familiarity and proxies are those of the samples.
    graph : Graph
        Gets them.
    X : Value
        The queries, of any number type.
    names : dict of {str: str}
        What to call the outputs that are wanted.
    kind : int
        The type of the probabilities.
    raw_scores : bool
        Whether scores, as `decision_function` returns them, take the place of the
        probabilities: of two classes, the score of the first is that of the second
        with the other sign.
    X_estimator : Value, default=None
        What the last step of ``estimator_`` of an `AdaptedClassifier` gets.
    """
    clf = learner_of(model)
    recipe = Recipe(clf)
    queries = graph.cast(X)
    arrays, X, similarities, scores = _scored(recipe, graph, queries)
    familiarity = recipe.familiarities(graph, X, similarities, scores, arrays)
    if clf is not model:
        first, second = model.weights_.tolist()
        of_estimator = _scores_of_estimator(model, graph, graph.cast(X_estimator))
        scores, recipe.temperature = of_estimator * first + scores * second, 1.0
    told = _decisions if raw_scores else _probabilities
    told = told(recipe, graph, scores)
    graph.op("Cast", told, to=kind, outputs=[names["probabilities"]])
    if "familiarity" in names:
        graph.op("Identity", familiarity, outputs=[names["familiarity"]])
    winner = graph.argmax(scores, 1)
    if recipe.threshold is not None:
        limit = graph.constant(max(recipe.threshold, recipe.lowest), recipe.dtype)
        last = graph.constant(len(recipe.head.classes), np.int64)
        # Maxima may pass over NaN, and infinity may be familiar: such queries get NaN.
        familiarity = familiarity + graph.sum(queries - queries, 1)
        winner = graph.where(familiarity >= limit, winner, last)
    graph.op(
        "Gather",
        graph.constant(*labels_and_type(clf), name="labels"),
        winner,
        outputs=[names["label"]],
    )
    if "proxy" in names:
        proxy = graph.argmax(similarities, 1)
        graph.op("Identity", proxy, outputs=[names["proxy"]])
        rows = graph.constant(recipe.head.indices, np.int64, name="rows")
        graph.op("Gather", rows, proxy, outputs=[names["training_row"]])


def _scored(recipe, graph, X):
    """Score queries, and return what the scores were made of before them."""
    arrays = {
        name: graph.constant(array, name=name) for name, array in recipe.arrays.items()
    }
    X = recipe.normalized(graph, X)
    similarities = recipe.similarities(graph, X, arrays)
    return arrays, X, similarities, recipe.scores(graph, X, similarities, arrays)


def _scores_of_estimator(clf, graph, X):
    """Score queries by what an `AdaptedClassifier` adapts."""
    *_, (_, estimator) = steps_of(clf.estimator_)
    # Subclasses of others may score in ways of their own.
    is_of_sklearn = type(estimator).__module__.startswith("sklearn.")
    if isinstance(estimator, ImprintClassifier):
        recipe = Recipe(estimator, graph.dtype)
        *_, scores = _scored(recipe, graph, X)
        scores = _decisions(recipe, graph, scores)
    elif isinstance(estimator, LinearClassifierMixin) and is_of_sklearn:
        weight, bias = estimator.coef_, estimator.intercept_
        if issparse(weight):  # by its method `sparsify`
            weight = weight.toarray()
        weight, bias = (
            graph.constant(np.atleast_2d(to_host(each)), graph.dtype)
            for each in (weight, bias)
        )
        scores = X @ graph.turned(weight) + bias
        if len(clf.classes_) == 2:
            scores = graph.concat([-scores, scores])
    else:
        raise ValueError(
            "estimator must be an ImprintClassifier, a linear model of scikit-learn's, "
            "such as LogisticRegression, or a pipeline that ends with one, for an "
            f"AdaptedClassifier to have a form in ONNX; got {estimator!r}. Use one of "
            "these, and fit again; or convert it by itself, and imprint_: weights_ has "
            "what their scores are multiplied by."
        )
    if len(clf.classes_) == 2:
        scores = scores / 2  # of two classes, they are differences
    return graph.take(scores, graph.ints(*places_in(estimator, clf.classes_)))


def _decisions(recipe, graph, scores):
    """Tell scores as `decision_function` does; of two classes, two columns."""
    scores = recipe.widened(graph, scores, recipe.lowest)
    if len(recipe.classes) == 2:
        first, second = (graph.take(scores, graph.ints(i)) for i in range(2))
        scores = graph.concat([first - second, second - first])
    return scores


def _probabilities(recipe, graph, scores):
    """Tell probabilities as `predict_proba` does."""
    if recipe.temperature < _TINY:  # then the lead decides, and nothing overflows
        scores = scores - graph.max(scores, 1, keepdims=True)
    scaled = graph.clip(scores / max(recipe.temperature, _TINY), recipe.lowest)
    return recipe.widened(graph, graph.op("Softmax", scaled, axis=1), 0.0)


def labels_and_type(clf):
    """Find how ONNX writes labels, that of a rejection last: an array and its dtype."""
    labels = clf._fitted.scorer.head.classes
    if clf.rejection is not None:
        n = len(labels)
        winners, is_last = np.append(np.arange(n), 0), np.arange(n + 1) == n
        labels = rejected_labels(labels, winners, is_last, clf.rejection.label)
    if labels.dtype.kind == "O":
        labels = np.array(labels.tolist())
    dtypes = {"U": object, "b": bool, "i": np.int64, "u": np.uint64, "f": np.float64}
    halves = [each for each in labels.tolist() if re.search(_HALVES, str(each))]
    if halves:
        raise ValueError(
            f"labels must be whole characters for ONNX; {halves[0]!r} has half a "
            "surrogate pair, as names of files have that are no UTF-8. Rename the "
            "class, and fit again."
        )
    return labels, dtypes[labels.dtype.kind]
