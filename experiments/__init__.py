"""Experiments. Each file answers one question, and is run by `python -m experiments.<name>`."""
