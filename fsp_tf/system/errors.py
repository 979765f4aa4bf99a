"""The one exception that means "the user can mend this": printed as one sentence, without a traceback."""


class UserError(Exception):
    """A mistake in flags, files or folders. Its message says what came, what was expected and what to do."""
