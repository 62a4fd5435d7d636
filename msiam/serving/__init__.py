"""The HTTP API and the search page of a gallery."""
