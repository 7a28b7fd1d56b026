"""From the features of tokens, or of places in an image, to one row for each item."""

from array_api_compat import array_namespace

from ._items import SettingError

# What to do about features of so many dimensions, and of others.
_ADVICE = {
    2: "They are one row for each item already: leave pooling='auto'.",
    3: "Choose 'mean', 'cls', 'max' or 'last'.",
    4: "Choose 'mean' or 'max'.",
}
_OTHERWISE = "Wrap the model in a module that returns one row for each item."


def pool(features, pooling, mask=None, n_prefix=0):
    """Reduce features to one row for each item.

    Parameters
    ----------
    features : array or tensor
        What a model returned, of shape (n, d), (n, n_tokens, d) or (n, d, height,
        width).
    pooling : str
        "mean", "cls" (the first token), "max" or "last" (the last token of a text).
        "auto" takes features that need no pooling.
    mask : tensor of shape (n, n_tokens), default=None
        True at the tokens that are no padding.
    n_prefix : int, default=0
        Number of tokens at the start, such as the class token, that are no part of
        the mean or the maximum.

    Returns
    -------
    rows : tensor of shape (n, d)
        The pooled features.
    """
    xp = array_namespace(features)
    shape = tuple(features.shape)
    if len(shape) == 2 and pooling == "auto":
        return features
    if len(shape) == 4 and pooling in ("mean", "max"):
        features = xp.reshape(features, (*shape[:2], -1))
        features, n_prefix = xp.permute_dims(features, (0, 2, 1)), 0
    elif len(shape) != 3 or pooling in ("auto", "pooler"):
        raise SettingError(
            f"pooling={pooling!r} does not fit what the model returns, features of "
            f"shape {shape}. {_ADVICE.get(len(shape), _OTHERWISE)}"
        )
    if pooling in ("cls", "last"):
        return _end(features, mask, xp, is_last=pooling == "last")
    features = features[:, n_prefix:]
    mask = None if mask is None else (mask[:, n_prefix:] != 0)[:, :, None]
    if pooling == "max":
        if mask is not None:
            features = xp.where(mask, features, -xp.inf)
        return xp.max(features, axis=1)
    if mask is None:
        return xp.mean(features, axis=1)
    mask = xp.astype(mask, features.dtype)
    return xp.sum(features * mask, axis=1) / xp.clip(xp.sum(mask, axis=1), 1.0, None)


def _end(features, mask, xp, *, is_last):
    """Take the first or the last token of each item; padding may be on either side."""
    if mask is None:
        return features[:, -1 if is_last else 0]
    mask = xp.astype(mask, xp.int64)
    places = xp.argmax(xp.cumulative_sum(mask, axis=1) if is_last else mask, axis=1)
    return features[range(len(features)), places]


def output_features(output, pooling):
    """Take the features to pool out of whatever a module returned.

    Parameters
    ----------
    output : tensor or mapping of tensors
        Output of a module; the mappings of transformers are known.
    pooling : str
        As asked for: "pooler" takes the model's own pooled output.

    Returns
    -------
    features : tensor
        For `pool`.
    pooling : str
        What is left to do: "auto" if the features are pooled already.
    """
    if hasattr(output, "shape"):
        return output, pooling
    keys = sorted(output.keys()) if hasattr(output, "keys") else []
    if pooling == "pooler":
        if output_has(output, "pooler_output"):
            rows = output["pooler_output"]
            return rows.reshape(len(rows), -1), "auto"
        raise SettingError(
            "pooling='pooler' needs a model with a pooled output, pooler_output; this "
            f"one has {keys or type(output).__name__}. Choose 'mean', 'cls' or 'max'."
        )
    if output_has(output, "last_hidden_state"):
        return output["last_hidden_state"], pooling
    raise TypeError(
        "The module must return a tensor, or a mapping with 'last_hidden_state'; it "
        f"returned {type(output).__name__}{f' with {keys}' if keys else ''}. Wrap it "
        "in a module that returns one tensor."
    )


def output_has(output, key):
    """Whether a mapping holds a tensor under a key."""
    return hasattr(output, "keys") and output.get(key) is not None
