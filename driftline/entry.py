"""`driftline` as a program: an interruption at any time, even while its modules are imported, ends it in one line."""

from __future__ import annotations

import os
import sys

from local.signals import Interrupted, end_at_once, end_in_order


def main() -> None:
    """Runs the command line of this process; exits with the code of the command, or 128 and the signal's number."""
    end_in_order()
    if os.environ.get("COLUMNS", "").strip() == "0":
        del os.environ["COLUMNS"]  # a width that is not known; every table and the help would be empty
    try:
        from driftline.cli import main as run  # takes seconds, in which a signal may come as well

        run()
    except KeyboardInterrupt as error:
        sys.stderr.write("interrupted: `driftline` has ended\n")
        sys.exit(error.exit_code if isinstance(error, Interrupted) else 130)
    finally:
        end_at_once()  # what is left to do cannot be interrupted without a traceback
