"""The machines and clusters of these tests."""

from .agents import agents
from .machines import bed, cluster

__all__ = ["agents", "bed", "cluster"]
