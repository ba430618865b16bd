"""epyc's public contract: the same programs on epyc and on labkit, the same results."""
