"""What messages tell people to type."""

from __future__ import annotations

__all__ = ["start_command"]


def start_command(profile: str | None, *, by_labkit: bool) -> str:
    """Return what starts the cluster of a profile.

    Parameters
    ----------
    profile : str or None
        Its name; None for the one that ipyparallel takes when nobody names any.
    by_labkit : bool
        Whether labkit has generated it, for its own launcher.

    Examples
    --------
    >>> start_command("cluster", by_labkit=True)
    'labkit cluster start --profile cluster'
    >>> start_command("lab", by_labkit=False)
    'ipcluster start --profile=lab'
    """
    if by_labkit:
        return f"labkit cluster start --profile {profile}"
    return "ipcluster start" if profile is None else f"ipcluster start --profile={profile}"
