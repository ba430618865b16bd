"""Messages whose connection was lost: their answers do not come, and the hub is asked for them."""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labkit.labs.hub import Hub

__all__ = ["Resumed", "fetch", "messages_of", "on_their_way"]

#: After so many seconds, answers that are there wait for the next time.
_FETCH_S = 1.0


class Resumed(Future[bytes]):
    """Gives the answer to a message, when the hub was asked for it.

    Parameters
    ----------
    message : str
        Its id.

    Attributes
    ----------
    msg_ids : list of str
        The id, as ipyparallel's results have it.
    """

    def __init__(self, message: str) -> None:
        super().__init__()
        self.msg_ids = [message]


def messages_of(futures: Iterable[Any]) -> list[str]:
    """Return the ids of the messages that these are the results of, by whatever connection."""
    return [message for future in futures for message in getattr(future, "msg_ids", ())]


def on_their_way(futures: Iterable[Future[bytes]]) -> list[str]:
    """Return the messages of which nobody knows whether they have left this machine."""
    return messages_of(f for f in futures if not f.done() and not isinstance(f, Resumed))


def fetch(futures: Iterable[Future[bytes]], hub: Hub) -> None:
    """Give those of the resumed that are among these the answers that the hub has by now.

    One that the hub does not know any more is cancelled: it can be sent again.

    Raises
    ------
    ClusterError
        When no answer comes.
    """
    waiting = [f for f in futures if isinstance(f, Resumed) and not f.done()]
    if not waiting:
        return
    known = hub.completed(messages_of(waiting))
    deadline = time.monotonic() + _FETCH_S
    for future in waiting:
        (message,) = future.msg_ids
        if message not in known:
            future.cancel()
        elif known[message]:
            _settle(future, hub)
        if time.monotonic() > deadline:
            return


def _settle(future: Resumed, hub: Hub) -> None:
    import ipyparallel

    (message,) = future.msg_ids
    try:
        future.set_result(hub.result(message))
    except KeyError:
        # so ipyparallel says that a task was aborted
        future.cancel()
    except ipyparallel.error.IPythonError as e:
        future.set_exception(e)
