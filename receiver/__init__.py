"""The clinic: receive, decode, compose, publish, write."""
