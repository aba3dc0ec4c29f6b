"""A volume becomes regions of interest."""
