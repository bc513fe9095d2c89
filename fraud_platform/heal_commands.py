"""The commands `fraud-platform heal ...`: how healing stands, why, and what people say to it.

What a person says is appended to the ledger at once, also while another process heals.
"""

import json
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import click
import msgspec

from fraud_platform.adapters.approved_configuration import (
    Approval,
    append_approval,
    read_approval,
)
from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.governance import governance_of
from fraud_platform.adapters.heal_ledger import HealLedger, holder_of, lease
from fraud_platform.adapters.heal_policy_file import (
    POLICY,
    policy_in_force,
    policy_text,
    read_heal_policy,
)
from fraud_platform.adapters.heal_policy_gate import gated_policy
from fraud_platform.adapters.heal_tick import Healer
from fraud_platform.adapters.live_file import live_path, read_live
from fraud_platform.adapters.mode_order import ModeOrder, write_order
from fraud_platform.adapters.model_registry import registry_of
from fraud_platform.adapters.operator import operator_of
from fraud_platform.adapters.orders_file import write_orders
from fraud_platform.card_number import holds_card_number
from fraud_platform.errors import HistoryChangedError, PermanentError
from fraud_platform.events import moment_of
from fraud_platform.heal.account import (
    episode_records,
    explanation,
    log_line,
    status,
    status_text,
)
from fraud_platform.heal.actions import Action
from fraud_platform.heal.causes import NAMES
from fraud_platform.heal.evidence import Evidence
from fraud_platform.heal.records import EVERYTHING, PLATFORM, Kind, Record
from fraud_platform.heal.state import Proposal, State
from fraud_platform.orders import Orders
from fraud_platform.settings import Settings, get_settings

_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_BY = click.option("--by", help="Who says it; default: the operator key's, or the login name.")
_WHY = click.option("--why", required=True, help="Why; kept in the ledger.")
_CAUSE = click.option(
    "--cause", type=click.Choice(NAMES), help="Only this cause; default: all of them."
)
_APPROVE_POLICY = "fraud-platform propose heal-policy --reason ..., which another approves"
_TRIES = 10
_A_TICK = 60.0
"""Seconds that a tick may take."""
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


@click.group()
def heal() -> None:
    """Show what healing sees and does and why, answer it, pause it, stop it."""


@heal.command("status")
@_JSON
def status_(as_json: bool) -> None:
    """Print what is believed, what is done about it, and what may still be done."""
    settings = get_settings()
    records = _ledger(settings).records()
    gated = gated_policy(settings)
    told = status(records, gated.policy, _heard(settings), _now_us())
    holder = holder_of(settings.heal_lease_path)
    live = read_live(live_path(settings.home))
    governor = dict(live.governor) if live else {}
    if as_json:
        found = {"holder": msgspec.to_builtins(holder), **msgspec.to_builtins(told)}
        found["asking"] = gated.why_asking
        click.echo(json.dumps({**found, "governor": governor}, indent=1))
        return
    shown = f"{holder.name}, process {holder.pid} on {holder.host}" if holder else ""
    click.echo(status_text(told, shown))
    if gated.why_asking:
        click.echo(f"{gated.why_asking}: it asks a person first; {_APPROVE_POLICY}")
    if governor:
        click.echo(_cap_text(governor))


@heal.command()
@click.argument("episode", default="")
@_JSON
def explain(episode: str, as_json: bool) -> None:
    """Print why EPISODE (its name, or a cause) went as it went; default: the newest."""
    found = episode_records(_ledger(get_settings()).records(), episode)
    if not found:
        raise PermanentError(
            f"found no episode {episode or 'at all'} in the ledger",
            hint="`fraud-platform heal log` shows all of them.",
        )
    click.echo(json.dumps(msgspec.to_builtins(found), indent=1) if as_json else explanation(found))


@heal.command()
@click.option("--last", type=click.IntRange(min=1), help="Only so many of the newest.")
@_JSON
def log(last: int | None, as_json: bool) -> None:
    """Print every record of the ledger, oldest first."""
    records = _ledger(get_settings()).records()
    shown = records[-last:] if last else records
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(shown), indent=1))
        return
    for record in shown:
        click.echo(log_line(record))


@heal.command()
@click.option("--digest", default="", help="A digest that was kept: it must be in the chain.")
def verify(digest: str) -> None:
    """Check the ledger's chain; prints its length and the digest to keep elsewhere."""
    place = _ledger(get_settings()).verify(digest)
    click.echo(f"{place.links} records, chain whole, digest {place.digest or 'none'}")


@heal.command()
@click.option("--dry-run", is_flag=True, help="Decide only: write nothing, do nothing.")
@_JSON
def tick(dry_run: bool, as_json: bool) -> None:
    """Look once and heal, as the sensor `heal` does; slow remedies are left to its runs."""
    settings = get_settings()
    healer = Healer(settings, EventLog(settings.log_path), registry_of(settings))
    found = healer.tick(_now_us(), by="command", is_dry_run=dry_run)
    records = (*(found.plan.records if found.plan else ()), *found.answers)
    if as_json:
        evidence = {} if found.evidence is None else dict(found.evidence.readings)
        told = {
            "cause": found.cause,
            "readings": msgspec.to_builtins(list(evidence.values())),
            "records": msgspec.to_builtins(records),
            "asked": [act.act_id for act in found.asked],
        }
        click.echo(json.dumps(told, indent=1))
        return
    click.echo(found.cause)
    for record in records:
        click.echo(log_line(record))


@heal.command("configuration")
@click.option("--approve", is_flag=True, help="Approve what the scorer decides by now.")
@_BY
@click.option("--why", default="", help="Why; kept beside the approval.")
def configuration_(approve: bool, by: str, why: str) -> None:
    """Print the settings that the scorer decides by, and which of them nobody approved."""
    settings = get_settings()
    running = _decides_by(settings)
    if approve:
        operator = operator_of(settings, "heal configuration --approve", by)
        _require_a_person(by, why)
        told = Approval(at_us=_now_us(), by=by.strip(), why=why.strip(), values=running)
        act = operator.act("configuration.approve", "policy:configuration", reason=why.strip())
        with governance_of(settings).recording(act):
            append_approval(settings.heal_dir, told)
    approval = read_approval(settings.heal_dir)
    known = {} if approval is None else approval.values
    for name, value in running.items():
        was = known.get(name, value)
        click.echo(f"{name} = {value}" + ("" if was == value else f"  # approved: {was}"))
    if approval is None:
        click.echo("# approved by nobody")
    else:
        at = moment_of(approval.at_us).isoformat()
        click.echo(f"# approved by {approval.by} at {at}: {approval.why}")


# --- what people say ---------------------------------------------------------------------------


@heal.command()
@click.argument("act_id")
@_BY
@_WHY
def approve(act_id: str, by: str, why: str) -> None:
    """Let the remedy ACT_ID be done that waits for a person."""
    _say(lambda state, now_us: [_answer(Kind.APPROVED, act_id, state, now_us)], by, why)


@heal.command()
@click.argument("act_id")
@_BY
@_WHY
def reject(act_id: str, by: str, why: str) -> None:
    """Turn down the remedy ACT_ID; the next one of its episode is tried."""
    _say(lambda state, now_us: [_answer(Kind.REJECTED, act_id, state, now_us)], by, why)


@heal.command()
@_CAUSE
@click.option("--for", "lasts", help="How long, e.g. 90s, 30m, 2h, 1d; default: until resumed.")
@_BY
@_WHY
def pause(cause: str | None, lasts: str | None, by: str, why: str) -> None:
    """Do nothing new; what is in force stays."""
    lasts_us = None if lasts is None else _microseconds(lasts)

    def paused(state: State, now_us: int) -> list[Record]:
        until = None if lasts_us is None else now_us + lasts_us
        return [_word(Kind.PAUSED, state, now_us, cause=cause or EVERYTHING, expires_us=until)]

    _say(paused, by, why)


@heal.command()
@_CAUSE
@_BY
@_WHY
def resume(cause: str | None, by: str, why: str) -> None:
    """End a pause; without --cause every pause, and the kill switch."""

    def resumed(state: State, now_us: int) -> list[Record]:
        found = [_word(Kind.RESUMED, state, now_us, cause=cause or EVERYTHING)]
        if cause is None and state.is_killed:
            found.append(_word(Kind.REVIVED, state, now_us))
        return found

    _say(resumed, by, why)


@heal.command()
@click.option("--lift", is_flag=True, help="Also take back every order: scorers decide as usual.")
@_BY
@_WHY
def kill(lift: bool, by: str, why: str) -> None:
    """Do nothing at all until resumed; what is in force stays, unless --lift."""
    settings = get_settings()

    def killed(state: State, now_us: int) -> list[Record]:
        return [_word(Kind.KILLED, state, now_us)]

    _say(killed, by, why)
    if lift:
        _lift(settings, by, why)


# --- the policy --------------------------------------------------------------------------------


@heal.group()
def policy() -> None:
    """Check or show what healing may do about each cause, and how boldly."""


@policy.command()
@click.argument("file", type=click.Path(path_type=Path))
def check(file: Path) -> None:
    """Check the policy in FILE as healing would, and print its digest."""
    found = read_heal_policy(file)
    click.echo(f"{file}: {len(found.causes)} causes, maturity {int(found.maturity)}")
    click.echo(f"digest {found.digest}")


@policy.command()
def show() -> None:
    """Print the policy in force; to change it, write it to `heal/policy.yaml` in the home."""
    settings = get_settings()
    digest = policy_in_force(settings.heal_dir).digest
    own = settings.heal_dir / POLICY
    click.echo(f"# {own if own.exists() else 'as shipped'}, digest {digest}")
    click.echo(policy_text(settings.heal_dir), nl=False)


def _ledger(settings: Settings) -> HealLedger:
    return HealLedger(settings.heal_ledger_path, governance_of(settings))


def _cap_text(governor: Mapping[str, float]) -> str:
    """The cap in one line, as the scorer last told it."""
    bound, price = governor.get("fpr_bound"), governor.get("price_minor")
    return (
        f"cap: {governor['budget']:.1%} of payments may be disturbed, "
        f"{'nothing promised yet' if bound is None else f'genuine ones at most {bound:.1%}'}; "
        f"audits show {governor.get('audited_fraud', 0.0):.0%} fraud among declines; "
        f"fraud let go per false block avoided: {'none' if price is None else f'{price:.0f} minor'}"
    )


def _heard(settings: Settings) -> Evidence | None:
    """What the scorer last said of itself."""
    live = read_live(live_path(settings.home))
    if live is None:
        return None
    return Evidence(
        readings={reading.signal: reading for reading in live.readings},
        event_us=live.event_us,
        now_us=live.written_us,
        rows=live.payments,
    )


def _decides_by(settings: Settings) -> Mapping[str, str]:
    live = read_live(live_path(settings.home))
    if live is None or not live.configuration:
        raise PermanentError(
            "found no scorer that says what it decides by", hint="start it: `fraud-platform serve`."
        )
    return live.configuration


def _now_us() -> int:
    return time.time_ns() // 1000


def _say(words: Callable[[State, int], list[Record]], by: str, why: str) -> None:
    """Append a person's words about what is true at that very moment."""
    _require_a_person(by, why)
    ledger = _ledger(get_settings())
    for _ in range(_TRIES):
        said = [
            msgspec.structs.replace(record, by=by.strip(), why=why.strip())
            for record in words(ledger.state(), _now_us())
        ]
        try:
            ledger.commit(said)
        except HistoryChangedError:
            continue
        for record in said:
            click.echo(log_line(record))
        return
    raise HistoryChangedError(
        f"found the ledger changing {_TRIES} times while this was to be said", hint="say it again."
    )


def _require_a_person(by: str, why: str) -> None:
    if by.strip() in ("", PLATFORM) or not why.strip():
        raise PermanentError(
            "found no person or no reason, expected both", hint="say --by NAME --why '...'"
        )
    if holds_card_number(by) or holds_card_number(why):
        raise PermanentError(
            "found what looks like a card number, expected none: the ledger is kept for ever",
            hint="name the payment by its transaction id.",
        )


def _word(kind: Kind, state: State, now_us: int, **more: object) -> Record:
    at = state.checked
    record = Record(kind=kind, event_us=at.event_us, now_us=now_us, rows=at.rows)
    return msgspec.structs.replace(record, **more)


def _answer(kind: Kind, act_id: str, state: State, now_us: int) -> Record:
    asked = _waiting(state, act_id, now_us).record
    return _word(
        kind,
        state,
        now_us,
        episode=asked.episode,
        cause=asked.cause,
        act=asked.act,
        rung=asked.rung,
    )


def _waiting(state: State, act_id: str, now_us: int) -> Proposal:
    """The proposal that can still be answered."""
    found = state.proposals.get(act_id)
    if found is None:
        waiting = ", ".join(state.proposals) or "nothing"
        raise PermanentError(
            f"found no remedy {act_id} that waits for a person, expected one of: {waiting}",
            hint="`fraud-platform heal status` shows what waits.",
        )
    if found.record.expires_us is not None and now_us > found.record.expires_us:
        raise PermanentError(
            f"found that the time to answer {act_id} is over",
            hint="it is proposed again if it is still needed: `fraud-platform heal status`.",
        )
    return found


def _lift(settings: Settings, by: str, why: str) -> None:
    """Let scorers decide as usual, and say so in the ledger."""

    def lifted(state: State, now_us: int) -> list[Record]:
        return [
            _word(
                *(Kind.LIFTED, state, now_us),
                episode=one.episode,
                cause=one.cause,
                act=one.act,
            )
            for one in state.orders.values()
        ]

    with lease(settings.heal_lease_path, by, _A_TICK):  # a tick under way writes orders, too
        orders, governance = _ledger(settings).state().orders.values(), governance_of(settings)
        operator = operator_of(settings, "heal kill", by)
        with governance.recording(operator.act("orders.lift", "orders:all", reason=why)):
            write_orders(settings.orders_path, Orders())
        if any(one.act and one.act.action is Action.RULES_ONLY for one in orders):
            order = ModeOrder(reason=why, ordered_by=by, ordered_us=_now_us())
            write_order(settings.mode_path, order, governance, origin="cli")
        _say(lifted, by, why)


def _microseconds(told: str) -> int:
    found = re.fullmatch(r"([1-9][0-9]{0,5})([smhd])", told)
    if found is None:
        raise click.UsageError(f"found --for {told!r}, expected e.g. 90s, 30m, 2h or 1d")
    return int(found[1]) * _SECONDS[found[2]] * 1_000_000
