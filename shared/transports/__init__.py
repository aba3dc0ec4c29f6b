"""Transports: they carry frames and know nothing of what is in them."""
