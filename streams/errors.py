"""Every error that the platform raises on purpose, and the exit code that each ends a process with."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of every process of the platform (after sysexits.h where one fits)."""

    OK = 0
    FAILED = 1
    """Something unexpected: the supervisor starts the process again, with backoff."""
    USAGE = 2
    """The command line or a setting is wrong."""
    UNAVAILABLE = 69
    """Kafka, PostgreSQL or a source cannot be reached: started again, with backoff."""
    RESTART = 75
    """The assignment changed: a flow process begins anew with it by itself; nothing is wrong."""
    FENCED = 76
    """Another process of the same name took over: never started again."""
    NEEDS_OPERATOR = 78
    """State, offsets or settings contradict each other; a person decides: never started again."""


class TrendsError(Exception):
    """Base of all errors that the platform raises on purpose.

    ::

        TrendsError
         ├── SettingsError          a setting is missing or wrong                          exit 2
         ├── RecordError            bytes that are no valid record (carries the Reason)
         ├── StreamTableError       a stream is missing or differs from the table          exit 78
         ├── UnavailableError       a remote part cannot be reached or does not answer     exit 69
         │    ├── FetchError        a request to a source failed for good (connectors.http)
         │    └── DeliveryError     Kafka did not take a batch (connectors.runner)
         ├── SourceError            a source cannot be read (connectors.base)              exit 69
         ├── RestartRequired        the assignment changed                                 exit 75
         │    └── MemoryUnknown     our code failed in the middle of a chunk (flows.guard) exit 75
         ├── FencedError            a process of the same name took over                   exit 76
         ├── StateMismatchError     state and committed offsets contradict each other      exit 78
         ├── StateVersionError      state in a format that this release does not read      exit 78
         ├── GroupBusyError         processes of the flow run, or one has joined              exit 78
         ├── OffsetsExpiredError    committed offsets are no longer in the stream          exit 78
         ├── GenerationError        a generation is in no state for what was asked         exit 78
         └── FailureLimitError      too many failures of ours in a row                     exit 78
    """

    exit_code = ExitCode.FAILED


class SettingsError(TrendsError):
    """A setting is missing or wrong; the message names it and says what to do."""

    exit_code = ExitCode.USAGE


class StreamTableError(TrendsError):
    """A stream is missing, or differs from the stream table in a way that is not mended silently."""

    exit_code = ExitCode.NEEDS_OPERATOR


class UnavailableError(TrendsError):
    """A remote part (broker, database, web API) cannot be reached or did not answer in time."""

    exit_code = ExitCode.UNAVAILABLE


class RestartRequired(TrendsError):
    """The consumer group gave this process other partitions: it starts again with them."""

    exit_code = ExitCode.RESTART


class MemoryUnknown(RestartRequired):
    """A flow's own code failed in the middle of something: it begins anew with what the log says."""


class FencedError(TrendsError):
    """Another process of the same name took over; this one must not write any more."""

    exit_code = ExitCode.FENCED


class StateMismatchError(TrendsError):
    """The state streams do not cover exactly what the consumer group has committed."""

    exit_code = ExitCode.NEEDS_OPERATOR


class StateVersionError(TrendsError):
    """A state stream is of another format than this release reads: migrated first, or read by another release."""

    exit_code = ExitCode.NEEDS_OPERATOR


class GroupBusyError(TrendsError):
    """What can be done only while no process of a flow runs was asked for while one does."""

    exit_code = ExitCode.NEEDS_OPERATOR


class OffsetsExpiredError(TrendsError):
    """Records that this flow has not read yet are gone from the stream (retention, or it was made anew)."""

    exit_code = ExitCode.NEEDS_OPERATOR


class GenerationError(TrendsError):
    """A generation is in no state for what was asked of it: live, behind, still in use, nothing to go back to."""

    exit_code = ExitCode.NEEDS_OPERATOR


class FailureLimitError(TrendsError):
    """So many records failed in our own code that going on would empty the stream into dead letters."""

    exit_code = ExitCode.NEEDS_OPERATOR
