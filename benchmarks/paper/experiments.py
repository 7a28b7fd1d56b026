"""What is computed for each part of the report."""

from methods import FRAMEWORK, K_SWEEP, MERGED, MNN, OURS, PEERS
from protocol import INTENTS_PER_LABEL, N_DRAWS, N_MERGED_LABELS, Cell, draws_of

PAPER_TASKS = ("all", "even", "odd", "0-1-2")
MERGED_TASKS = {f"{d} in one": d for d in INTENTS_PER_LABEL}


def _on_all_data(methods, data):
    return [
        Cell(name, task, "all", draw, method)
        for method in methods
        for name in data
        for task in data.tasks(name)
        for draw in draws_of(method)
    ]


def all_data(data):
    """Table 1, ours and the other heads, on all training data."""
    return _on_all_data(FRAMEWORK | PEERS | OURS, data)


def k_sweep(data):
    """Each generator with each number of proxies."""
    return _on_all_data(K_SWEEP, data)


def aggregations(data):
    """Votes of m proxies, and of m samples."""
    return _on_all_data(MNN, data)


def few_shots(data):
    """Nested draws of a few samples per class; all classes at once."""
    return [
        Cell(name, "all", shots, draw, method)
        for method in FRAMEWORK | PEERS | OURS
        for draw in range(N_DRAWS)
        for name in data
        for shots in data.shots(name)
        if shots != "all"
    ]


def merged_classes(data):
    """Labels made of d classes each, where there are classes enough."""
    return [
        Cell(name, task, "all", draw, method)
        for name in data
        if data[name].n_classes >= N_MERGED_LABELS * max(INTENTS_PER_LABEL)
        for task in MERGED_TASKS
        for method in MERGED
        for draw in range(N_DRAWS)
    ]


# The slowest come last.
EXPERIMENTS = (merged_classes, aggregations, k_sweep, all_data, few_shots)
