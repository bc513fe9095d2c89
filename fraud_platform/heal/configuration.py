"""By which settings payments are decided, and whether they are those that a person approved.

What belongs here: naming the settings and comparing them. What was approved is kept by
`adapters.approved_configuration`; what is in force, a scorer tells in its live file.
"""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from fraud_platform.decision import Thresholds
from fraud_platform.heal import probes
from fraud_platform.heal.evidence import Reading, Signal, Standing
from fraud_platform.heal.reference import blind

HOW = "`fraud-platform heal configuration` shows and approves it"


def settings_of(**policies: Any) -> dict[str, str]:
    """Every setting of these policies, as text by its name.

    Args:
        **policies: dataclasses by the name that the settings give them.

    Examples:
        >>> from fraud_platform.decision import DecisionPolicy
        >>> settings_of(decision=DecisionPolicy())["decision.review_fpr"]
        '0.02'
    """
    return {
        f"{name}.{field.name}": str(getattr(policy, field.name))
        for name, policy in policies.items()
        for field in fields(policy)
    }


def cuts_of(cuts: Thresholds) -> dict[str, str]:
    """A model's cuts, named like settings.

    Examples:
        >>> cuts_of(Thresholds(0.3, 0.8))
        {'thresholds.review': '0.3', 'thresholds.decline': '0.8'}
    """
    return settings_of(thresholds=cuts)


def differences(expected: Mapping[str, str], running: Mapping[str, str]) -> tuple[str, ...]:
    """Each setting that is otherwise than expected, in words.

    Examples:
        >>> differences({"decision.review_fpr": "0.02"}, {"decision.review_fpr": "0.5"})
        ('decision.review_fpr is 0.5 in place of 0.02',)
    """
    return tuple(
        f"{name} is {running[name]} in place of {value}"
        for name, value in expected.items()
        if name in running and running[name] != value
    )


def judged(
    approved: Mapping[str, str] | None, registered: Mapping[str, str], running: Mapping[str, str]
) -> Reading:
    """Are policy and thresholds those that were approved?

    Args:
        approved: settings that a person approved; None: nobody ever did, so that only the cuts can
            be wrong.
        registered: the cuts by the manifest of the model that decides.
        running: both, as a scorer says that it decides by them; empty: none says.

    Returns:
        CONFIGURATION; subjects are the settings that differ.
    """
    expected = {**(approved or {}), **registered}
    found = probes.configuration(expected, running)
    if found.standing is Standing.BREACHED:
        return replace(found, why="; ".join(differences(expected, running)))
    if approved is None:
        return blind(Signal.CONFIGURATION, f"nobody approved a configuration yet: {HOW}")
    return found
