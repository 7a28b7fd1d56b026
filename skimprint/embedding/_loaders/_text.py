"""What the loaders of text models share."""

import re

from ..._arrays.threads import ForkSafeLock
from .._items import ItemError

_SURROGATE = re.compile("[\ud800-\udfff]")


def guarded(tokenize, lock=None):
    """Let one thread at a time tokenize, and refuse texts that nothing is made of.

    A tokenizer keeps settings that calls change. Texts without a token would, in a
    batch, get rows made of padding, and fail in the model by themselves.
    """
    lock = lock or ForkSafeLock()

    def tokenize_guarded(texts):
        try:
            with lock:
                inputs = tokenize(texts)
        except Exception as error:
            if any(isinstance(each, str) and _SURROGATE.search(each) for each in texts):
                raise ItemError(
                    "the text has a surrogate, half of a character, which comes of "
                    "cutting or decoding it wrongly; where that does no harm, replace "
                    "it: text.encode('utf-8', 'replace').decode()"
                ) from error
            raise
        mask = inputs.get("attention_mask") if hasattr(inputs, "get") else None
        if mask is not None and not (mask != 0).any(1).all():
            raise ItemError(
                "the tokenizer makes no token of it, so that there is nothing to "
                "embed: leave such texts out, or put something in their place"
            )
        return inputs

    return tokenize_guarded


def vocabulary_of(tokenizer):
    """Get the vocabulary of a tokenizer, if it has one to tell."""
    return tokenizer.get_vocab() if hasattr(tokenizer, "get_vocab") else None


def cutter(tokenizer, n_tokens):
    """Make a function that cuts off what is beyond the tokens that a model takes.

    Each word makes a token at least, and no token is longer than the longest one of the
    vocabulary. (A word that is long and unknown may be a single token, but then it is
    that without its end, too.) Words of neither letters, digits nor signs of ASCII are
    not counted: models drop what is invisible or could not be decoded.

    Parameters
    ----------
    tokenizer : object
        With ``get_vocab`` if it has a vocabulary to tell.
    n_tokens : int
        Most tokens that the model takes.

    Returns
    -------
    cut : callable
        From a text to its beginning. Tokenizing that takes time in proportion to
        ``n_tokens``, however long the text is.
    """
    vocabulary = vocabulary_of(tokenizer) or ()
    special = {*getattr(tokenizer, "all_special_tokens", ()), "\u2581"}  # as a space
    if vocabulary and special.issuperset(vocabulary):
        # What transformers makes of a folder without the files of a tokenizer.
        raise ValueError(
            f"The tokenizer of {getattr(tokenizer, 'name_or_path', 'the model')!r} "
            "knows no words, only its special tokens: its files are missing. Save it "
            "where the model is: tokenizer.save_pretrained(folder)."
        )
    if getattr(tokenizer, "truncation_side", "right") != "right":
        return lambda text: text
    n_letters = n_tokens * max(map(len, vocabulary), default=64)
    n_letters = max(n_letters, 200)  # more than makes a word unknown for its length

    def cut(text):
        if len(text) <= n_letters:
            return text
        kept, n_words = [], 0
        for match in re.finditer(r"(\s*)(\S*)", text):
            space, word = (part[:n_letters] for part in match.groups())
            kept += [space, word]
            n_words += any(sign.isalnum() or "!" <= sign <= "~" for sign in word)
            if n_words == n_tokens:
                break
        return "".join(kept)

    return cut
