"""What the loaders of text models share."""

import threading


def one_at_a_time(tokenize):
    """Let only one thread use a tokenizer, which keeps settings that calls change."""
    lock = threading.Lock()

    def guarded(texts):
        with lock:
            return tokenize(texts)

    return guarded
