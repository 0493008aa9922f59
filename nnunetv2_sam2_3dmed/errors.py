"""The exception for users' mistakes, and one-sentence texts of all others."""

from __future__ import annotations

import os
import sys
import traceback

DEBUG_VARIABLE = "SAM2_3dMed_debug"


class UserError(RuntimeError):
    """A mistake in the user's input; the message is one sentence: the value, what was expected, what to do.

    The ``sam2_3dmed`` command prints it without a traceback and exits with status 2.
    """


def in_one_sentence(error: Exception) -> str:
    """Describe any exception in one sentence.

    An unforeseen exception is named by its type. With the environment variable ``SAM2_3dMed_debug`` set, its traceback
    is printed to stderr.
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
    """The text of an exception on one line."""
    return " ".join(str(error).split())
