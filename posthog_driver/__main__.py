"""``python -m posthog_driver`` is the command ``posthog-driver``."""

import sys

from posthog_driver.cli import main

if __name__ == "__main__":
    sys.exit(main())
