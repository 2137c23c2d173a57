"""What experiments are made of: baselines, measures, and what several of them share."""
