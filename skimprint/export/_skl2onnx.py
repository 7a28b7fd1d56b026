"""Converters for skl2onnx, so that pipelines can be converted."""

import numpy as np
from skl2onnx import update_registered_converter
from skl2onnx._parse import parse_sklearn
from skl2onnx.common.data_types import (
    BooleanTensorType,
    DoubleTensorType,
    FloatTensorType,
    Int64TensorType,
    StringTensorType,
    UInt64TensorType,
    guess_proto_type,
)
from sklearn.pipeline import Pipeline

from ..classifier import AdaptedClassifier, ImprintClassifier, ImprintClassifierCV
from ..classifier._steps import steps_of
from ._onnx import OPSET, Graph, Value, labels_and_type, learner_of, write_graph
from ._recipe import check_methods

_TYPES = {
    bool: BooleanTensorType,
    object: StringTensorType,
    np.float32: FloatTensorType,
    np.float64: DoubleTensorType,
    np.int64: Int64TensorType,
    np.uint64: UInt64TensorType,
}


def register(*subclasses):
    """Tell skl2onnx how to convert our classifiers, and subclasses."""
    ours = (AdaptedClassifier, ImprintClassifier, ImprintClassifierCV)
    for cls in (*ours, *subclasses):
        update_registered_converter(
            cls,
            f"Skimprint{cls.__name__}",
            shapes,
            convert,
            parser=_parse,
            options={
                "nearest": [False, True],
                # Models that ask for scores set it, such as a CalibratedClassifierCV.
                "raw_scores": [False, True],
                # That of skl2onnx's own classifiers has no effect: there are tensors.
                "zipmap": [False, True, "columns"],
            },
        )


def best_of(model):
    """Take the classifier that a search has found, or a classifier itself."""
    return getattr(model, "best_estimator_", model)


def outputs_in(scope, model, *, nearest=False):
    """Declare the outputs of a classifier: list of Variable."""
    clf = learner_of(best_of(model))
    head, (_, label_type) = clf._fitted.scorer.head, labels_and_type(clf)
    dtype = head.proxies.dtype.type
    outputs = [
        ("label", label_type, []),
        ("probabilities", dtype, [len(head.all_classes)]),
        ("familiarity", dtype, []),
    ]
    if nearest:
        outputs += [("proxy", np.int64, []), ("training_row", np.int64, [])]
    pipeline = _pipeline_around(scope, model)
    if pipeline is not None:
        outputs = outputs[: len(pipeline.outputs)]
    found = [
        scope.declare_local_variable(name, _TYPES[kind]([None, *shape]))
        for name, kind, shape in outputs
    ]
    if pipeline is not None:
        pipeline.outputs[0].type = found[0].type  # else text were cast to numbers
    return found


def _pipeline_around(scope, model):
    """Find the pipeline that another model has asked for outputs, or None.

    A pipeline that is converted by itself is no operator: its steps are.
    """
    for operator in scope.operators.values():
        pipeline = operator.raw_operator
        steps = [*steps_of(pipeline)] if isinstance(pipeline, Pipeline) else []
        if steps and steps[-1][1] is best_of(model):
            return operator
    return None


def _parse(scope, model, inputs, custom_parsers=None):
    operator = scope.declare_local_operator(f"Skimprint{type(model).__name__}", model)
    operator.inputs = inputs
    nearest = scope.get_options(model, {"nearest": False}, fail=False)["nearest"]
    operator.outputs.extend(outputs_in(scope, model, nearest=nearest))
    return operator.outputs


def _transformed(scope, clf, X):
    """Declare what comes before the last step of the ``estimator_`` of a classifier."""
    *before, _ = steps_of(getattr(clf, "estimator_", clf))
    for _, step in before:
        (X,) = parse_sklearn(scope, step, [X])
        X.init_status(is_leaf=False)  # no output of the graph
    return X


def shapes(operator):
    """Say nothing: the parser knows all shapes."""


def convert(scope, operator, container):
    """Write the nodes of a classifier."""
    if container.target_opset < OPSET:
        raise ValueError(
            f"target_opset must be at least {OPSET} for skimprint's classifiers; got "
            f"{container.target_opset}."
        )
    model = operator.raw_operator
    # The outputs after the first two are of these.
    check_methods(model, *("score_samples", "kproxies")[: len(operator.outputs) - 2])
    clf, pipeline = best_of(model), _pipeline_around(scope, model)
    asked = model if pipeline is None else pipeline.raw_operator
    options = container.get_options(asked, {"raw_scores": False}, fail=False) or {}
    dtype = learner_of(clf).proxies_.dtype
    graph = Graph(dtype, scope.get_unique_variable_name)
    X = operator.inputs[0]
    # Models around it ask for the first two, of the type of their own input.
    names = ("label", "probabilities", "familiarity", "proxy", "training_row")
    outputs = dict(
        zip(names, (out.full_name for out in operator.outputs), strict=False)
    )
    write_graph(
        clf,
        graph,
        Value(graph, X.full_name),
        outputs,
        kind=guess_proto_type(operator.outputs[1].type),
        raw_scores=options.get("raw_scores", False),
        X_estimator=Value(graph, _transformed(scope, clf, X).full_name),
    )
    container.nodes += graph.nodes
    container.initializers += graph.used_initializers()
    container.node_domain_version_pair_sets.add(("", OPSET))
