"""The machines and clusters of these tests."""

from ..cluster.machines import bed, cluster

__all__ = ["bed", "cluster"]
