"""Pictures of series, matrix profiles and summaries."""
