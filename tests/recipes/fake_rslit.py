"""Stands in for `rslit` in the tests of recipes; needs the standard library only.

VERB [--folder DIR] [--ticks N] [--tick SECONDS] [--out DIR] [--exit CODE] [--die SIGNAL] [--ignore-term]
     [--slow-term SECONDS] [--fork] [--say TEXT] [--once-exit NAME] [--once-die NAME]

It adds a line to DIR/attempts and, at its end, one to DIR/completed, and notes its arguments and times there.
Each tick is kept in DIR/ticks, and a later attempt goes on from there, as a training does from its last checkpoint. The
first attempt in a folder called NAME exits with 1 or is killed. Two attempts at one time leave DIR/OVERLAP.
"""

import argparse
import fcntl
import json
import os
import pathlib
import signal
import sys
import time

parser = argparse.ArgumentParser()
parser.add_argument("verb")
parser.add_argument("--folder", type=pathlib.Path)
parser.add_argument("--ticks", type=int, default=0)
parser.add_argument("--tick", type=float, default=0.02)
parser.add_argument("--out", type=pathlib.Path)
parser.add_argument("--exit", type=int, default=0)
parser.add_argument("--die", type=int)
parser.add_argument("--ignore-term", action="store_true")
parser.add_argument("--slow-term", type=float)
parser.add_argument("--fork", action="store_true")
parser.add_argument("--say", default="")
parser.add_argument("--once-exit")
parser.add_argument("--once-die")
args, _ = parser.parse_known_args()


def leave(*_: object) -> None:
    time.sleep(args.slow_term)
    (args.folder / "left-in-peace").touch()
    sys.exit(1)


if args.slow_term is not None:
    signal.signal(signal.SIGTERM, leave)
if args.ignore_term:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(f"{args.verb} begins", flush=True)
print(args.say, file=sys.stderr, flush=True)
if args.fork and os.fork() == 0:
    time.sleep(60)
    os._exit(0)
if args.folder is not None:
    begun = time.time()
    with (args.folder / "attempts").open("a") as file:
        file.write("attempt\n")
    first = (args.folder / "attempts").read_text().count("\n") == 1
    (args.folder / "argv.json").write_text(json.dumps(sys.argv[1:]))
    (args.folder / "environ.json").write_text(json.dumps(dict(os.environ)))
    (args.folder / "pid").write_text(str(os.getpid()))
    with (args.folder / "exclusive").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            (args.folder / "OVERLAP").touch()
        ticks = args.folder / "ticks"
        done = ticks.read_text().count("\n") if ticks.exists() else 0
        for tick in range(done, args.ticks):
            with ticks.open("a") as file:
                file.write(f"{tick}\n")
            print(f"tick {tick}", flush=True)
            time.sleep(args.tick)
            if first and args.once_die == args.folder.name:
                os.kill(os.getpid(), signal.SIGKILL)
    if first and args.once_exit == args.folder.name:
        sys.exit(1)
    with (args.folder / "completed").open("a") as file:
        file.write("completed\n")
    (args.folder / "times.json").write_text(json.dumps([begun, time.time()]))
if args.out is not None:
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "front.html").touch()
if args.die is not None:
    os.kill(os.getpid(), args.die)
sys.exit(args.exit)
