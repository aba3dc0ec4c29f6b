"""Who the other end is: private files, the certificate, shared keys, and the proof of them."""
