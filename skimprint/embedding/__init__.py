"""What `FoundationEmbedder` is made of, from what a user passes to rows.

``_inputs`` (what items are, by ``_items``, ``_pictures`` and ``_sounds``), ``_loaders``
(models by name, as modules or callables, each a ``_backbone``, those of torch a
``_torch`` one), ``_batching`` (through the model), ``_cache`` (on disk) and
``_pipeline`` (all of it together). Nothing here is public.
"""
