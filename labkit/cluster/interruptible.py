"""ipyparallel's cluster, made to end what it has begun when somebody presses Ctrl-C."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from typing import Any

import ipyparallel

__all__ = ["Interruptible"]


class Interruptible(ipyparallel.Cluster):  # type: ignore[misc]
    """Cancels what is done, where ipyparallel's own leaves it where it is, and its processes."""

    def _synchronize(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Do something asynchronous; a Ctrl-C is raised when what was begun has ended."""
        if not _is_interruptible():
            return super()._synchronize(function, *args, **kwargs)
        interrupted = False

        async def work() -> Any:
            loop, task = asyncio.get_running_loop(), asyncio.current_task()

            def interrupt() -> None:
                nonlocal interrupted
                interrupted = True
                if task is not None:
                    task.cancel()

            loop.add_signal_handler(signal.SIGINT, interrupt)
            try:
                return await function(*args, **kwargs)
            except asyncio.CancelledError:
                if not interrupted:
                    raise
            finally:
                loop.remove_signal_handler(signal.SIGINT)

        result = super()._synchronize(work)
        if interrupted:
            raise KeyboardInterrupt
        return result


def _is_interruptible() -> bool:
    """Test whether a Ctrl-C comes here, and nobody else has seen to it."""
    is_usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not is_usual or threading.current_thread() is not threading.main_thread():
        return False
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return True
    return False
