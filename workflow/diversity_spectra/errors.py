"""Mistakes of a user, as opposed to defects of the program."""


class UserError(Exception):
    """Something the user can mend: the message says what was wrong, where, and what to do.

    The command line prints it without a traceback and exits with status 2.
    """
