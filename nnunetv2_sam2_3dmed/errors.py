"""The exception for mistakes that the user can mend, and one sentence for all others."""

from __future__ import annotations

import os
import sys
import traceback

DEBUG_VARIABLE = "SAM2_3dMed_debug"


class UserError(RuntimeError):
    """A mistake in the user's input, said in one sentence: the value, what was expected, what to do.

    The ``sam2_3dmed`` command prints it without a traceback and exits with status 2.
    """


def in_one_sentence(error: Exception) -> str:
    """Say why one of many cases failed, whatever it raised.

    What was not foreseen is named by its type. With the environment variable ``SAM2_3dMed_debug`` set, its traceback
    goes to stderr.
    """
    if isinstance(error, UserError):
        return in_one_line(error)
    if os.environ.get(DEBUG_VARIABLE):
        traceback.print_exception(error, file=sys.stderr)
    said = in_one_line(error).rstrip(".")
    return (
        f"{type(error).__name__}{f': {said}' if said else ''} (not foreseen; {DEBUG_VARIABLE}=1 in the environment "
        "shows where)."
    )


def in_one_line(error: Exception) -> str:
    """The text of an exception, which may quote libraries that use several lines, in one."""
    return " ".join(str(error).split())
