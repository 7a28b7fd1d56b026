"""What is computed for each part of the report."""

from typing import NamedTuple

from conditions import BLURRED, CLEAN, CONDITIONS, UNKNOWN
from methods import (
    DETECTORS,
    FRAMEWORK,
    K_SWEEP,
    LOGISTIC,
    MERGED,
    MNN,
    MOST_SHOTS,
    OURS,
    PEERS,
    UNDER_CONDITIONS,
    WHITENED,
)
from protocol import HALF, INTENTS_PER_LABEL, MERGED_TASKS, N_MERGED_LABELS, SHOTS, Cell

PAPER_TASKS = ("all", "even", "odd", "0-1-2")
REAL_CONDITIONS = [name for name in CONDITIONS if name != UNKNOWN]
#: Shots under real conditions, and where there are more than 20 classes.
CONDITION_SHOTS, CONDITION_SHOTS_OF_MANY = 50, 20
UNKNOWN_SHOTS = 20


class Plan(NamedTuple):
    """How much is computed."""

    own: tuple = ()  # names of the user's methods
    n_draws: int = 3
    n_condition_draws: int = 2
    shots: tuple = SHOTS
    is_quick: bool = False


def quick(own=()):
    """One draw, fewer shots, all data without subsets of classes, no sweeps."""
    return Plan(own, 1, 1, (1, 5, 20, 100), is_quick=True)


def few_shots(data, plan):
    """Nested draws of a few samples per class; all classes at once."""
    return [
        Cell(name, "all", CLEAN, shots, draw, method)
        for draw in range(plan.n_draws)
        for name in data
        for shots in data.shots(name)
        if shots in plan.shots
        for method in (*FRAMEWORK, *PEERS, *OURS, *plan.own)
        if shots <= MOST_SHOTS.get(method, shots)
    ]


def real_conditions(data, plan):
    """Support sets and queries that are not as one would have them."""
    return [
        Cell(name, "all", condition, shots, draw, method)
        for draw in range(plan.n_condition_draws)
        for name in data
        if (shots := condition_shots(data, name))
        for condition in REAL_CONDITIONS
        if condition != BLURRED or data[name].X_blurred is not None
        for method in (*UNDER_CONDITIONS, *plan.own)
    ]


def condition_shots(data, name):
    """As many shots as a data set allows, up to 50, or 20 of more than 20 classes."""
    many = data[name].n_classes > 20
    most = CONDITION_SHOTS_OF_MANY if many else CONDITION_SHOTS
    return max((n for n in data.shots(name) if n <= most), default=None)


def unknown_queries(data, plan):
    """A random half of the classes is known."""
    return [
        Cell(name, HALF, UNKNOWN, UNKNOWN_SHOTS, draw, method)
        for draw in range(plan.n_draws)
        for name in data
        if data[name].n_classes >= 4 and UNKNOWN_SHOTS in data.shots(name)
        for method in (*DETECTORS, *plan.own)
    ]


def all_data(data, plan):
    """Table 1, ours and the other heads, on all training data."""
    methods = (*FRAMEWORK, *PEERS, *OURS, *WHITENED, *plan.own)
    left_out = {*MOST_SHOTS, LOGISTIC} if plan.is_quick else MOST_SHOTS
    return _on_all_data([m for m in methods if m not in left_out], data, plan)


def k_sweep(data, plan):
    """Each generator with each number of proxies."""
    return [] if plan.is_quick else _on_all_data(K_SWEEP, data, plan)


def aggregations(data, plan):
    """Votes of m proxies, and of m samples."""
    return [] if plan.is_quick else _on_all_data(MNN, data, plan)


def _on_all_data(methods, data, plan):
    return [
        Cell(name, task, CLEAN, "all", draw, method)
        for name in data
        for task in (["all"] if plan.is_quick else data.tasks(name))
        for method in methods
        for draw in range(plan.n_draws)
    ]


def merged_classes(data, plan):
    """Labels made of d classes each, where there are classes enough."""
    return [
        Cell(name, task, CLEAN, "all", draw, method)
        for name in data
        if not plan.is_quick
        and data[name].n_classes >= N_MERGED_LABELS * max(INTENTS_PER_LABEL)
        for task in MERGED_TASKS
        for method in MERGED
        for draw in range(plan.n_draws)
    ]


# What says the most comes first: a run may be stopped.
EXPERIMENTS = (
    few_shots,
    real_conditions,
    unknown_queries,
    all_data,
    merged_classes,
    aggregations,
    k_sweep,
)
