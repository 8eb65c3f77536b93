"""The monitor's image: ``python -I -S .../gimli/monitor``, nothing but the standard library and gimli."""

import os
import sys

sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from gimli.monitor.main import main

sys.exit(main())
