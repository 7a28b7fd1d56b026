"""Are methods different? Ranks, Friedman's test, Wilcoxon's corrected by Holm."""

from typing import NamedTuple

import pandas as pd
import scikit_posthocs
from scipy.stats import friedmanchisquare


class Ranking(NamedTuple):
    """What the tests say about methods that were measured on the same cases."""

    ranks: pd.Series  # average rank of each method, the best one first
    statistic: float  # Friedman's chi-squared
    p_value: float
    pairwise: pd.DataFrame  # p-values of Wilcoxon's signed-rank test, Holm-corrected


def rank(accuracies):
    """Compare methods over cases.

    Parameters
    ----------
    accuracies : DataFrame of shape (n_cases, n_methods)
        The accuracy of each method in each case.

    Returns
    -------
    ranking : Ranking
        1 is the best rank; ties share theirs.
    """
    ranks = accuracies.rank(axis=1, ascending=False).mean().sort_values()
    columns = [accuracies[method].to_numpy() for method in ranks.index]
    statistic, p_value = friedmanchisquare(*columns)
    pairwise = scikit_posthocs.posthoc_wilcoxon(
        columns, zero_method="zsplit", p_adjust="holm"
    )
    pairwise.index = pairwise.columns = ranks.index
    return Ranking(ranks, float(statistic), float(p_value), pairwise)
