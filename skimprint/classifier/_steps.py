"""List the steps of a pipeline that do anything, whatever its shape."""

from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline


def steps_of(model, name="model"):
    """List the steps of a model that do anything, each with its name.

    Parameters
    ----------
    model : estimator
        A pipeline, perhaps of pipelines; a search, which stands for its best
        estimator, or a ``FrozenEstimator``, for what it has frozen; anything else is
        a step itself.
    name : str, default="model"
        Of the model, if it is a step itself.

    Yields
    ------
    name : str
        Of the step.
    step : estimator
    """
    model = getattr(model, "best_estimator_", model)
    if isinstance(model, FrozenEstimator):
        yield from steps_of(model.estimator, name)
    elif isinstance(model, Pipeline):
        for inner, step in model.steps:
            yield from steps_of(step, inner)
    elif model is not None and not (isinstance(model, str) and model == "passthrough"):
        yield name, model


def last_step(model):
    """Find the last step that does anything, or take a model that has none."""
    return [model, *(step for _, step in steps_of(model))][-1]
