"""The exception for mistakes that the user can correct."""


class UserError(Exception):
    """A mistake in flags, files or folders, printed as one sentence without a traceback.

    The message says what was received, what was expected and what to do.
    """
