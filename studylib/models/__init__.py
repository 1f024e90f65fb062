"""Models that predict the next item. They know nothing of how Semantic IDs are made."""
