"""What runs on an engine: points, and the files that keep their outcomes."""
