"""Small, uneven and doubled supports: accuracy, rejection and probabilities."""

import warnings
from unittest import mock

import numpy as np
from _side_by_side import heading, load, progress, table
from scipy.special import log_softmax
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_sample_weight

from skimprint import ImprintClassifier, ImprintClassifierCV, Rejection
from skimprint.methods import RECOMMENDED
from skimprint.normalization import l2_normalize

PICTURES = [
    *(
        f"{name}_mobilenet_v{i}"
        for name in ("cifar10", "mnist", "usps")
        for i in (1, 2)
    ),
    "fashion_efflite0",
]
TEXTS = "debian_e5small"
DRAWS = 10
SHOTS = [2, 5, 20]
CLASSES = [2, 5, 10, 41]
WHITENINGS = {"whitening": [0.01, 0.03, 0.1, 0.3, 0.6, 0.9]}
# Of both, what is best for the queries of a draw is taken, in hindsight.
TEMPERATURES = np.geomspace(1e-3, 10, 80)
CS = [1, 10, 100]


def draw(data, n_classes, sizes, rng):
    """A support of random classes with so many samples, and all of their queries."""
    X, y, X_test, y_test = data
    labels = rng.permutation(np.unique(y))[:n_classes]
    rows = [
        rng.permutation(np.flatnonzero(y == label))[:size]
        for label, size in zip(labels, np.resize(sizes, len(labels)), strict=True)
    ]
    rows, asked = np.concatenate(rows), np.isin(y_test, labels)
    return (X[rows], y[rows]), (X_test[asked], y_test[asked])


def default(**params):
    return ImprintClassifier(random_state=0, **params)


def one_shot(data, rng):
    """Accuracy by whitening."""
    support, queries = draw(data, None, 1, rng)
    fits = [default(whitening=each).fit(*support) for each in (None, 1.0, "auto")]
    return [100 * fit.score(*queries) for fit in fits]


def long_tails(data, rng):
    """Accuracy by setting, of queries as frequent as samples, and of classes alike."""
    sizes = np.geomspace(200, 1, len(np.unique(data[1]))).round().astype(int)
    (X, y), (X_test, y_test) = draw(data, None, sizes, rng)
    fits = [
        default().fit(X, y),
        default(whitening=0.3).fit(X, y),
        ImprintClassifierCV(default(), WHITENINGS).fit(X, y).best_estimator_,
        default().fit(X, y, compute_sample_weight("balanced", y)),
    ]
    alike = compute_sample_weight("balanced", y_test)
    weights = alike * np.bincount(y)[y_test], alike
    return [100 * fit.score(X_test, y_test, each) for each in weights for fit in fits]


def rejected(support, queries, params=None):
    """Tell which queries a rejection of 5 % rejects."""
    clf = default(rejection=Rejection(-1, rate=0.05), **params or {}).fit(*support)
    return 100 * (clf.predict(queries) == -1)


def few_samples(data, rng):
    """Share of the queries of five known classes that is rejected, by shots.

    And with most of them, that of the queries of all other classes.
    """
    draws = [draw(data, 5, shots, rng) for shots in SHOTS]
    support = draws[-1][0]
    unknown = data[2][~np.isin(data[3], support[1])]
    draws.append((support, (unknown, None)))
    return [rejected(support, queries[0]).mean() for support, queries in draws]


def small_beside_large(data, rng):
    """Rejected shares of queries of classes with 1 or 2 samples, and with 60."""
    shares = []
    for n in (1, 2):
        support, queries = draw(data, None, [n, 60], rng)
        is_small = np.bincount(support[1])[queries[1]] == n
        found = rejected(support, queries[0])
        shares += [found[is_small].mean(), found[~is_small].mean()]
    return shares


def some_of_one(data, rng):
    """Rejected shares, by setting, where some classes have one sample."""
    n_alone = rng.integers(2, 6)
    sizes = [1] * n_alone + [*rng.integers(2, 61, 7 - n_alone)]
    support, queries = draw(data, 7, sizes, rng)
    settings = {}, RECOMMENDED, {"metric": "mahalanobis"}
    return [rejected(support, queries[0], params).mean() for params in settings]


def near_copies(data, rng):
    """Rejected share with 200 pictures once, twice, and twice with a little noise."""
    X, y = data
    order = rng.permutation(len(y))
    chosen, labels, queries = X[order[:200]], y[order[:200]], X[order[200:]]
    noisy = chosen + 0.02 * np.ptp(X) * rng.standard_normal(chosen.shape)
    twice = np.tile(labels, 2)
    supports = (
        (chosen, labels),
        (np.concatenate([chosen, chosen]), twice),
        (np.concatenate([chosen, noisy]), twice),
    )
    return [rejected(support, queries).mean() for support in supports]


def losses(clf, queries, temperatures):
    """Log loss at each temperature, and at the best one."""
    scores = clf.set_params(temperature=1.0).predict_log_proba(queries[0])
    rows = np.arange(len(scores)), np.searchsorted(clf.classes_, queries[1])
    found = [
        -log_softmax(scores.astype(float) / each, axis=1)[rows].mean()
        for each in (*temperatures, *TEMPERATURES)
    ]
    return np.array([*found[: len(temperatures)], min(found)])


def prior(data, rng, n_classes, shots):
    """Log loss above that of the best temperature, with a prior and without."""
    support, queries = draw(data, n_classes, shots, rng)
    clf = default().fit(*support)
    with mock.patch("skimprint.classifier._calibration._PRIOR", None):
        without = default().fit(*support).temperature_
    *found, best = losses(clf, queries, [clf.temperature_, without])
    return found - best


def single_samples(data, rng, sizes):
    """Log loss of ours at three temperatures, and of logistic regression."""
    support, queries = draw(data, 10, sizes, rng)
    clf = default().fit(*support)
    X, X_test = map(l2_normalize, (support[0], queries[0]))
    peers = []
    for C in CS:
        peer = LogisticRegression(C=C, max_iter=1000, class_weight="balanced")
        probabilities = peer.fit(X, support[1]).predict_proba(X_test)
        peers.append(log_loss(queries[1], probabilities))
    return [*losses(clf, queries, [clf.temperature_, 1.0]), min(peers)]


def draws(measure, data, *args):
    return [measure(data, np.random.default_rng(i), *args) for i in range(DRAWS)]


def by_set(text, header, measure, sets, *, spread=False):
    """Print what a measure finds: means of draws, and perhaps their deviation."""
    progress(text)
    found = np.array([draws(measure, data) for data in sets.values()])
    numbers = np.stack([found.mean(axis=1), found.std(axis=1)], axis=-1)
    rows = dict(zip(sets, numbers, strict=True))
    if len(rows) > 1:
        rows["mean"] = numbers.mean(axis=0)
    form = "{:.1f} (± {:.1f})" if spread else "{:.1f}"
    print(f"{text}:\n")
    table(
        ["data", *header],
        [[name, *(form.format(*each) for each in row)] for name, row in rows.items()],
    )


def main():
    warnings.filterwarnings("ignore", "The least populated class")
    heading(
        "Small, uneven and doubled supports",
        "The default of `ImprintClassifier` with supports that are not as one would "
        "like them. Seven files of embeddings of pictures (ten classes) and one of "
        "short texts (41 classes), with samples drawn from their training sets; the "
        "queries are all of their test sets that are of the classes drawn. Means of "
        f"{DRAWS} draws.",
    )
    sets = {name: data for name in [*PICTURES, TEXTS] if (data := load(name))}
    pictures = {name: sets[name] for name in PICTURES if name in sets}
    by_set(
        "Share of queries rejected where 5 % are asked for, in %, and the standard "
        "deviation of one draw, with 200 of scikit-learn's digits as pixels in the "
        "support, once, twice, or beside a copy with a noise of 2 % of the range",
        ["once", "twice", "once, and with noise"],
        near_copies,
        {"digits": load_digits(return_X_y=True)},
        spread=True,
    )
    if not sets:
        return
    by_set(
        "The same with five known classes, by the samples of each, and of the queries "
        f"of the five unknown ones with {SHOTS[-1]} samples",
        [*(f"{shots} samples" for shots in SHOTS), f"unknown, {SHOTS[-1]} samples"],
        few_samples,
        pictures,
        spread=True,
    )
    by_set(
        "The same where every other class has one sample, or two, and the rest 60, by "
        "the class of the query",
        ["of 1", "of 60 beside 1", "of 2", "of 60 beside 2"],
        small_beside_large,
        pictures,
        spread=True,
    )
    by_set(
        "The same of seven classes, two to five of them with one sample and the others "
        "with 2 to 60, by setting",
        ["default", "recommended", "metric='mahalanobis'"],
        some_of_one,
        pictures,
        spread=True,
    )
    by_set(
        "Accuracy in %, with one sample of each class; 1.0 only centres the space",
        ["whitening=None", "whitening=1.0", "default"],
        one_shot,
        sets,
    )
    settings = ["default", "0.3", "search", "weights"]
    by_set(
        "Accuracy in % on long tails: the samples of a class fall exponentially from "
        "200, or all there are, to one. Settings are the default, `whitening=0.3`, a "
        "whitening that `ImprintClassifierCV` chooses by accuracy, and the default "
        "with weights of samples that make classes equal. Queries are as frequent as "
        "the samples of their class, or all classes alike",
        [f"{kind}: {each}" for kind in ("frequent", "alike") for each in settings],
        long_tails,
        sets,
    )
    print(
        "Log loss above that of the best temperature in hindsight, with the prior of "
        "the temperature / without it. With 41 classes, texts only. The prior, and "
        "what classes of one sample add to a temperature, were found on these files "
        "and on Banking77:\n"
    )
    found = {}
    for n_classes in CLASSES if TEXTS in sets else CLASSES[:-1]:
        progress(f"prior, {n_classes} classes")
        some = [each for each in sets.values() if len(np.unique(each[1])) >= n_classes]
        found[n_classes] = [
            [draws(prior, data, n_classes, shots) for data in some] for shots in SHOTS
        ]
    rows = [
        [n, *("{:.3f} / {:.3f}".format(*np.mean(each, axis=(0, 1))) for each in row)]
        for n, row in found.items()
    ]
    table(["classes", *(f"{shots} samples" for shots in SHOTS)], rows)
    print(
        "Log loss of ten classes, where each or every other one has one sample, mean "
        "of all files. Logistic regression, balanced and of unit vectors, has that C "
        f"of {CS} that is best in hindsight:\n"
    )
    rows = []
    for n in (1, 5, 20, 60):
        progress(f"single samples, others {n}")
        row = [draws(single_samples, data, [1, n]) for data in sets.values()]
        rows.append([n, *(f"{each:.2f}" for each in np.mean(row, axis=(0, 1)))])
    header = ["temperature=1.0", "best temperature", "logistic regression"]
    table(["samples of the others", "default", *header], rows)


if __name__ == "__main__":
    main()
