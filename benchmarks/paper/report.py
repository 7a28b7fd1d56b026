"""From finished fits to tables in Markdown and pictures."""

import platform

import numpy as np
import pandas as pd
import plots
import sklearn
from experiments import MERGED_TASKS, PAPER_TASKS
from methods import (
    FRAMEWORK,
    GENERATORS,
    MERGED_K,
    MNN,
    N_PROXIES,
    ORACLE,
    OURS,
    PEERS,
    QI,
    WESTERHOFF,
)
from protocol import N_DRAWS, SHOTS, Cell
from ranking import rank
from scipy.stats import spearmanr

from skimprint import __version__
from skimprint.metrics import neural_collapse_score

HINDSIGHT = "least squares, best alpha in hindsight"
LOGISTIC = "logistic regression"


def write(rows, data, out):
    """Write ``paper.md`` and its pictures.

    Parameters
    ----------
    rows : dict of {Cell: dict}
        What has been computed; parts that are missing are left out, and said to be.
    data : Data
        The data sets.
    out : Path
        Folder of the report.
    """
    frame = pd.DataFrame([{**cell._asdict(), **row} for cell, row in rows.items()])
    frame["accuracy"] *= 100
    # Medians over seeds, as in the paper, for each pair of a data set and a task.
    whole = frame[frame["shots"] == "all"]
    pairs = whole.pivot_table(
        index=["data", "task"], columns="method", values="accuracy", aggfunc="median"
    )
    papers = pairs[pairs.index.get_level_values("task").isin(PAPER_TASKS)]
    parts = [
        ("On all training data", _table_1(papers, whole, out)),
        ("Generators by number of proxies", _generators(papers, out)),
        ("Aggregations", _aggregations(papers)),
        ("Few shots", _few_shots(frame, papers, out)),
        ("Gain of several proxies against NC1", _gain(pairs, whole, data, out)),
        ("Labels made of d intents", _merged(whole, out)),
    ]
    with (out / "paper.md").open("w", encoding="utf-8") as file:
        file.write(_introduction(data))
        for title, text in parts:
            text = text or "Nothing has been computed for this part.\n"
            file.write(f"\n## {title}\n\n{text}")


def _introduction(data):
    return f"""# The paper's protocol

Top-1 accuracy in percent on the test sets of {len(list(data))} files of embeddings:
{", ".join(data)}. Files of ten classes have the paper's four tasks: all, even and odd
classes and the first three. Accuracies on all training data are medians over
{N_DRAWS} seeds where a method has any, those of few shots means over {N_DRAWS} draws of
`NShotSplit`. No hyperparameter is chosen on test data, but for one row that says so.
Fits are timed in processor seconds of one thread, among other work on the machine.

Written by `make bench-paper` with skimprint {__version__}, scikit-learn
{sklearn.__version__}, NumPy {np.__version__}, Python {platform.python_version()}.
"""


def _table_1(papers, whole, out):
    methods = [name for name in FRAMEWORK | PEERS | OURS if name in papers]
    if not set(ORACLE) <= set(methods):
        return ""
    table = papers[methods].copy()
    table[HINDSIGHT] = table[ORACLE].max(axis=1)
    n_tasks = table.groupby("data").transform("size")
    ranked = table.drop(columns=ORACLE).dropna()
    ranking = rank(ranked)

    columns = table.groupby("data").mean().T
    columns.insert(0, "average rank", ranking.ranks)
    columns.insert(0, f"average of {len(table)}", table.mean())
    if (n_tasks == 4).any() and (n_tasks != 4).any():
        papers_pairs = table[n_tasks == 4]
        name = f"average of {len(papers_pairs)} pairs"
        columns.insert(0, name, papers_pairs.mean())
    seconds = whole[whole["task"] == "all"].groupby("method")["fit_seconds"].mean()
    columns["fit (s)"] = seconds

    plots.critical_differences(ranking, out / "paper_ranks.png")
    wins = (ranked[WESTERHOFF] > ranked[QI]).sum()
    text = (
        "Each data set's column is the mean over its tasks. Ranks are over all "
        f"{len(ranked)} pairs of a data set and a task.\n\n"
        + _markdown(columns.sort_values(columns.columns[0], ascending=False))
        + f"\nThe paper's method beats Qi's on {wins} of {len(ranked)} pairs. "
        f"Friedman: chi-squared {ranking.statistic:.1f}, p = {ranking.p_value:.1e}. "
        "The tasks of a data set share samples, so that p-values are too small.\n\n"
        "![Average ranks](paper_ranks.png)\n\n"
        "p-values of Wilcoxon's signed-rank test with Holm's correction:\n\n"
        + _markdown(ranking.pairwise, "{:.2g}")
    )
    for name in OURS:
        lead = table[name].mean() - table[HINDSIGHT].mean()
        text += (
            f"\n{name}: {lead:+.2f} against least squares with the best alpha in "
            "hindsight"
        )
        if LOGISTIC in table:
            times = seconds[LOGISTIC] / seconds[name]
            lead = table[name].mean() - table[LOGISTIC].mean()
            text += (
                f", {lead:+.2f} against logistic regression, whose fit takes "
                f"{times:.1f} times as long"
            )
        text += ".\n"
    return text


def _generators(papers, out):
    if not {f"{name} {k}" for name in GENERATORS for k in N_PROXIES} <= set(papers):
        return ""
    table = pd.DataFrame(
        {
            name: [papers[f"{name} {k}"].mean() for k in N_PROXIES]
            for name in GENERATORS
        },
        index=pd.Index(N_PROXIES, name="k"),
    )
    plots.lines(table, "proxies per class", out / "paper_generators.png")
    return (
        f"Average over {len(papers)} pairs, with the norms and the aggregation of the "
        "paper's method.\n\n"
        + _markdown(table.T)
        + "\n![Accuracy by number of proxies](paper_generators.png)\n"
    )


def _aggregations(papers):
    methods = [WESTERHOFF, *(name for name in MNN if name in papers)]
    if len(methods) == 1:
        return ""
    table = pd.DataFrame(
        {
            "average": papers[methods].mean(),
            "average rank": papers[methods].rank(axis=1, ascending=False).mean(),
        }
    )
    return (
        "`max` (first row) against the votes of the m nearest, of 20 proxies per class "
        f"and of all samples; {len(papers)} pairs.\n\n" + _markdown(table)
    )


def _few_shots(frame, papers, out):
    methods = [name for name in FRAMEWORK | PEERS | OURS if name in papers]
    curves = frame[(frame["task"] == "all") & frame["method"].isin(methods)]
    # A mean with a fit that failed, or that is yet to be done, is none.
    curves = curves.groupby(["data", "method", "shots"])["accuracy"].agg(
        lambda draws: draws.mean(skipna=False)
    )
    by_data = {
        name: curves[name].unstack("method").reindex(SHOTS).dropna(how="all")[methods]
        for name in curves.index.get_level_values("data").unique()
    }
    shots = [n for n in SHOTS if any(n in table.index for table in by_data.values())]
    if shots == ["all"]:
        return ""
    counts = [sum(n in table.index for table in by_data.values()) for n in shots]
    average = pd.DataFrame(
        {
            n: pd.concat([t.loc[n] for t in by_data.values() if n in t.index], axis=1)
            .mean(axis=1, skipna=False)
            .reindex(methods)
            for n in shots
        }
    )
    rivals = average.drop(index=["Hosoda", "Janson", *OURS], errors="ignore").max()
    for name in OURS:
        average.loc[f"{name}, less the best of the others"] = average.loc[name] - rivals
    leaders = list(OURS) or [WESTERHOFF]
    plots.small_multiples(
        {"average": average.loc[methods].T, **by_data},
        "shots",
        out / "paper_shots.png",
        highlight=leaders,
    )
    text = _markdown(average.rename(columns=str))
    return (
        "Nested draws; the files' test sets. A data set takes part as long as each "
        "class has samples to spare: "
        + ", ".join(f"{n} shots {c}" for n, c in zip(shots, counts, strict=True))
        + " data sets. A dash is a method that fails on so few samples.\n\n"
        + text
        + "\n![Accuracy by shots](paper_shots.png)\n"
    )


def _gain(pairs, whole, data, out):
    if WESTERHOFF not in pairs:
        return ""
    points = []
    for name, task in pairs.index:
        row = pairs.loc[name, task]
        baseline = QI if task in PAPER_TASKS else "k-means 1"
        draws = range(N_DRAWS) if task in MERGED_TASKS else range(1)
        scores = []
        for draw in draws:
            support = data.task(Cell(name, task, "all", draw, ""))
            scores.append(neural_collapse_score(support.X_train, support.y_train))
        points.append([name, task, np.median(scores), row[WESTERHOFF] - row[baseline]])
    table = pd.DataFrame(points, columns=["data", "task", "NC1", "gain"]).dropna()
    if len(table) < 3:
        return ""
    plots.scatter(table, "data", out / "paper_nc1.png")
    correlation, p_value = spearmanr(table["NC1"], table["gain"])
    return (
        "Accuracy of 20 k-means proxies less that of the mean, against the NC1 of the "
        "training set. Spearman's correlation over "
        f"{len(table)} points: {correlation:.2f} (p = {p_value:.1e}).\n\n"
        "![Gain against NC1](paper_nc1.png)\n\n"
        + _markdown(table.set_index(["data", "task"]).round(2))
    )


def _merged(whole, out):
    merged = whole[whole["task"].isin(list(MERGED_TASKS))]
    if merged.empty:
        return ""
    table = merged.groupby(["task", "method"])["accuracy"].mean().unstack("task")
    table = table.loc[[f"k-means {k}" for k in MERGED_K], list(MERGED_TASKS)]
    table.index = pd.Index(MERGED_K, name="k")
    best = ", ".join(
        f"d = {d}: k = {table[task].idxmax()}" for task, d in MERGED_TASKS.items()
    )
    plots.lines(table, "proxies per label", out / "paper_merged.png")
    return (
        "Seven labels, each made of d random classes. Mean accuracy over "
        f"{N_DRAWS} draws of the classes by number of proxies k. The best k: {best}. "
        "Where that is more than d, the paper has it that the curve bends at k = d."
        "\n\n"
        + _markdown(table.T)
        + "\n![Accuracy by number of proxies](paper_merged.png)\n"
    )


def _markdown(table, number="{:.2f}"):
    """A table in Markdown, its index as first columns."""
    header = [*map(str, table.index.names), *map(str, table.columns)]
    header = ["" if name == "None" else name for name in header]
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for key, row in zip(table.index, table.to_numpy(), strict=True):
        keys = key if isinstance(key, tuple) else (key,)
        cells = ["-" if pd.isna(value) else number.format(value) for value in row]
        lines.append("| " + " | ".join([*map(str, keys), *cells]) + " |")
    return "\n".join(lines) + "\n"
