"""The exception for errors of the user."""


class UserError(ValueError):
    """An error that the user can correct; a command prints its message as one line and exits with status 1."""
