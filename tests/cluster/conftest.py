"""The machines and clusters of these tests."""

from .machines import bed, cluster

__all__ = ["bed", "cluster"]
