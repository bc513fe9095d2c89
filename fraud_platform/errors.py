"""The exception tree, grouped by what the caller should do.

* FraudPlatformError
  x PermanentError            a rerun cannot help: fix the data, the request or the configuration
    + AccessDeniedError         whoever asks may not do this, or cannot prove who they are
    + DataContractError         rows, columns or a file broke the contract
    + MappingError              a mapping file does not fit its own rules or the data
    + IdempotencyConflictError  the same transaction id with another payload
    + UnknownTransactionError   a label or a look-up names a transaction that the log does not have
      - UnknownPaymentOfLabelError  a label, of a payment that is not there or no more
      - PurgedError               retention deleted it: the audit log says when
    + BundleIntegrityError      a model file, its digest or its golden rows do not agree
    + InexactExplanationError   contributions do not add up to the score they are to explain
    + InvalidLabelError         a label contradicts itself, its transaction or the clock
    + HistoryDamagedError       a line of a chained history was changed, lost or swapped
    + JournalDamagedError       bytes of the scorer's journal were lost or changed
    + KeyStoreError             the file of API keys is damaged or open to others
  x NotReadyError             wait: the thing will exist later
    + LabelsNotMatureError      too few labels are known yet
    + NoChampionError           no model has passed the gate yet
  x UnavailableError          try again: a store, a server or a disk is away
    + AuditUnavailableError     the audit log cannot be written: the act does not happen
    + LogUnavailableError       the event log cannot be read or written
      - JournalFullError          the journal has no room, or nobody drains it
      - JournalBusyError          another process is appending to the log right now
    + HistoryChangedError       somebody appended to a history since it was read
    + LeaseHeldError            another process heals this home right now
    + RegistryUnavailableError  the model registry cannot be reached
    + ScorerFullError           more requests are waiting than the scorer takes
    + ScorerClosedError         the scorer is ordered, or forced, to decide nothing
    + StateUnavailableError     the online state of the features cannot be read or written

A message says what was found and what was expected, then a blank line and `Hint: what to do`.
"""


class FraudPlatformError(Exception):
    """Anything this platform raises on purpose.

    Args:
        message: what was found and what was expected, in one or two sentences.
        hint: what the reader should do next; shown after a blank line.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message if hint is None else f"{message}\n\nHint: {hint}")
        self.message = message
        self.hint = hint


class PermanentError(FraudPlatformError):
    """A rerun cannot help: fix the data, the request or the configuration."""


class AccessDeniedError(PermanentError):
    """Whoever asks may not do this, or cannot prove who they are."""


class DataContractError(PermanentError):
    """Rows, columns or a whole file broke the data contract."""


class MappingError(PermanentError):
    """A mapping file contradicts itself, or the data it is meant for."""


class IdempotencyConflictError(PermanentError):
    """The same transaction id was sent again with another payload."""


class UnknownTransactionError(PermanentError):
    """The log has no transaction under this id."""


class UnknownPaymentOfLabelError(UnknownTransactionError):
    """A label is about a payment that the log never had, or has no more."""

    def __init__(self) -> None:
        super().__init__(
            "found a label for a transaction that is not in the log",
            hint="check its transaction_id; send the transaction first if it never was, but not"
            " again if it is older than what retention keeps",
        )


class PurgedError(UnknownTransactionError):
    """Retention deleted what is asked for; the message names the row of the audit log."""


class BundleIntegrityError(PermanentError):
    """A model bundle is damaged, forged, incomplete or scores its golden rows differently here."""


class InexactExplanationError(PermanentError):
    """The contributions of a score do not add up to it, so they are no explanation."""


class InvalidLabelError(PermanentError):
    """A label contradicts itself, its transaction or the clock."""


class KeyStoreError(PermanentError):
    """The file of API keys is damaged, foreign or can be written by others: no key counts."""


class HistoryDamagedError(PermanentError):
    """A line of a hash-chained history was changed, lost or swapped."""


class JournalDamagedError(PermanentError):
    """Bytes of the scorer's journal that were on the disk are lost or changed."""


class NotReadyError(FraudPlatformError):
    """The thing asked for will exist later: wait and ask again."""


class LabelsNotMatureError(NotReadyError):
    """Too few labels are mature at this `as_of`."""


class NoChampionError(NotReadyError):
    """No model has passed the promotion gate yet."""


class UnavailableError(FraudPlatformError):
    """A store, a server or a disk is away: try again."""


class AuditUnavailableError(UnavailableError):
    """The audit log cannot be read or written; what was to be recorded did not happen."""


class LogUnavailableError(UnavailableError):
    """The event log cannot be read or written."""


class JournalFullError(LogUnavailableError):
    """The journal has no room for another record, or too much of it is not drained."""


class JournalBusyError(LogUnavailableError):
    """Another process is appending to the log right now; nothing is wrong with it."""


class HistoryChangedError(UnavailableError):
    """Somebody appended to a history since it was read: read it again and decide anew."""


class LeaseHeldError(UnavailableError):
    """Another process heals this home right now; nothing is wrong with it."""


class RegistryUnavailableError(UnavailableError):
    """The model registry cannot be reached."""


class ScorerFullError(UnavailableError):
    """More requests are waiting than the scorer takes; nothing of this one was recorded."""


class ScorerClosedError(UnavailableError):
    """The scorer is in mode closed: nothing is decided or recorded."""


class StateUnavailableError(UnavailableError):
    """The online state of the features cannot be read or written, or has lost events."""
