"""What an engine's answer holds."""

from labkit.engine.messages import batches_in


def runs_in(records):
    """Return the job of each run, and its single outcome."""
    runs = [run for batch in batches_in(records) for run in batch.outcomes()]
    return [(job, outcome) for job, (outcome,) in runs]
