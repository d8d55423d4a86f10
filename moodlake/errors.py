"""The base of the errors that a user can fix."""


class UserError(Exception):
    """An error whose message says what failed, with what, why, and what to do.

    The command line shows the message without a traceback.
    """
