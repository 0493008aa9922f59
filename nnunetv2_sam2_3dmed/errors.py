"""The exception for mistakes that the user can mend."""


class UserError(RuntimeError):
    """A mistake in the user's input, said in one sentence: the value, what was expected, what to do.

    The ``sam2_3dmed`` command prints it without a traceback and exits with status 2.
    """
