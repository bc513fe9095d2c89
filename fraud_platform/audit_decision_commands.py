"""The commands `fraud-platform audit decision`, `uses` and `replay`: one decision, back and forth.

Thin: a command puts a dossier or a walk together and prints it.
"""

import copy
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from fraud_platform.decision_commands import replay as replayed_decisions
from fraud_platform.lineage import TROUBLE
from fraud_platform.settings import Settings, get_settings

if TYPE_CHECKING:
    from fraud_platform.decision_dossier import Dossier

_STRONGEST = 10
_MADE_BY = ("model", "training_set")


@click.command()
@click.argument("decision_id")
@click.option("--json", "as_json", is_flag=True, help="Print all of it as JSON.")
@click.option("--show-tokens", is_flag=True, help="Do not cover the tokens of card and device.")
def decision(decision_id: str, as_json: bool, show_tokens: bool) -> None:
    """Print all that can be said of one decision: what it saw, why it was so, on what it rests.

    DECISION_ID is a decision_id or the transaction_id of its payment. The score is taken apart
    and the decision taken again just now, by the bundle that it names; every content that its model
    was made of is digested and compared with its record.
    """
    from fraud_platform.adapters.decision_search import audited_name
    from fraud_platform.adapters.home import in_use
    from serving.dossiers import Dossiers

    settings = get_settings()
    _record(settings, "audit decision", f"decision:{audited_name(settings, decision_id)}")
    with in_use(settings.home):
        told = Dossiers(settings).of(decision_id, shows_tokens=show_tokens)
    click.echo(json.dumps(told.to_dict(), indent=1, default=str) if as_json else _text(told))


@click.command()
@click.argument("kind", metavar="TABLE")
@click.argument("part", metavar="DAY")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def uses(kind: str, part: str, as_json: bool) -> None:
    """Print what was made of a TABLE's DAY: contents, models, and the decisions that they took.

    TABLE may also be `source_file` or `journal_segment`, with the file's name or the segment's
    number in place of the day.
    """
    from fraud_platform.adapters.event_log import EventLog
    from fraud_platform.adapters.lineage_graph import LineageGraph
    from fraud_platform.lineage import MODEL

    settings = get_settings()
    _record(settings, "audit uses", f"{kind}:{part}")
    with closing(EventLog(settings.log_path)) as log:
        lineage = LineageGraph(settings, log)
        graph = lineage.downstream(kind, part)
        log.drain()
        told: dict[str, Any] = {
            "of": f"{kind} {part}",
            "contents": [node._asdict() for node in graph.nodes if node[:2] == (kind, part)],
            "made_of_it": graph.spans(),
            "decided": lineage.decided_by(graph.of(MODEL)),
            "seen_from": lineage.seen_from(kind, part),
            "purged": lineage.purged(kind, part),
        }
    if as_json:
        told |= {"nodes": [node._asdict() for node in graph.nodes], "edges": graph.edges}
    click.echo(json.dumps(told, indent=1) if as_json else "\n".join(_used(told)))


replay = copy.copy(replayed_decisions)
"""`decisions replay`, for whoever may audit: a door stands before each of the two by itself."""
_decide_again: Callable[..., object] = replayed_decisions.callback  # type: ignore[assignment]  # click keeps what it decorates


def _record_and_replay(**options: object) -> object:
    from fraud_platform.adapters.decision_search import audited_name

    asked = {name: str(value) for name, value in options.items() if value not in (None, False)}
    looked_at, settings = "decisions", get_settings()
    if "transaction_id" in asked:
        asked["transaction_id"] = audited_name(settings, asked["transaction_id"])
        looked_at = f"decision:{asked['transaction_id']}"
    _record(settings, "audit replay", looked_at, asked)
    return _decide_again(**options)


replay.callback = _record_and_replay


def join(group: click.Group) -> None:
    """Add the commands to `fraud-platform audit`."""
    for command in (decision, uses, replay):
        group.add_command(command)


def _record(
    settings: Settings, command: str, looked_at: str, asked: Mapping[str, str] | None = None
) -> None:
    """A look is written down before anything is shown."""
    from fraud_platform.adapters.audit_log import audit_log_of
    from fraud_platform.adapters.operator import operator_of

    act = operator_of(settings, command).act("audit.read", looked_at, facts=asked or {})
    audit_log_of(settings).record(act)


def _text(told: "Dossier") -> str:
    parts = (
        ("Asked", _pairs(told.asked)),
        ("Answered", _pairs(told.answer)),
        ("Why", told.why),
        ("Reasons", [*map(_reason, told.reasons)] or ["none"]),
        ("Strongest of what was seen", _strongest(told)),
        ("Model", _model(told)),
        ("Roles at that moment", _roles(told.roles)),
        ("Said of the payment since", [_one_line(one) for one in told.labels] or ["nothing"]),
        ("Rests on", _rests_on(told.lineage)),
        ("Decided again just now", _again(told.replayed)),
    )
    return "\n\n".join("\n".join((title, *(f"  {line}" for line in told))) for title, told in parts)


def _pairs(told: Mapping[str, object]) -> list[str]:
    """What is known; counts of microseconds are for programs."""
    shown = {
        name: value
        for name, value in told.items()
        if value not in (None, "", (), []) and not name.endswith("_us")
    }
    width = max(map(len, shown))
    return [f"{name.replace('_', ' '):<{width}}  {_plain(value)}" for name, value in shown.items()]


def _reason(told: Mapping[str, Any]) -> str:
    shares = [f"{share:+.4f}" for share in told["contributions"] if share is not None]
    return "  ".join((told["code"], told["text"], *shares))


def _strongest(told: "Dossier") -> Iterator[str]:
    """The features that moved the score most, or all where no model did."""
    ranked = sorted(told.seen, key=lambda one: -abs(one.contribution or 0.0))
    for one in ranked[:_STRONGEST]:
        share = "" if one.contribution is None else f"{one.contribution:+.4f}  "
        events = "" if one.events is None else f", {one.events} {one.counts} in it"
        window = "" if one.since is None else f" (from {one.since} to {one.until}{events})"
        yield f"{share}{one.name} = {one.value}{window}"
    yield ", ".join(f"{name} {value}" for name, value in told.margin.items())


def _model(told: "Dossier") -> list[str]:
    model = told.model
    if model is None:
        return ["none decided, or its bundle is not here any more"]
    moves = [
        f"{one['at']} {one['act']} by {one['by']}" + (f": {one['why']}" if one["why"] else "")
        for one in model.moves
    ]
    headline = ", ".join(f"{name} {value:.4g}" for name, value in model.headline.items())
    return [
        f"version {model.version}, {model.library}, SHA-256 {model.digest}",
        f"trained as of {model.trained_as_of} on training set {model.training_set_digest}",
        *(_one_line(one) for one in model.training_set.get("slices", ())),  # type: ignore[attr-defined]
        f"evaluation: {headline}",
        *(moves or ["no move of its roles is recorded"]),
    ]


def _roles(roles: Mapping[str, Any]) -> list[str]:
    if not roles:
        return ["no move is recorded before that moment"]
    why = f": {roles['why']}" if roles["why"] else ""
    aliases = ", ".join(f"{name} {version}" for name, version in sorted(roles["aliases"].items()))
    return [f"since {roles['at']} ({roles['act']} by {roles['by']}{why})", aliases]


def _rests_on(lineage: Mapping[str, Any]) -> Iterator[str]:
    counts = Counter(node["state"] for node in lineage["nodes"])
    digested = sum(counts[state] for state in ("same", *TROUBLE))
    troubles = [f"{counts[state]} {state}" for state in TROUBLE if counts[state]]
    yield f"digested just now: {digested} contents, {', '.join(troubles) or 'all as recorded'}"
    for node in lineage["nodes"]:
        if node["kind"] in _MADE_BY and node.get("run_id"):
            yield (
                f"{node['kind']} {node['part']} was made by Dagster run {node['run_id']} at "
                f"{node['made']}, code {node['code_commit'] or 'not said'}"
            )
    for kind, span in lineage["spans"].items():
        nodes = [node for node in lineage["nodes"] if node["kind"] == kind]
        states = {state: [n for n in nodes if n["state"] == state] for state in TROUBLE}
        bad = "".join(f", {len(found)} {state}" for state, found in states.items() if found)
        days = (
            span["first"] if span["first"] == span["last"] else f"{span['first']} to {span['last']}"
        )
        digest = f"  SHA-256 {nodes[0]['digest']}" if len(nodes) == 1 and nodes[0]["digest"] else ""
        yield f"{kind}: {days} ({span['contents']}{bad}){digest}"


def _again(replayed: Mapping[str, Any]) -> list[str]:
    told = [f"{replayed['verdict']}: {replayed['values_compared']} values compared"]
    if replayed["first_difference"]:
        told.append(_one_line(replayed["first_difference"]))
    return [*told, *replayed["gaps"]]


def _used(told: Mapping[str, Any]) -> Iterator[str]:
    yield f"{told['of']} had {len(told['contents'])} contents; made of it:"
    for kind, (count, first, last) in told["made_of_it"].items():
        yield f"  {kind}: {first}" + (f" to {last} ({count})" if count > 1 else "")
    for one in told["decided"]:
        yield f"  decided by model {one['model']}: {one['decisions']:,}"
    yield from (f"  {one}" for one in told["purged"])
    if (seen := told["seen_from"]) is not None:
        yield (
            f"  decisions that could look at it: {seen['within_the_longest_window']:,} in time, "
            f"{seen['on_a_card_or_terminal_of_that_day']:,} on a card or terminal of that day"
        )


def _one_line(told: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {_plain(v)}" for name, v in told.items() if v not in (None, ""))


def _plain(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
