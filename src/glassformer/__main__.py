"""``python -m glassformer`` is the ``glassformer`` command."""

from __future__ import annotations

import sys

from glassformer.cli import main

sys.exit(main())
