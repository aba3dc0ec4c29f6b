"""Where two ends that cannot listen leave each other sealed lines, and nothing else."""
