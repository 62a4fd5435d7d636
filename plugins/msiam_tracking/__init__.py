"""Visual tracking with a fully-convolutional siamese network (Bertinetto et al., 2016)."""
