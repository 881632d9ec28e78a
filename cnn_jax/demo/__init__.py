"""A page that shows a trained network think: its sources, and how they become one file."""
