"""A gimli.toml read anew for a running monitor: ``python -I .../gimli/cli/reread.py FILE STATE_DIR``.

Started by the monitor when it takes over from itself, since its own image has no TOML. Prints one JSON line
with the configuration, or the errors of the file, as ``gimli check`` does.
"""

import json
import os
import sys

if __name__ == "__main__":
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if entry != here]
    # This gimli, which is the monitor's, and not another one that is installed. For this import alone: what
    # lies beside the package must not come before the standard library.
    sys.path.insert(0, os.path.dirname(os.path.dirname(here)))
    import gimli  # noqa: F401 - from now on its parts are found where it is

    del sys.path[0]
    from gimli.cli import launch
    from gimli.errors import GimliError, explain
    from gimli.value import plain

    try:
        told = launch.config_of_file(sys.argv[1], sys.argv[2])
    except GimliError as error:
        sys.stderr.write(explain(error))
        sys.exit(error.exit_status)
    sys.stdout.write(json.dumps({"config": plain(told)}) + "\n")
