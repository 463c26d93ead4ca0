"""Problems of a process's surroundings, such as a server that does not answer, told in words."""

from __future__ import annotations


class Problem(Exception):
    """Something outside the program keeps it from its work."""

    def __init__(self, message: str | None = None) -> None:
        """
        Args:
            message: one or two sentences, without credentials, that say what is wrong and what to
                do about it. The default is the docstring of the class.
        """
        self.message = message or type(self).__doc__ or ""
        super().__init__(self.message)

    @property
    def sentence(self) -> str:
        """The type and the message, as in `PortInUse: the port 8080 is in use.`"""
        return f"{type(self).__name__}: {self.message}"
