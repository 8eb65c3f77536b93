"""The package is imported by its name, whether from the source tree or against an installed wheel."""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
