"""Mistakes of a user, as opposed to defects of the program."""


class UserError(Exception):
    """Something the user can mend: the message says what was wrong, where, and what to do.

    The command line prints it without a traceback and exits with status 2.
    """

    def told(self) -> str:
        """The message as it is printed: each of its lines, which are mistakes of their own, is marked as an error."""
        return "\n".join(f"error: {line}" for line in str(self).splitlines())
