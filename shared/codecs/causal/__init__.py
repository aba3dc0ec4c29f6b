"""The exact coder of our own: causal prediction in 3-D, mixed in integers (docs/exact_codec.md)."""
