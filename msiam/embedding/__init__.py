"""A table's embeddings, to a file: by one process, by those of torchrun, or by workers of Ray."""
