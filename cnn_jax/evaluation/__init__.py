"""A trained model: loaded, scored, looked into."""
