"""What the sender leaves on disk beside its report."""
