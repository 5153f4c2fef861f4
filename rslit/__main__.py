"""`python -m rslit` is the `rslit` script."""

import sys

from rslit.cli import main

sys.exit(main())
