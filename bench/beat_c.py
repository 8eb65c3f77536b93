"""What does one beat of a C program cost? The budget is 25 ns; the clock alone is most of it.

Run: python3 bench/beat_c.py [DIRECTORY OF libgimli.so]
"""

import json
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
sys.path.insert(0, os.path.join(ROOT, "src"))

from gimli.heartbeat import ENV_PAGE_FD, PageFile  # noqa: E402  (runs from the source tree, not installed)

BUDGET_NS = 25


def main() -> None:
    """Compile, run on a page of our own, print one JSON line."""
    lib = sys.argv[1] if len(sys.argv) > 1 else os.path.join(ROOT, "src", "gimli", "_lib")
    with tempfile.TemporaryDirectory() as scratch:
        program = os.path.join(scratch, "beat")
        flags = [f"-I{lib}/include", f"-L{lib}", f"-Wl,-rpath,{lib}", "-lgimli"]
        subprocess.run(["cc", "-O2", "-o", program, os.path.join(HERE, "beat.c"), *flags], check=True)
        page = PageFile(os.path.join(scratch, "page"))
        page.reset()
        result = subprocess.run(
            [program],
            env={**os.environ, ENV_PAGE_FD: str(page.fd)},
            pass_fds=[page.fd],
            stdout=subprocess.PIPE,
            check=True,
        )
    figures = json.loads(result.stdout)
    print(json.dumps({**figures, "budget_ns": BUDGET_NS, "holds": figures["beat_ns"] <= BUDGET_NS}))


if __name__ == "__main__":
    main()
