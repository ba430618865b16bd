"""Series and results, read from files and written to them."""
