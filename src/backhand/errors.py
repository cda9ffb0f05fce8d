"""The one error that is the user's to mend."""


class UserError(ValueError):
    """Something the user can mend: the message is the whole report, and a command prints it as one line."""
