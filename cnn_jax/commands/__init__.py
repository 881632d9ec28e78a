"""The modes that use a trained model, and `describe`: one module for each."""
