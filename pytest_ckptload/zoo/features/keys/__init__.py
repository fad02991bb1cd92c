"""The names in the file, and what stands around them."""
