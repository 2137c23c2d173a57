"""Building blocks of the experiments: baselines, measures, and code that several of them share."""
