"""What a site would use instead of medroi, one file each, all measured the same way."""
