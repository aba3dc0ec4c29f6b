"""The name and version that an end gives for itself."""

SOFTWARE = "medroi 0.1.0"
