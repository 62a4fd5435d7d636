"""Losses, one family a file; tiles.py below them has the linear-memory kernels."""
