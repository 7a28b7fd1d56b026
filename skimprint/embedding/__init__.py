"""What `FoundationEmbedder` is made of, from what a user passes to rows.

``_inputs`` (what items are), ``_loaders`` (models by name, as modules or callables,
each a ``_backbone``), ``_batching`` (through the model), ``_cache`` (on disk) and
``_pipeline`` (all of it together). Nothing here is public.
"""
