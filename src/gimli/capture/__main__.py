"""Run the capture helper: ``python -I -S .../gimli/capture/__main__.py < request.json``.

Tiny, because Python compiles a main module at every start and never caches it.
"""

import os
import sys

if __name__ == "__main__":
    # -I and -S leave no path to a package that was not installed into the standard library's own place.
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

    from gimli.capture.helper import main

    sys.exit(main())
