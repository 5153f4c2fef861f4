"""`python cli.py VERB` is the `rslit` script, for work from a checkout."""

import sys

from rslit.cli import main

if __name__ == "__main__":
    sys.exit(main())
