"""The matrix profile, held against the definition."""
