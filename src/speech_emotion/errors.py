"""Takes nothing; gives the one exception that carries a message for the user."""


class UserError(Exception):
    """A mistake that the user can mend.

    The message is all that is shown: it says what was wrong, where, and what to do next. Entry points (the stages, the
    command line, the servers) print it and end with a status other than 0; a traceback is kept for mistakes of ours.
    """
