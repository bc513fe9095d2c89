"""What is recorded: an act of a person or a service, and the names that acts may have."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from fraud_platform.card_number import has_no_card_number, holds_card_number
from fraud_platform.errors import PermanentError

ACTIONS: Mapping[str, str] = MappingProxyType(
    {
        "access.refused": "somebody asked for what their role does not allow",
        "audit.head": "somebody asked for a signed head of this log",
        "audit.prove": "somebody took out a proof of one decision",
        "audit.read": "somebody read this log, or a decision as an auditor sees it",
        "audit.scan": "the files of a home were looked through for card numbers",
        "audit.verify": "this log was checked, from its first row or from where a check ended",
        "configuration.approve": "somebody approved the settings that a scorer decides by",
        "heal.approved": "somebody approved a remedy",
        "heal.done": "a remedy was carried out",
        "heal.failed": "a remedy could not be carried out",
        "heal.killed": "somebody stopped healing altogether",
        "heal.lifted": "an order of healing was taken back",
        "heal.paused": "somebody paused healing",
        "heal.planned": "a remedy is to be carried out",
        "heal.rejected": "somebody turned a remedy down",
        "heal.resumed": "somebody ended a pause of healing",
        "heal.revived": "somebody let healing act again",
        "key.create": "an API key was made",
        "key.revoke": "an API key was taken back",
        "key.rotate": "an API key was replaced by another",
        "log.ingest": "a file of payments and labels was taken in",
        "log.seal": "a range of the event log was sealed into this one",
        "mode.order": "somebody ordered the mode in which scorers answer",
        "model.break_glass": "a model was promoted without approval",
        "model.canary": "a challenger's share of the cards was set",
        "model.challenge": "a model was set to score along",
        "model.complete": "a move of models that was interrupted was finished",
        "model.dismiss": "a challenger no longer scores along",
        "model.found": "roles of models were found moved by hand",
        "model.promote": "a model was made the champion",
        "model.publish": "what scorers read was written anew",
        "model.restore": "roles that were moved by hand were put back",
        "model.roll_back": "the champion before was made the champion again",
        "orders.lift": "somebody took back every order of healing",
        "policy.change": "a policy was found to be another than at the last look",
        "proposal.adopt_rules": "other rules of approval came into force",
        "proposal.approve": "somebody approved a proposal",
        "proposal.propose": "somebody proposed a change",
        "proposal.reject": "somebody turned a proposal down",
        "report.export": "a report was written out of the home",
        "restore.accept": "files older than this log were taken for the beginning",
        "retention.hold": "somebody stopped all purges",
        "retention.purge": "data past their limit were deleted",
        "retention.release": "somebody let purges go on",
    }
)
"""Every act that is recorded, by name: one line each, sorted."""

ROUTINE = frozenset({"access.refused", "audit.read", "log.seal"})
"""Acts that come by themselves, and often: their head may wait up to a minute."""

LONGEST_TEXT = 4_096
"""Characters of one text of an act."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""What ends a line, moves a terminal's cursor, turns the direction of a text or is no character."""


def one_line(text: str) -> str:
    r"""What somebody wrote, as an act may have it: without control characters, and not too long.

    Examples:
        >>> one_line("better\nand cheaper")
        'better and cheaper'
    """
    return _CONTROL.sub(" ", text)[:LONGEST_TEXT]


def shown(text: str) -> str:
    r"""A text of a row for a terminal: control characters are written out.

    Examples:
        >>> shown("a\rb")
        'a\\x0db'
    """
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


@dataclass(frozen=True, kw_only=True)
class Act:
    """One act, before or after it is done.

    Attributes:
        actor: the subject: who.
        role: under which role; "" for a service.
        action: what, a name in `ACTIONS`.
        object: to what: `model:3`, `key:ab12cd34`, `policy:heal`, `decision:<id>`.
        origin: from where: `cli`, `api`, `dagster run <id>`, `platform`.
        reason: why, in the actor's words.
        before: digest of the object's state before, hex, or "".
        after: digest of the object's state after, hex, or "".
        facts: what else is to be known; text only, no secrets.

    Raises:
        ValueError: the action has no meaning in `ACTIONS`, or actor or object is empty.
        PermanentError: a text is too long, or holds a card number or a control character; it is
            not repeated.

    Examples:
        >>> Act(actor="ann", role="auditor", action="audit.head", object="log", origin="cli").reason
        ''
    """

    actor: str
    role: str
    action: str
    object: str
    origin: str
    reason: str = ""
    before: str = ""
    after: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.action not in ACTIONS:
            raise ValueError(f"found an act {self.action!r}, expected one of ACTIONS")
        if not self.actor or not self.object:
            raise ValueError("found an act of nobody, or to nothing, expected actor and object")
        digests = self.before, self.after
        for text in (self.actor, self.role, self.object, self.origin, self.reason, *digests):
            _require_plain(text)
        for name, value in self.facts.items():
            _require_plain(name)
            _require_plain(value)


def _require_plain(text: str) -> None:
    if len(text) > LONGEST_TEXT:
        raise PermanentError(
            f"found {len(text)} characters to record, expected at most {LONGEST_TEXT}"
        )
    if _CONTROL.search(text):
        raise PermanentError(
            "found a control character in what is to be recorded, expected one line of text",
            hint="names and ids have none; a reason is given on one line",
        )
    if not (text.isascii() and has_no_card_number(text)) and holds_card_number(text):
        raise PermanentError(
            "found a card number in what is to be recorded, expected none",
            hint="name the card by its token, or the payment by its transaction id",
        )
