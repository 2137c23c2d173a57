"""One file a question: Config, Result, run, plot. Each is run as `python -m experiments.<name>`."""
