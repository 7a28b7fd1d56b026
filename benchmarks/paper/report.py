"""From finished fits to tables in Markdown and LaTeX, and pictures."""

import platform

import numpy as np
import pandas as pd
import plots
import sklearn
from conditions import BLURRED, CLEAN, TAIL, UNKNOWN
from experiments import (
    CONDITION_SHOTS,
    CONDITION_SHOTS_OF_MANY,
    PAPER_TASKS,
    REAL_CONDITIONS,
    UNKNOWN_SHOTS,
    condition_shots,
)
from methods import (
    DETECTORS,
    FRAMEWORK,
    GENERATORS,
    LINEAR_SVM,
    LOGISTIC,
    MERGED_K,
    MNN,
    MOST_SHOTS,
    N_PROXIES,
    ORACLE,
    OURS,
    PEERS,
    PROBABILISTIC,
    QI,
    RBF_SVM,
    UNDER_CONDITIONS,
    WESTERHOFF,
    WHITENED,
)
from page import Page
from protocol import MERGED_TASKS, N_QUERIES, PROBABILITY_SHOTS, SHOTS, Cell
from ranking import rank
from scipy.stats import spearmanr

from skimprint import __version__
from skimprint.metrics import neural_collapse_score

HINDSIGHT = "least squares, best alpha in hindsight"
#: Fewer cases of a data set and a task are not ranked.
FEWEST_RANKED = 6


def write(rows, data, plan, out):
    """Write ``paper.md``, ``paper.tex`` and the pictures.

    Parameters
    ----------
    rows : dict of {Cell: dict}
        What has been computed; parts that are missing are left out, and said to be.
    data : Data
        The data sets.
    plan : Plan
        What was to be computed.
    out : Path
        Folder of the report.
    """
    frame = pd.DataFrame(
        [{**cell._asdict(), **row} for cell, row in rows.items()],
        columns=[*Cell._fields, *MEASURES, "fit_seconds", "error"],
    )
    frame[["accuracy", "auroc"]] *= 100
    # Medians over seeds, as in the paper, for each pair of a data set and a task.
    whole = frame[frame["shots"] == "all"]
    pairs = whole.pivot_table(
        index=["data", "task"], columns="method", values="accuracy", aggfunc="median"
    )
    papers = pairs[pairs.index.get_level_values("task").isin(PAPER_TASKS)]

    page = Page()
    _introduction(page, frame, data, plan)
    for title, part in {
        "Few shots": lambda: _few_shots(page, frame, plan, out),
        "Real conditions": lambda: _real_conditions(page, frame, data, plan),
        "Unknown queries": lambda: _unknown_queries(page, frame, plan),
        "Probabilities": lambda: _probabilities(page, frame, plan),
        "On all training data": lambda: _table_1(page, papers, whole, plan, out),
        "Generators by number of proxies": lambda: _generators(page, papers, out),
        "Aggregations": lambda: _aggregations(page, papers),
        "Gain of several proxies against NC1": lambda: _gain(
            page, pairs, data, plan, out
        ),
        "Labels made of d intents": lambda: _merged(page, whole, plan, out),
    }.items():
        page.heading(title)
        if part() is False:
            page.text("Nothing has been computed for this part.")
    page.write(out / "paper")


MEASURES = ("accuracy", "auroc", "log_loss")


def _introduction(page, frame, data, plan):
    page.heading("The paper's protocol, and real conditions", level=1)
    own = f"Methods of your own: {', '.join(plan.own)}. " if plan.own else ""
    page.text(
        f"Heads on {len(list(data))} files of embeddings: {', '.join(data)}. Accuracy "
        "is top-1, in percent, on the files' test sets (up to "
        f"{N_QUERIES:,} random queries of them, and all of them after fits to all "
        "training data). No hyperparameter is chosen on test data, but for one row "
        "that says so. Time is that of one processor with one thread, among other work "
        "on the machine."
    )
    page.text(
        "**Ours** are the default of `ImprintClassifier`, which has proxies only, and "
        "the recommended setting, which has a kernel regression besides. **Published** "
        f"are {', '.join(name for name in FRAMEWORK if name not in ORACLE)} and least "
        "squares with three alphas, each with the norms that it was published with. "
        f"**Peers** are {', '.join(PEERS)}. All peers get the norm that our settings "
        "choose: square roots where no embedding of the support is negative, then unit "
        "length. Ridge has its alpha, RBF kernel ridge its alpha and width by leaving "
        "samples out in closed form (on up to 1,000 samples), logistic regression and "
        "the SVMs their parameters by three folds of the support; GDA is Gaussian "
        "discriminant analysis as in Wang et al. (2024), shrinkage LDA is "
        "scikit-learn's, with the shrinkage of Ledoit and Wolf. The time of SVMs grows "
        f"faster than that of others: {LINEAR_SVM} is fitted to up to "
        f"{MOST_SHOTS[LINEAR_SVM]} shots, {RBF_SVM} to up to {MOST_SHOTS[RBF_SVM]}. "
        + own
    )
    page.text(
        f"Written by `python benchmarks/paper` with skimprint {__version__}, "
        f"scikit-learn {sklearn.__version__}, NumPy {np.__version__}, Python "
        f"{platform.python_version()}."
    )
    failed = frame[frame["error"].notna()]
    for method, rows in failed.groupby("method"):
        error, where = rows["error"].iloc[0], rows["shots"].unique()
        page.text(
            f"Fits of {method} that failed, at {', '.join(map(str, where))} shots: "
            f'{len(rows)}, the first with "{error}"'
        )


def _few_shots(page, frame, plan, out):
    methods = [*FRAMEWORK, *PEERS, *OURS, *plan.own]
    curves = frame[
        (frame["task"] == "all")
        & (frame["condition"] == CLEAN)
        & frame["shots"].isin([*plan.shots, "all"])
        & frame["method"].isin(methods)
    ]
    shots = [n for n in SHOTS if n in set(curves["shots"])]
    if not shots:
        return False
    if "all" in set(curves["shots"]):
        shots.append("all")
    means = _mean_of_draws(curves, ["data", "method", "shots"])
    by_data = {
        name: means[name].unstack("method").reindex(index=shots, columns=methods)
        for name in means.index.get_level_values("data").unique()
    }
    by_data = {name: table.dropna(how="all") for name, table in by_data.items()}
    counts = [sum(n in table.index for table in by_data.values()) for n in shots]
    average = pd.DataFrame(
        {
            n: pd.concat([t.loc[n] for t in by_data.values() if n in t.index], axis=1)
            .mean(axis=1, skipna=False)
            .reindex(methods)
            for n in shots
        }
    )
    average.index.name = "method"
    plots.small_multiples(
        {"average": average.T, **by_data},
        "shots",
        out / "paper_shots.png",
        highlight=[*OURS, *plan.own],
    )
    page.text(
        f"Means over files and {_draws(curves)} nested draws of `NShotSplit`. A file "
        "takes part as long as each class has samples to spare: "
        + ", ".join(f"{n} shots {c}" for n, c in zip(shots, counts, strict=True))
        + " files. A dash is a method that fails on so few samples, or takes too long "
        "with so many."
    )
    page.table(_with_leads(average, plan), "Accuracy by number of shots")
    page.picture("Accuracy by shots", "paper_shots.png")
    for name in (*OURS, *plan.own):
        leads = pd.DataFrame(
            {
                # Indices alike: numbers and "all" cannot be sorted together.
                data: (table[name] - table[_others(table)].max(axis=1)).reindex(shots)
                for data, table in by_data.items()
            }
        ).T
        page.text(
            f"{name} less the best of the published and the peers, file by file. The "
            f"best is that of each cell in hindsight. Below zero, it is better than "
            f"{name}, which is so in {(leads < 0).sum().sum()} of "
            f"{leads.notna().sum().sum()} cells:"
        )
        page.table(leads, f"Lead of {name} by file and number of shots")
    return True


def _real_conditions(page, frame, data, plan):
    methods = [*UNDER_CONDITIONS, *plan.own]
    shots = {name: condition_shots(data, name) for name in data}
    rows = frame[
        frame["condition"].isin(REAL_CONDITIONS)
        & (frame["task"] == "all")
        & frame["method"].isin(methods)
        & (frame["shots"] == frame["data"].map(shots))
        & (frame["draw"] < plan.n_condition_draws)
    ]
    if set(rows["condition"]) <= {CLEAN}:
        return False
    means = _mean_of_draws(rows, ["condition", "method", "data"])
    table = means.groupby(["condition", "method"]).mean().unstack("condition")
    conditions = [name for name in REAL_CONDITIONS if name in table]
    table = table.reindex(index=methods, columns=conditions)
    blurred = sorted(set(rows.loc[rows["condition"] == BLURRED, "data"]))
    page.text(
        f"{CONDITION_SHOTS} samples of a class, or as many as there are; "
        f"{CONDITION_SHOTS_OF_MANY} of more than 20 classes. Means over "
        f"{rows['data'].nunique()} files and {_draws(rows)} draws. In the long tail "
        f"the samples of a class fall from {TAIL} times as many to one, exponentially, "
        "and peers that can give all classes the same weight or prior do so. Wrong "
        "labels are random others. Embeddings, of support and queries, are rounded to "
        "8 bits by the largest value of each (int8), or only the first half of their "
        "features is kept."
        + (f" Blurred queries: {', '.join(blurred)} only." if blurred else "")
    )
    page.table(_with_leads(table, plan), "Accuracy under real conditions")
    for name in (*OURS, *plan.own):
        leads = pd.DataFrame(
            {
                condition: each[name] - each[_others(each)].max(axis=1)
                for condition in conditions
                for each in [means[condition].unstack("method")]
                if name in each
            }
        )
        page.text(f"{name} less the best of the others, file by file:")
        page.table(leads, f"Lead of {name} by file and condition")
    return True


def _unknown_queries(page, frame, plan):
    methods = [*DETECTORS, *plan.own]
    rows = frame[(frame["condition"] == UNKNOWN) & frame["method"].isin(methods)]
    if rows.empty:
        return False
    table = _mean_of_draws(rows, ["method", "data"], "auroc").unstack("data")
    table = table.reindex([name for name in methods if name in table.index])
    table.insert(0, "average", table.mean(axis=1, skipna=False))
    signal = {name: text for name, (_, text) in DETECTORS.items()}
    table.insert(0, "by", [signal.get(name, "own") for name in table.index])
    page.text(
        "Area under the ROC curve, in percent, of how familiar queries are: a random "
        f"half of the classes is known, with {UNKNOWN_SHOTS} samples of each, and the "
        f"queries are of all classes. Means over {_draws(rows)} draws."
    )
    page.table(table, "Area under the ROC curve of unknown queries")
    return True


def _probabilities(page, frame, plan):
    methods = [*PROBABILISTIC, *plan.own]
    rows = frame[
        (frame["condition"] == CLEAN)
        & (frame["task"] == "all")
        & frame["shots"].isin(PROBABILITY_SHOTS)
        & frame["method"].isin(methods)
    ]
    if rows["log_loss"].isna().all():
        return False
    table = _mean_of_draws(rows, ["method", "data", "shots"], "log_loss")
    average = table.groupby(["method", "shots"]).mean().unstack("shots")
    average = average.reindex([name for name in methods if name in average.index])
    page.text(
        "Log loss of the probabilities as they come (less is better), at some numbers "
        f"of shots, means over files and {_draws(rows)} draws; below, file by file. "
        "Logistic regression has its C by cross-validated log loss."
    )
    page.table(average, "Log loss by number of shots", "{:.3f}")
    by_file = table.unstack("method").reindex(columns=average.index)
    page.table(by_file, "Log loss by file and number of shots", "{:.3f}")
    return True


def _table_1(page, papers, whole, plan, out):
    methods = [*FRAMEWORK, *PEERS, *OURS, *WHITENED, *plan.own]
    methods = [name for name in methods if name in papers]
    if not {QI, WESTERHOFF, *ORACLE} <= set(methods):
        return False
    table = papers[methods].dropna()
    table[HINDSIGHT] = table[ORACLE].max(axis=1)
    n_tasks = table.groupby("data").transform("size")
    ranked = table.drop(columns=ORACLE)

    columns = table.groupby("data").mean().T
    columns.insert(0, f"average of {len(table)}", table.mean())
    if (n_tasks == 4).any() and (n_tasks != 4).any():
        papers_pairs = table[n_tasks == 4]
        name = f"average of {len(papers_pairs)} pairs"
        columns.insert(0, name, papers_pairs.mean())
    seconds = whole[whole["task"] == "all"].groupby("method")["fit_seconds"].mean()
    columns["fit (s)"] = seconds
    ranking = rank(ranked) if len(ranked) >= FEWEST_RANKED else None
    if ranking:
        columns.insert(0, "average rank", ranking.ranks)

    page.text(
        f"{len(table)} pairs of a file and a task. Files of ten classes have the "
        "paper's four tasks, all, even and odd classes and the first three; others "
        "one. Accuracies are medians over "
        f"{_draws(whole)} seeds where a method has any. Each file's column is the mean "
        "over its tasks."
    )
    best = columns.columns[1 if ranking else 0]
    page.table(
        columns.sort_values(best, ascending=False), "Accuracy on all training data"
    )
    wins = (table[WESTERHOFF] > table[QI]).sum()
    page.text(f"The paper's method beats Qi's on {wins} of {len(table)} pairs.")
    if ranking:
        _ranks(page, ranking, len(ranked), out)
    peers = [name for name in PEERS if name in table]
    for name in (*OURS, *plan.own):
        rivals = {HINDSIGHT: table[HINDSIGHT], **{p: table[p] for p in peers}}
        leads = [
            f"{(table[name] - rival).mean():+.2f} against {other}"
            for other, rival in rivals.items()
        ]
        text = f"{name}: {', '.join(leads)}. Its fit takes {seconds[name]:.2g} s"
        if LOGISTIC in seconds:
            times = seconds[LOGISTIC] / seconds[name]
            text += f", that of {LOGISTIC} {times:.1f} times as long"
        page.text(text + ".")
    return True


def _ranks(page, ranking, n_ranked, out):
    plots.critical_differences(ranking, out / "paper_ranks.png")
    page.text(
        f"Friedman over {n_ranked} pairs: chi-squared {ranking.statistic:.1f}, p = "
        f"{ranking.p_value:.1e}. The tasks of a file share samples, so that p-values "
        "are too small."
    )
    page.picture("Average ranks", "paper_ranks.png")
    page.text("p-values of Wilcoxon's signed-rank test with Holm's correction:")
    page.table(
        ranking.pairwise, "p-values of Wilcoxon's test, Holm-corrected", "{:.2g}"
    )


def _generators(page, papers, out):
    methods = [f"{name} {k}" for name in GENERATORS for k in N_PROXIES]
    if not set(methods) <= set(papers):
        return False
    papers = papers[methods].dropna()
    table = pd.DataFrame(
        {
            name: [papers[f"{name} {k}"].mean() for k in N_PROXIES]
            for name in GENERATORS
        },
        index=pd.Index(N_PROXIES, name="k"),
    )
    plots.lines(table, "proxies per class", out / "paper_generators.png")
    page.text(
        f"Average over {len(papers)} pairs, with the norms and the aggregation of the "
        "paper's method."
    )
    page.table(table.T, "Accuracy of generators by number of proxies")
    page.picture("Accuracy by number of proxies", "paper_generators.png")
    return True


def _aggregations(page, papers):
    methods = [WESTERHOFF, *MNN]
    if not set(methods) <= set(papers):
        return False
    papers = papers[methods].dropna()
    table = pd.DataFrame(
        {
            "average": papers.mean(),
            "average rank": papers.rank(axis=1, ascending=False).mean(),
        }
    )
    page.text(
        "`max` (first row) against the votes of the m nearest, of 20 proxies per class "
        f"and of all samples; {len(papers)} pairs."
    )
    page.table(table, "Accuracy of aggregations")
    return True


def _gain(page, pairs, data, plan, out):
    if WESTERHOFF not in pairs:
        return False
    points = []
    for name, task in pairs.index:
        row = pairs.loc[name, task]
        baseline = QI if task in PAPER_TASKS else "k-means 1"
        if baseline not in row:
            continue
        draws = range(plan.n_draws if task in MERGED_TASKS else 1)
        supports = [
            data.problem(Cell(name, task, CLEAN, "all", draw, "")) for draw in draws
        ]
        scores = [
            neural_collapse_score(each.X_train, each.y_train) for each in supports
        ]
        points.append([name, task, np.median(scores), row[WESTERHOFF] - row[baseline]])
    table = pd.DataFrame(points, columns=["data", "task", "NC1", "gain"]).dropna()
    if len(table) < 3:
        return False
    plots.scatter(table, "data", out / "paper_nc1.png")
    correlation, p_value = spearmanr(table["NC1"], table["gain"])
    page.text(
        "Accuracy of 20 k-means proxies less that of the mean, against the NC1 of the "
        "training set. Spearman's correlation over "
        f"{len(table)} points: {correlation:.2f} (p = {p_value:.1e})."
    )
    page.picture("Gain against NC1", "paper_nc1.png")
    page.table(
        table.set_index(["data", "task"]), "Gain of 20 proxies over the mean, and NC1"
    )
    return True


def _merged(page, whole, plan, out):
    merged = whole[whole["task"].isin(list(MERGED_TASKS))]
    if merged.empty:
        return False
    table = merged.groupby(["task", "method"])["accuracy"].mean().unstack("task")
    table = table.reindex([f"k-means {k}" for k in MERGED_K])
    table = table[[task for task in MERGED_TASKS if task in table]]
    table.index = pd.Index(MERGED_K, name="k")
    best = ", ".join(
        f"d = {MERGED_TASKS[task]}: k = {table[task].idxmax()}" for task in table
    )
    plots.lines(table, "proxies per label", out / "paper_merged.png")
    page.text(
        "Seven labels, each made of d random classes. Mean accuracy over "
        f"{_draws(merged)} draws of the classes by number of proxies k. The best k: "
        f"{best}. Where that is more than d, the paper has it that the curve bends at "
        "k = d."
    )
    page.table(table.T, "Accuracy for labels made of d intents")
    page.picture("Accuracy of labels made of d intents", "paper_merged.png")
    return True


def _mean_of_draws(rows, by, measure="accuracy"):
    """Means over draws; with a fit that failed, or that is yet to be done, none."""
    return rows.groupby(by)[measure].agg(lambda draws: draws.mean(skipna=False))


def _draws(rows):
    return rows["draw"].nunique()


def _others(table):
    return [name for name in (*FRAMEWORK, *PEERS) if name in table]


def _with_leads(table, plan):
    """Add what ours, and the user's, are ahead of the best of the others."""
    table = table.copy()
    rivals = table.loc[_others(table.T)].max()
    for name in (*OURS, *plan.own):
        table.loc[f"{name}, less the best of the others"] = table.loc[name] - rivals
    return table
