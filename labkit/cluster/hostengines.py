"""The engines of a host, as its agent sees them; sent there as it stands.

It imports nothing but the standard library.
"""

from __future__ import annotations

from typing import Any

__all__ = ["Engine"]


class Engine:
    """One of the engines, through all of its lives."""

    def __init__(self, number: int) -> None:
        self.number = number
        #: Its process, while it lives.
        self.pid: int | None = None
        #: How often it was started again.
        self.restarts = 0
        #: When it is to be, by the monotonic clock.
        self.due: float | None = None
        #: How it ended the last time.
        self.status: int | None = None
        #: What the controller knows it by.
        self.session = ""
        #: Where in its log this life begins.
        self.begins = 0
        #: How far that was read, to find out whether it has registered.
        self.read_to = 0
        #: Whether the controller has taken it in this life.
        self.is_registered = False
        #: Whether the controller has taken it in one of its lives.
        self.was_registered = False
        #: Whether it has died for good, and not for want of a controller.
        self.is_given_up = False
        #: How often in a row it could not be started, or has not registered.
        self.vain = 0
        #: What there is to tell of its last end; None while it lives.
        self.end: dict[str, Any] | None = None

    @property
    def is_hopeful(self) -> bool:
        """Whether it lives, or is to live again, and has not been in vain."""
        return (self.pid is not None or self.due is not None) and not self.vain

    def facts(self) -> dict[str, Any]:
        """Return what there is to tell of it."""
        return {
            "number": self.number,
            "pid": self.pid,
            "alive": self.pid is not None,
            "restarts": self.restarts,
            "status": self.status,
            "session": self.session,
            "given_up": self.is_given_up,
            "end": self.end,
        }
