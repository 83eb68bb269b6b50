"""Building, listing and scanning container images: what the program `image` is made of."""
