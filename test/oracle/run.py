"""Replays recorded scenarios of real Postfix against the commands in a
directory and compares everything, the logs included.

Usage: run.py ORACLE_DIRECTORY BIN_DIRECTORY scenario ...

It is oracle.py's own runner with two additions: the names are whole names, and
the process id in master's line about a service that cannot start is masked (it
is the one number that the recordings keep).
"""
import glob
import os
import re
import sys

oracle_dir, bin_dir, names = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2]), sys.argv[3:]
sys.path.insert(0, oracle_dir)
sys.dont_write_bytecode = True
import oracle  # noqa: E402

plain_lines = oracle.as_lines


def as_lines(entries, kind):
    masked = [dict(e, text=re.sub(r"\bpid \d+ exit status", "pid # exit status", e["text"])) for e in entries]
    return plain_lines(masked, kind)


oracle.as_lines = as_lines
known = {os.path.basename(p)[:-3] for p in glob.glob(os.path.join(oracle_dir, "scenarios", "*.py"))}
unknown = [n for n in names if n not in known]
if unknown:
    sys.exit("no such scenario: " + " ".join(unknown))


plain_glob = oracle.glob.glob
oracle.glob.glob = lambda pattern: [p for p in plain_glob(pattern) if os.path.basename(p)[:-3] in names]
sys.argv = ["oracle.py", "run", "--bin", bin_dir, "--jobs", os.environ.get("ORACLE_JOBS", "2"),
            "--classes", ",".join(oracle.CLASSES)]
oracle.main()
