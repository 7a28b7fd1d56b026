"""What `FoundationEmbedder` is made of: inputs, loaders, batching, cache."""
