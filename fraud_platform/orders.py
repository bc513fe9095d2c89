"""What healing has ordered the scorers to do otherwise than the deployment and the policy say.

What belongs here: the orders as one value and their digest. Reading and writing them is
`adapters.orders_file`, obeying is `serving`.
"""

import hashlib
from collections.abc import Mapping

import msgspec


class Orders(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that differs from normal; the default orders nothing.

    Attributes:
        sequence: grows with every write.
        quarantined: groups of features (`fallbacks.GROUPS`) that no decision may rest on: the
            fallback model that was trained without them decides.
        unit_factors: feature of the payment alone -> what its values are divided by before a model
            sees them. What remembers earlier amounts cannot be divided, and is `set_aside`.
        max_disturbed: share of payments that may be reviewed or declined, in place of the
            governor's policy; None: the policy's.
        audit_factor: how many times as many audits are drawn, at least 1.
        is_shedding: no shadow scores.
        learning_frozen: no training and no promotion; scorers ignore it.
        because: act id by order, for people and for the audit.
    """

    sequence: int = 0
    quarantined: tuple[str, ...] = ()
    unit_factors: Mapping[str, float] = {}
    max_disturbed: float | None = None
    audit_factor: float = 1.0
    is_shedding: bool = False
    learning_frozen: bool = False
    because: Mapping[str, str] = {}

    def __post_init__(self) -> None:
        if self.max_disturbed is not None and not 0.0 < self.max_disturbed < 1.0:
            raise ValueError(f"found max_disturbed={self.max_disturbed}, expected one in (0, 1)")
        if not self.audit_factor >= 1.0:
            raise ValueError(f"found audit_factor={self.audit_factor}, expected at least 1")
        if not all(0.0 < factor < float("inf") for factor in self.unit_factors.values()):
            raise ValueError(f"found unit_factors={self.unit_factors}, expected finite, above 0")

    @property
    def set_aside(self) -> tuple[str, ...]:
        """All groups that no decision may rest on: those quarantined, and what mixes two units.

        Examples:
            >>> Orders(unit_factors={"transaction_amount": 100.0}).set_aside
            ('amount_history',)
        """
        mixed = ("amount_history",) if self.unit_factors else ()
        return tuple(dict.fromkeys((*self.quarantined, *mixed)))

    @property
    def digest(self) -> str:
        """Names what is ordered of decisions; the same orders given twice have the same name.

        Examples:
            >>> Orders(sequence=1).digest == Orders(sequence=2).digest
            True
        """
        told = msgspec.structs.replace(self, sequence=0, because={}, learning_frozen=False)
        return hashlib.sha256(msgspec.json.encode(told, order="sorted")).hexdigest()


NORMAL = Orders()
"""Orders nothing."""
