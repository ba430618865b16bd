"""Questions to a controller, which may never answer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

__all__ = ["begin"]

T = TypeVar("T")


def begin(question: Callable[[], T]) -> Future[T]:
    """Ask in a thread of its own, which waits for ever if no answer comes."""
    answer: Future[T] = Future()

    def run() -> None:
        try:
            answer.set_result(question())
        except BaseException as e:
            answer.set_exception(e)

    threading.Thread(target=run, daemon=True).start()
    return answer
