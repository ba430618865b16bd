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

POINTS_A_ROUND = 150
"""About as many as two engines can run before the second kill, and earlier rounds leave some."""

PROMISED_S = 1.0
"""An outcome is safe that long after it was finished."""

MEASURING_S = 0.5
"""From when a point notes the moment to when it is finished: it makes a file in between, on a
machine that has other things to do, and other processes may run first. What is killed is killed
a little after the moment that is noted, which is on the safe side."""

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


Plan = list[list[tuple[float, str]]]
"""Of each round its kills: after how many seconds, and of what."""


def plan_of(rounds: int, seed: int) -> Plan:
    """Draw what is killed, and when; it does not depend on what happens then."""
    chance = random.Random(seed)
    return [
        [(chance.uniform(1.0, 3.0), victim) for victim in chance.sample(VICTIMS, 2)]
        for _ in range(rounds)
    ]


def chosen_of(lab: psutil.Process, victim: str) -> list[psutil.Process]:
    """Return the processes of a lab that a kill is for: none while they are not there."""
    family = family_of(lab)
    if victim == "all":
        return [process for kind in family for process in family[kind]]
    return family["engine"] if victim == "engines" else family[victim][:1]


def kill(processes: list[psutil.Process]) -> None:
    """Kill processes that may have ended by now."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def chaos(folder: Path, plan: Plan) -> tuple[list[str], list[str]]:
    """Run rounds; return what was killed in them, and what is wrong in the end."""
    witnesses, points = folder / "witnesses", len(plan) * POINTS_A_ROUND
    witnesses.mkdir()
    arguments = [str(folder / "chaos.db"), str(witnesses)]
    kills: list[float] = []
    killed: list[str] = []
    for number, kills_of_round in enumerate(plan, 1):
        lab = start([*arguments, str(number * POINTS_A_ROUND)])
        for pause_s, victim in kills_of_round:
            if not wait(lab, pause_s) and strike(lab, victim, kills):
                killed.append(victim)
                print(f"round {number}: killed {victim}", flush=True)
        finish(lab, kills)
    if not wait(start([*arguments, str(points)]), 300):
        return killed, ["the last lab did not come to an end"]
    return killed, [*unrecorded(arguments[0], points), *lost(witnesses, kills)]


def strike(lab: subprocess.Popen[bytes], victim: str, kills: list[float]) -> bool:
    """Kill a part of a lab as soon as it is there; return whether that came before the end."""
    while not wait(lab, 0.05):
        with contextlib.suppress(psutil.NoSuchProcess):
            if chosen := chosen_of(psutil.Process(lab.pid), victim):
                kills.append(time.time())
                kill(chosen)
                return True
    return False


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
        kill(chosen_of(psutil.Process(lab.pid), "all"))
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
        if not any(k - PROMISED_S - MEASURING_S <= moment <= k + AFTER_S for k in kills)
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
        _, wrong = chaos(Path(folder), plan_of(asked.rounds, asked.seed))
    print("\n".join(wrong) or "nothing is lost, and nothing recorded twice")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
