"""From a user's table to batches of numbered items."""
