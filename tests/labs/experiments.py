"""Experiments that the tests of labs run; they can be imported on engines."""

import contextlib
import logging
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np

import labkit


class Square(labkit.Experiment):
    """Succeeds everywhere."""

    x = labkit.Parameter(range(6), unit="m", doc="side")

    def do(self, params):
        return {"area": params["x"] ** 2, "drawn": self.rng.random()}


class Fails(labkit.Experiment):
    """Raises at odd points."""

    x = labkit.Parameter(range(6))

    def do(self, params):
        if params["x"] % 2:
            raise ValueError(f"odd: {params['x']} ünïcode")
        return {"half": params["x"] // 2}


class Returns(labkit.Experiment):
    """Returns what is none of a results dict's business."""

    what = labkit.Parameter(["none", "lock", "lambda", "fine", "exit", "object"])

    def do(self, params):
        match params["what"]:
            case "none":
                return None
            case "lock":
                return {"held": threading.Lock()}
            case "lambda":
                return {"function": lambda: 0}
            case "object":
                return {"thing": labkit.Range(0, 1)}
            case "exit":
                raise SystemExit(3)
        return {"value": 1}


class Custom(Exception):
    """Cannot be made from its text again."""

    def __init__(self, a, b):
        super().__init__(f"{a} and {b}")


class RaisesCustom(labkit.Experiment):
    """Raises what does not survive pickling."""

    x = labkit.Parameter([1])

    def do(self, params):
        raise Custom(1, 2)


class Talks(labkit.Experiment):
    """Prints and logs."""

    x = labkit.Parameter(range(3))

    def do(self, params):
        print(f"printed {params['x']}")
        logging.getLogger("talks").info("logged %d", params["x"])
        logging.getLogger("talks").debug("not kept")
        return {}


class Shouts(labkit.Experiment):
    """Prints more than is kept."""

    x = labkit.Parameter([1])

    def do(self, params):
        for i in range(300_000):
            print(f"line {i:06d}")
        return {}


class Kills(labkit.Experiment):
    """Kills its engine at some points: always, or until a file says that it has tried before."""

    x = labkit.Parameter(range(40))

    def __init__(self, folder, at=(17,), times=99, how="signal"):
        super().__init__()
        self.folder, self.at, self.times, self.how = Path(folder), at, times, how

    def do(self, params):
        if params["x"] in self.at:
            tried = len(list(self.folder.glob(f"tried-{params['x']}-*")))
            (self.folder / f"tried-{params['x']}-{tried}").touch()
            if tried < self.times:
                if self.how == "signal":
                    os.kill(os.getpid(), signal.SIGKILL)
                os._exit(9)
        return {"y": params["x"]}


class Sleeps(labkit.Experiment):
    """Takes its time, and leaves a file when it has begun."""

    x = labkit.Parameter(range(4))

    def __init__(self, seconds=0.2, folder=None):
        super().__init__()
        self.seconds, self.folder = seconds, folder

    def do(self, params):
        if self.folder is not None:
            Path(self.folder, f"began-{params['x']}").touch()
        time.sleep(self.seconds)
        return {"slept": self.seconds}


class Waits(labkit.Experiment):
    """Waits, a minute at most, until it may go on; the first few points need not."""

    x = labkit.Parameter(range(4))

    def __init__(self, folder, free=0):
        super().__init__()
        self.folder, self.free = folder, free

    def do(self, params):
        deadline = time.monotonic() + 60
        while not (self._is_free() or (self.folder / "go").exists()):
            if time.monotonic() > deadline:
                raise TimeoutError
            time.sleep(0.02)
        return {"y": params["x"]}

    def _is_free(self):
        for number in range(self.free):
            with contextlib.suppress(FileExistsError):
                (self.folder / f"free-{number}").touch(exist_ok=False)
                return True
        return False


class Tallies(labkit.Experiment):
    """Leaves a line in a file for each run, and takes its time."""

    x = labkit.Parameter(range(4))

    def __init__(self, file, seconds=0.2):
        super().__init__()
        self.file, self.seconds = file, seconds

    def do(self, params):
        with Path(self.file).open("a", encoding="utf-8") as file:
            file.write(f"{params['x']}\n")
        time.sleep(self.seconds)
        return {"y": params["x"] ** 2}


class Arrays(labkit.Experiment):
    """Gives an array of as many megabytes."""

    megabytes = labkit.Parameter([1])

    def do(self, params):
        return {"array": np.full(params["megabytes"] * 2**17, params["megabytes"], dtype=float)}


class Unpicklable(labkit.Experiment):
    """Holds what cannot travel."""

    x = labkit.Parameter([1])

    def __init__(self):
        super().__init__()
        self.guard = threading.Lock()

    def do(self, params):
        return {}
