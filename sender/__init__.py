"""The imaging site: read, segment, layer, encode, schedule, transmit."""
