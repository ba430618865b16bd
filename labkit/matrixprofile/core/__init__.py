"""The kernels, and all that is compiled."""
