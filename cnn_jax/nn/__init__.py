"""The arithmetic of the model: pure functions of arrays. No config, file or clock."""
