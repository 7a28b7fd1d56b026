"""Converters for skl2onnx, so that pipelines can be converted."""

from onnx import TensorProto
from skl2onnx import update_registered_converter
from skl2onnx.common.data_types import (
    BooleanTensorType,
    DoubleTensorType,
    FloatTensorType,
    Int64TensorType,
    StringTensorType,
    UInt64TensorType,
)

from ..classifier import ImprintClassifier, ImprintClassifierCV
from ._onnx import OPSET, Graph, Value, outputs_of, write_graph

_TYPES = {
    TensorProto.BOOL: BooleanTensorType,
    TensorProto.DOUBLE: DoubleTensorType,
    TensorProto.FLOAT: FloatTensorType,
    TensorProto.INT64: Int64TensorType,
    TensorProto.STRING: StringTensorType,
    TensorProto.UINT64: UInt64TensorType,
}


def register():
    """Tell skl2onnx how to convert our classifiers."""
    for cls in (ImprintClassifier, ImprintClassifierCV):
        update_registered_converter(
            cls,
            f"Skimprint{cls.__name__}",
            shapes,
            convert,
            parser=_parse,
            # That of skl2onnx's own classifiers has no effect: there are tensors only.
            options={"nearest": [False, True], "zipmap": [False, True, "columns"]},
        )


def best_of(model):
    """Take the classifier that a search has found, or a classifier itself."""
    return getattr(model, "best_estimator_", model)


def outputs_in(scope, model, *, nearest=False):
    """Declare the outputs of a classifier: list of Variable."""
    return [
        scope.declare_local_variable(name, _TYPES[kind]([None, n] if n else [None]))
        for name, kind, n in outputs_of(best_of(model), nearest=nearest)
    ]


def _parse(scope, model, inputs, custom_parsers=None):
    operator = scope.declare_local_operator(f"Skimprint{type(model).__name__}", model)
    operator.inputs = inputs
    nearest = scope.get_options(model, {"nearest": False}, fail=False)["nearest"]
    operator.outputs.extend(outputs_in(scope, model, nearest=nearest))
    return operator.outputs


def shapes(operator):
    """Say nothing: the parser knows all shapes."""


def convert(scope, operator, container):
    """Write the nodes of a classifier."""
    if container.target_opset < OPSET:
        raise ValueError(
            f"target_opset must be at least {OPSET} for skimprint's classifiers; got "
            f"{container.target_opset}."
        )
    clf = best_of(operator.raw_operator)
    graph = Graph(clf._fitted.scorer.head.proxies.dtype, scope.get_unique_variable_name)
    names = ("label", "probabilities", "familiarity", "proxy", "training_row")
    outputs = dict(
        zip(names, (out.full_name for out in operator.outputs), strict=False)
    )
    X = Value(graph, operator.inputs[0].full_name)
    write_graph(clf, graph, X, outputs, nearest=len(outputs) > 3)
    container.nodes += graph.nodes
    container.initializers += graph.used_initializers()
    container.node_domain_version_pair_sets.add(("", OPSET))
