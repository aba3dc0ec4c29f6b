"""A small 3-D U-Net that finds lesions in scans of heads, and what stands around it."""
