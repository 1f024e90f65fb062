"""The one error that a user is meant to read."""


class StudyError(ValueError):
    """Bad input: the message names the file, the place in it, and the cure, on one line.

    The command line prints the message without a traceback and exits with status 2.
    """

    def __init__(self, message: str):
        super().__init__(" ".join(message.split()))


class NothingToDo(StudyError):
    """A notebook has no row to run with these parameters: where many run on many data sets it is skipped and named."""
