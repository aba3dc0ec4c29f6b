"""What both ends must mean by the same word."""
