"""How long a cluster takes to come up on machines, and to go, against ipyparallel's launcher."""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from pathlib import Path

from tests.cluster.testbed import ROOT, Testbed, why_not

__all__ = ["main"]

HOSTS, ENGINES, ROUNDS = 4, 2, 3
WANTED = {"start": 3.0, "stop": 5.0}

_INVENTORY = f"""\
controller: {{host: ctl, interface: 10.77.0.100}}
shared_filesystem: yes
defaults: {{python: {sys.executable}, env: {{PYTHONPATH: {ROOT}}}, engines: {ENGINES}}}
hosts:
  h[1-{HOSTS}]:
"""

#: A start lasts until all engines have registered; a stop is another process's.
_START = f"""
import json, time
began = time.monotonic()
import {{module}}
cluster = {{module}}.Cluster(profile="cluster", cluster_id="", shutdown_atexit=False)
client = cluster.start_and_connect_sync(n={HOSTS * ENGINES})
assert len(client.ids) == {HOSTS * ENGINES}
took = time.monotonic() - began
client.close()
print(json.dumps(took))
"""
_STOP = """
import json, time
began = time.monotonic()
import {module}
cluster = {module}.Cluster.from_file(profile="cluster", cluster_id="")
cluster.stop_cluster_sync()
print(json.dumps(time.monotonic() - began))
"""


def main() -> None:
    """Print the table."""
    print(f"\n{HOSTS} hosts with {ENGINES} engines each, in seconds (median of {ROUNDS} rounds)")
    if why := why_not():
        print(why)
        return
    print(f"{'':<8}{'labkit':>10}{'ipyparallel':>13}{'ratio':>9}{'wanted':>9}")
    with (
        tempfile.TemporaryDirectory(prefix="labkit-bench-") as folder,
        Testbed(Path(folder), HOSTS) as bed,
    ):
        _compare(bed)


def _compare(bed: Testbed) -> None:
    sides = [_Side(bed, "labkit"), _Side(bed, "ipyparallel")]
    for _ in range(ROUNDS):
        for side in sides:
            side.run()
    for what, wanted in WANTED.items():
        own, other = (statistics.median(side.seconds[what]) for side in sides)
        print(f"{what:<8}{own:>10.2f}{other:>13.2f}{other / own:>8.1f}x{wanted:>8g}x")
    left = sum(len(machine.processes("ipyparallel")) for machine in bed.machines.values())
    print(f"left running: {left}")


class _Side:
    """One of the two launchers, with a profile of its own."""

    def __init__(self, bed: Testbed, module: str) -> None:
        self._ctl, self._module = bed["ctl"], module
        self._environment = {"IPYTHONDIR": str(bed.folder / module)}
        self.seconds: dict[str, list[float]] = {"start": [], "stop": []}
        inventory = bed.folder / "hosts.yaml"
        inventory.write_text(_INVENTORY)
        stock = ["--stock"] if module == "ipyparallel" else []
        self._ctl.execute("labkit", "profile", "generate", inventory, *stock, **self._environment)

    def run(self) -> None:
        """Start and stop once."""
        for what, code in {"start": _START, "stop": _STOP}.items():
            out = self._ctl.execute(
                sys.executable,
                "-c",
                code.format(module=self._module),
                timeout_s=300,
                **self._environment,
            )
            self.seconds[what].append(json.loads(out.splitlines()[-1]))
