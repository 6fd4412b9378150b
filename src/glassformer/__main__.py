"""Entry point of ``python -m glassformer``."""

from __future__ import annotations

import sys

from glassformer.cli import main

sys.exit(main())
