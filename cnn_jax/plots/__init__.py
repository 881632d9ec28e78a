"""Matplotlib figures, one module for each kind. Every function returns the figure it draws."""
