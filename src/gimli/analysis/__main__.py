"""The analysis helper: ``python -I .../gimli/analysis/__main__.py REPORT_DIR [--journal FILE]``."""

import os
import sys

if __name__ == "__main__":
    # Run by path, with -I: the package may be nowhere on sys.path, and the monitor that starts this
    # helper knows only where its own files are. Appended: an installed gimli comes first.
    sys.path[:] = [entry for entry in sys.path if entry != os.path.dirname(os.path.abspath(__file__))]
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    from gimli.analysis.analyze import main

    sys.exit(main(sys.argv[1:]))
