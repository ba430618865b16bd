"""Start an engine for each core of this machine."""

import os

c = get_config()  # noqa: F821  # IPython defines it where it loads this file

c.Cluster.n = os.cpu_count() or 1
c.Cluster.engine_launcher_class = "local"
# one thread an engine, as there is an engine a core
for library in ("OMP", "MKL", "OPENBLAS", "NUMBA"):
    os.environ.setdefault(f"{library}_NUM_THREADS", "1")
