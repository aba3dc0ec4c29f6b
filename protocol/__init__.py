"""The session between two medroi ends, sans-I/O: bytes in, events out, time is an argument."""
