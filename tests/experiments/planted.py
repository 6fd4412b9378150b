"""Functions of runs for tests of sweeps: quick ones, one that fails, and one that is killed."""

import os
import random
import signal
import time


def add(settings, folder):
    """The sum of two settings; leaves a line for each call."""
    with (folder / "calls.txt").open("a") as file:
        file.write(f"{os.getpid()}\n")
    return {"sum": settings["a"] + settings["b"], "threads": os.environ.get("OMP_NUM_THREADS")}


def fail(settings, folder):
    """Raises."""
    raise ValueError(f"a is {settings['a']}: it must be even")


def die(settings, folder):
    """Kills its process in the first ``times`` calls."""
    file = folder / "deaths.txt"
    deaths = int(file.read_text()) if file.exists() else 0
    if deaths < settings["times"]:
        file.write_text(str(deaths + 1))
        os.kill(os.getpid(), signal.SIGKILL)
    return {"deaths": deaths}


def count_slowly(settings, folder):
    """Counts to ``steps``, saves each number, and continues where it was stopped."""
    with (folder / "calls.txt").open("a") as calls:
        calls.write(f"{os.getpid()}\n")
    file = folder / "count.txt"
    start = int(file.read_text()) if file.exists() else 0
    for number in range(start, settings["steps"]):
        time.sleep(settings["seconds"])
        partial = folder / ".count.partial"
        partial.write_text(str(number + 1))
        partial.rename(file)
    return {"counted": settings["steps"], "seed": settings["seed"]}


def measure(settings, folder):
    """Two measures of a seed: one with an effect of 1, one without."""
    generator = random.Random(settings["seed"])
    return {"planted": generator.gauss(1, 0.2), "null": generator.gauss(0, 0.2)}


def odd_result(settings, folder):
    """Returns a value that JSON does not have."""
    return {"nan": float("nan"), "set": {1}}[settings["value"]]


def stop(settings, folder):
    """Ends as a training that was asked to stop."""
    raise SystemExit(settings["status"])
