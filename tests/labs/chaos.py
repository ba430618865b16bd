"""Processes that are killed at random moments: ``python -m tests.labs.chaos --rounds 50``.

A lab runs what is missing in a notebook, and is killed: itself, a hand, an engine, the
controller, the supervisor, or all at once; the next one goes on. Each point leaves a witness
that it was finished, outside of the notebook. In the end every point must be recorded once, and
none may have run again that had been finished well before a kill.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

import psutil

import labkit

ROOT = Path(__file__).parents[2]

POINTS_A_ROUND = 60

BEFORE_S = 2.0
"""An outcome is safe a second after it was finished; this machine may be slow."""

AFTER_S = 5.0
"""What is killed takes others with it, a little later."""


class Witnessed(labkit.Experiment):
    """Costs between a millisecond and a third of a second."""

    x: int

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.folder = folder

    def do(self, params: dict[str, int]) -> dict[str, int]:
        time.sleep(0.001 * 300 ** random.Random(params["x"]).random())
        Path(self.folder, f"{params['x']}-{time.time()}").touch()
        return {"y": params["x"] ** 2}


def run_lab(notebook: str, witnesses: str, points: str) -> None:
    """Be the lab of a round."""
    with (
        labkit.SQLiteLabNotebook(notebook).open() as nb,
        labkit.ClusterLab(nb, n=2) as lab,
    ):
        lab["x"] = range(int(points))
        lab.runExperiment(Witnessed(witnesses), only="missing")
        lab.wait()


def family_of(lab: psutil.Process) -> dict[str, list[psutil.Process]]:
    """Sort a lab's processes by what they are."""
    found = defaultdict(list, {"lab": [lab]})
    for process in lab.children(recursive=True):
        try:
            command = " ".join(process.cmdline())
        except psutil.Error:
            continue
        for kind, mark in (
            ("supervisor", "labkit.cluster.supervisor"),
            ("hand", "labkit.engine.worker"),
            ("engine", "ipyparallel.engine --"),
            ("controller", "ipyparallel.controller"),
        ):
            if mark in command:
                found[kind].append(process)
                break
        else:
            found["other"].append(process)
    return found


VICTIMS = ("hand", "engine", "engines", "controller", "supervisor", "lab", "all")


def kill(lab: psutil.Process, victim: str, chance: random.Random) -> None:
    """Kill a part of a lab's processes, or all of them."""
    family = family_of(lab)
    if victim == "all":
        chosen = [process for kind in family for process in family[kind]]
    elif victim == "engines":
        chosen = family["engine"]
    else:
        chosen = [chance.choice(family[victim])] if family[victim] else []
    for process in chosen:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def chaos(folder: Path, rounds: int, seed: int) -> list[str]:
    """Run so many rounds, and return what is wrong in the end."""
    chance = random.Random(seed)
    witnesses, points = folder / "witnesses", rounds * POINTS_A_ROUND
    witnesses.mkdir()
    arguments = [str(folder / "chaos.db"), str(witnesses), str(points)]
    kills: list[float] = []
    for number in range(rounds):
        lab = start(arguments)
        for victim in chance.sample(VICTIMS, 2):
            if wait(lab, chance.uniform(1.0, 4.0)):
                break
            kills.append(time.time())
            kill(psutil.Process(lab.pid), victim, chance)
            print(f"round {number}: killed {victim}", flush=True)
        finish(lab, kills)
    if not wait(start(arguments), 300):
        return ["the last lab did not come to an end"]
    return [*unrecorded(arguments[0], points), *lost(witnesses, kills)]


def start(arguments: list[str]) -> subprocess.Popen[bytes]:
    """Start the lab of a round."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.labs.chaos", "lab", *arguments],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(Path(arguments[0]).parent)},
    )


def wait(lab: subprocess.Popen[bytes], seconds: float) -> bool:
    """Wait for the end of a lab; return whether it came."""
    try:
        lab.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def finish(lab: subprocess.Popen[bytes], kills: list[float]) -> None:
    """Kill what is left of a round."""
    if lab.poll() is None:
        kills.append(time.time())
        kill(psutil.Process(lab.pid), "all", random.Random())
    lab.wait()


def unrecorded(notebook: str, points: int) -> list[str]:
    """Return what is wrong with the notebook: every point has one success."""
    nb = labkit.SQLiteLabNotebook(notebook)
    counts = Counter(nb.dataframe()["x"])
    nb.close()
    return [f"point {x} is recorded {counts[x]} times" for x in range(points) if counts[x] != 1]


def lost(witnesses: Path, kills: list[float]) -> list[str]:
    """Return the points that ran again although they had been finished well before a kill."""
    finished: dict[int, list[float]] = defaultdict(list)
    for file in witnesses.iterdir():
        x, _, moment = file.name.partition("-")
        finished[int(x)].append(float(moment))
    return [
        f"point {x} ran again, although it was finished long before a kill"
        for x, moments in finished.items()
        for moment in sorted(moments)[:-1]
        if not any(k - BEFORE_S <= moment <= k + AFTER_S for k in kills)
    ]


def main() -> None:
    """Be a lab, or run rounds and say what is wrong."""
    if sys.argv[1:2] == ["lab"]:
        run_lab(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    asked = parser.parse_args()
    print(f"seed {asked.seed}", flush=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        wrong = chaos(Path(folder), asked.rounds, asked.seed)
    print("\n".join(wrong) or "nothing is lost, and nothing recorded twice")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
