"""Codecs: one file each, both halves; the registry names them all."""
