"""Every error a user can meet, each with the exit code its command ends with."""

from .redact import redacted

LONGEST = 4000  # characters of a message: the words of another library may repeat a whole damaged file


class SortaseError(Exception):
    """Base of all errors raised on purpose; ``exit_code`` is what a command returns for it."""

    exit_code = 1

    def __str__(self) -> str:
        """Words of foreign errors end up here, and with them what these show."""
        message = str(redacted(super().__str__()))
        if len(message) <= LONGEST:
            return message
        return f"{message[: LONGEST // 2]} [{len(message) - LONGEST:,} characters left out] {message[-LONGEST // 2 :]}"


class WorkFailedError(SortaseError, RuntimeError):
    """The work itself failed: a loss that is not finite, a result that cannot be published."""


class DeviceMemoryError(WorkFailedError):
    """A batch does not fit the memory of the device."""


class ConfigError(SortaseError, ValueError):
    """A setting is unknown, missing, of the wrong type or contradicts another one."""

    exit_code = 2


class InputError(SortaseError, ValueError):
    """Data from the user holds a value that cannot be used."""

    exit_code = 2


class InputTypeError(SortaseError, TypeError):
    """An argument or a file is of another kind than the one expected."""

    exit_code = 2


class MissingInputError(SortaseError, FileNotFoundError):
    """A path the user named does not exist."""

    exit_code = 2


class UnsafePickleError(InputError):
    """A pickle asks for something other than plain containers, text, numbers and arrays."""


class MissingExtraError(SortaseError, ImportError):
    """A feature needs an optional dependency; the message says which extra installs it."""

    exit_code = 2


class ExistingOutputError(ConfigError):
    """The output exists already and was made from other inputs or settings."""


class InfrastructureError(SortaseError, OSError):
    """Storage, a cluster or a machine's resources failed or do not suffice."""

    exit_code = 3


class StorageError(InfrastructureError):
    """A storage service refused, or kept failing after retries."""


class DeadlineError(SortaseError, TimeoutError):
    """The work did not end in the time it was given."""

    exit_code = 4


class CancelledError(SortaseError):
    """The work was stopped on request; it can be continued."""

    exit_code = 5


class FencedError(CancelledError):
    """A later attempt has taken the run over; this one may publish nothing any more."""


class ConflictError(SortaseError, RuntimeError):
    """Somebody else changed meanwhile what this was decided on; look again."""


class GateError(SortaseError):
    """A model did not pass the rules that stand between it and its users."""

    exit_code = 6
