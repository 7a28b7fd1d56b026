"""Export models to ONNX and torch."""

from copy import copy
from typing import TYPE_CHECKING, Any

from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from .. import __version__
from ..classifier import AdaptedClassifier, ImprintClassifier, ImprintClassifierCV
from ..classifier._steps import last_step, steps_of
from ..embedding._embedder import FoundationEmbedder
from ..embedding._extras import require
from ._recipe import check_methods

if TYPE_CHECKING:
    import onnx
    import torch


def to_onnx(model: Any, *, nearest: bool = False) -> "onnx.ModelProto":
    """Convert a model to ONNX: embeddings in, labels and probabilities out.

    Needs ``skimprint[export]``. The result needs opset 18, and only operators of ONNX's
    own. It is written with ``onnx.save`` or its method ``SerializeToString``.

    Parameters
    ----------
    model : ImprintClassifier, AdaptedClassifier, Pipeline or search
        Is fitted. skl2onnx converts the transformers of a pipeline. What an
        `AdaptedClassifier` adapts is one of ours, a linear model of scikit-learn's, or
        a pipeline that ends with one.
    nearest : bool, default=False
        Whether to tell the nearest proxy, and the training row that it is or that is
        nearest to it.

    Returns
    -------
    onnx_model : onnx.ModelProto
        With the input ``X``, of shape (n, n_features), and the outputs ``label``,
        ``probabilities`` (n, n_classes), ``familiarity`` and, if asked for, ``proxy``
        and ``training_row``: of shape (n,). Queries that are rejected have the label
        of the rejection. Familiarity and proxies of an `AdaptedClassifier` are those of
        its ``imprint_``.

    Raises
    ------
    ValueError
        If a part has no form in ONNX: a function, an embedder, or another classifier;
        if a subclass overrides what the outputs stand for, such as ``predict``; or if a
        pipeline takes text.
    TypeError
        If the model is no classifier of ours, and does not end with one.

    See Also
    --------
    register_skl2onnx : For ``skl2onnx.to_onnx``.

    Examples
    --------
    >>> from skimprint import ImprintClassifier, export
    >>> clf = ImprintClassifier("mean").fit([[0.0, 1.0], [1.0, 0.0]], ["up", "right"])
    >>> onnx_model = export.to_onnx(clf)
    >>> [output.name for output in onnx_model.graph.output]
    ['label', 'probabilities', 'familiarity']
    """
    skl2onnx = require("skl2onnx", "to_onnx")
    types = require("skl2onnx.common.data_types", "to_onnx")
    _check_is_fitted(model)
    steps = list(steps_of(model))
    for name, step in steps:
        if isinstance(step, FoundationEmbedder):
            raise ValueError(
                f"The step {name!r} is a FoundationEmbedder, which has no form in "
                "ONNX: its model may have. Convert the steps after it, model[1:], and "
                "join them to the model's own graph."
            )
    last, final = steps[-1] if steps else (None, model)
    if not isinstance(final, ImprintClassifier | AdaptedClassifier):
        raise TypeError(
            "model must be an ImprintClassifier or an AdaptedClassifier, or a pipeline "
            f"or a search that ends with one; the last step here is {final!r}. Add "
            "one, or use skl2onnx.to_onnx, which converts other models."
        )
    check_methods(model, "score_samples", *(["kproxies"] if nearest else []))
    final = copy(final)  # other threads may learn meanwhile
    first, transformer = steps[0]
    if not hasattr(transformer, "n_features_in_"):  # that of text, for example
        raise ValueError(
            "A pipeline must take rows of numbers, the input that to_onnx declares; "
            f"the first step here, {first!r}, does not know how many. Call "
            "skl2onnx.to_onnx with target_opset=18 and initial_types, which for text "
            "are [('X', StringTensorType([None, 1]))]."
        )
    from ._onnx import OPSET, learner_of
    from ._skl2onnx import register

    register(type(final))  # may be a subclass
    is_double = learner_of(final).proxies_.dtype == "float64"
    of_type = types.DoubleTensorType if is_double else types.FloatTensorType
    made = skl2onnx.to_onnx(
        Pipeline([*steps[:-1], (last, final)]),
        initial_types=[("X", of_type([None, transformer.n_features_in_]))],
        options={id(final): {"nearest": nearest}},
        target_opset=OPSET,
    )
    made.producer_name, made.producer_version = "skimprint", __version__
    _sort(made.graph.node)
    return made


def to_torch(model: Any) -> "torch.nn.Module":
    """Convert a classifier to a module of torch: embeddings in, class scores out.

    Parameters
    ----------
    model : ImprintClassifier or ImprintClassifierCV
        Is fitted.

    Returns
    -------
    module : torch.nn.Module
        Its buffers are the arrays of the classifier. ``module(X)`` has the shape (n,
        n_classes); ``module.labels`` are the classes, and ``softmax(scores /
        module.temperature)`` the probabilities. Where a score is the product with one
        proxy, ``module.weight`` are the rows of that linear head. It has no rejection.

    Raises
    ------
    ValueError
        If a part is a function, or if a subclass overrides ``predict``,
        ``predict_proba`` or ``decision_function``.

    Examples
    --------
    >>> import torch
    >>> from skimprint import ImprintClassifier, export
    >>> clf = ImprintClassifier("mean").fit([[0.0, 1.0], [1.0, 0.0]], ["up", "right"])
    >>> module = export.to_torch(clf)
    >>> scores = module(torch.tensor([[0.1, 2.0]]))
    >>> module.labels[scores.argmax()]
    'up'
    """
    require("torch", "to_torch")
    from ._torch import ImprintModule

    if not isinstance(model, ImprintClassifier | ImprintClassifierCV):
        cure = ""
        if isinstance(model, AdaptedClassifier):
            cure = " Convert its imprint_: weights_ says how its scores are added up."
        raise TypeError(
            "model must be an ImprintClassifier or an ImprintClassifierCV, such as the "
            f"last step of a pipeline; got {type(model).__name__}.{cure}"
        )
    _check_is_fitted(model)
    check_methods(model)
    return ImprintModule(copy(getattr(model, "best_estimator_", model))).eval()


def register_skl2onnx() -> None:
    """Tell skl2onnx which options our classifiers have.

    ``skl2onnx.to_onnx`` converts them without this. After it, the option ``nearest``
    adds outputs, as that of `to_onnx` does, and models around ours are converted, such
    as a `sklearn.calibration.CalibratedClassifierCV`.

    See Also
    --------
    to_onnx : Without a registration.

    Examples
    --------
    >>> from skimprint import export
    >>> export.register_skl2onnx()
    """
    require("skl2onnx", "register_skl2onnx")
    from ._skl2onnx import register

    register()


def _sort(nodes):
    """Sort nodes so that the same model gives the same bytes, in place.

    skl2onnx sorts them by how many are before them, and by their addresses.
    """
    levels = {}
    for node in nodes:
        level = 1 + max((levels.get(name, 0) for name in node.input), default=0)
        levels.update(dict.fromkeys(node.output, level))
    nodes.sort(key=lambda node: (levels[node.output[0]], tuple(node.output)))


def _check_is_fitted(model):
    """Refuse a model that knows no classes, and say why there are none."""
    final = last_step(model)
    if isinstance(final, ImprintClassifier):
        final._check_is_fitted()  # it may have forgotten all
    else:
        check_is_fitted(model)
