"""Training of the U-Net, by one command: ``python -m sender.segment.train --data FOLDER``.

Stands inside the sender because it must see scans through the very code that shows them to the
network later (`sender.segment.unet.sight`). Only this package imports torch; nothing of the product
imports this package.
"""
