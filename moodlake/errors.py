"""What a person can mend."""


class UserError(Exception):
    """Base of the errors whose message says what was wrong, with what, and what to do.

    The command line shows the message alone, without a traceback.
    """
