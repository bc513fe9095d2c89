#!/usr/bin/env python3
# /// script
# requires-python = ">=3.11"
# dependencies = ["cryptography"]
# ///
"""Check a fraud_platform audit log, or a proof from it, without importing or trusting the platform.

    verify_audit.py log audit.db --public KEY.pub [--first-key KEY] [--anchor FILE] [--events FILE]
    verify_audit.py log FOLDER --public KEY.pub [...]      acts.csv, heads.csv, tail.csv by psql
    verify_audit.py proof proof.json --public KEY.pub
    verify_audit.py heads OLD.head consistency.json --public KEY.pub

Exit code 0: all is as it was written; 1: it is not, and the first bad place is named. Hashes: RFC
6962 (SHA-256, leaf 0x00, node 0x01) over MessagePack in its shortest forms, keys of maps sorted.
Chain: SHA256(previous || leaf). MAC: HMAC-SHA256(key of the epoch, chain). Heads: C2SP, Ed25519.
"""

import argparse
import csv
import hmac
import json
import re
import sqlite3
import struct
import sys
from base64 import b64decode
from hashlib import sha256
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

ROW = "seq at_us actor role action object origin outcome reason before after facts begun epoch"
NOTE = re.compile(r"((\S+)\n(\d+)\n(\S{44})\nfraud-platform/1 \d+ (\S+)\n)\n\u2014 (\S+) (\S+)\n")
DUMPED = {"acts": f"{ROW} chain mac", "heads": "size note"}
DUMPED["tail"] = "name size chain frontier epoch head_size head_us head_digest"
NUMBERS = {"seq", "at_us", "begun", "epoch", "size", "head_size", "head_us"}
SIZES = {str: (0xA0, 32, b"\xd9\xda\xdb"), bytes: (0, 0, b"\xc4\xc5\xc6")}
SIZES |= {list: (0x90, 16, b"\0\xdc\xdd"), dict: (0x80, 16, b"\0\xde\xdf")}


class Bad(Exception):  # noqa: N818 -- that is what it is
    """Something from row `first` to row `last` is not what was written."""

    def __init__(self, kind, first, last=0, where="row"):
        self.kind, self.first, self.last = kind, first, last or first
        super().__init__(f"{where} {self.first}..{self.last}: {kind}")


def encoded(value):
    """MessagePack."""
    if isinstance(value, float):
        return b"\xcb" + struct.pack(">d", value)
    if isinstance(value, int):
        if -32 <= value < 128:
            return struct.pack(">b", value)
        widths = (1, 2, 4, 8)
        width = next(w for w in widths if -(256**w) // 2 <= value < 256**w)
        code = (0xD0 if value < 0 else 0xCC) + widths.index(width)
        return bytes([code]) + value.to_bytes(width, "big", signed=value < 0)
    short, few, codes = SIZES[type(value)]
    data = value.encode() if isinstance(value, str) else value
    if (count := len(data)) < few:
        size = bytes([short | count])
    else:
        width = next(w for w, code in zip((1, 2, 4), codes, strict=True) if code and count < 256**w)
        size = codes[width // 2 : width // 2 + 1] + count.to_bytes(width, "big")
    if isinstance(value, dict):
        data = b"".join(encoded(key) + encoded(value[key]) for key in sorted(value))
    return size + (b"".join(map(encoded, value)) if isinstance(value, list) else data)


def leaf_of(value):
    """The hash of an entry."""
    return sha256(b"\0" + encoded(value)).digest()


def node(left, right):
    """The hash of two subtrees."""
    return sha256(b"\1" + left + right).digest()


def roots_of(leaves, sizes):
    """The roots of the trees of the first leaves, by size, and the frontier of the last."""
    stack, roots = [], {0: sha256().digest()}
    for size, leaf in enumerate(leaves, 1):
        stack, rest = [*stack, leaf], size
        while rest % 2 == 0:
            right = stack.pop()
            stack[-1], rest = node(stack[-1], right), rest // 2
        if size in sizes:
            root = stack[-1]
            for left in stack[-2::-1]:
                root = node(left, root)
            roots[size] = root
    return roots, b"".join(stack)


def climbed(leaf, index, size, path):
    """The root that an inclusion path leads to."""
    if size == 1:
        return b"" if path else leaf
    half = 1 << (size - 1).bit_length() - 1
    if index < half:
        return node(climbed(leaf, index, half, path[:-32]), path[-32:])
    return node(path[-32:], climbed(leaf, index - half, size - half, path[:-32]))


def both_roots(old_root, old, new, path, *, is_whole=True):
    """The old and the new root that a consistency path leads to."""
    if old == new:
        return (old_root,) * 2 if is_whole else (path,) * 2
    half = 1 << (new - 1).bit_length() - 1
    if old <= half:
        below, above = both_roots(old_root, old, half, path[:-32], is_whole=is_whole)
        return below, node(above, path[-32:])
    below, above = both_roots(old_root, old - half, new - half, path[:-32], is_whole=False)
    return node(path[-32:], below), node(path[-32:], above)


def is_signed(content, signature, public):
    """Whether the holder of this key signed this."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, content)
    except InvalidSignature:
        return False
    return True


def heads_of(text, public):
    """Signed heads one after the other, as far as they are: size, root, digest, the one before.

    `public` is one key of 32 bytes after the other, the newest last; no head is by an older one
    than the head before.
    """
    heads, end, size, keys = [], 0, 0, [public[at : at + 32] for at in range(0, len(public), 32)]
    while end < len(text):
        if (found := NOTE.match(text, end)) is None:
            return heads, Bad("head forged", size + 1, size + 1000)
        signed, origin, size, root, previous, _, seal = found.groups()
        size, end = int(size), found.end()
        while keys and not is_signed(signed.encode(), b64decode(seal)[4:], keys[0]):
            del keys[0]
        if not keys:
            return heads, Bad("head forged", size)
        digest = sha256(found[0].encode()).hexdigest()
        heads.append((size, b64decode(root), digest, previous, origin.split("/")[-1]))
    return heads, None


def anchored(place, public):
    """The heads in a file that was kept elsewhere, or in all of a folder; a torn end is no head."""
    files = sorted(Path(place).glob("*.heads")) if Path(place).is_dir() else [Path(place)]
    text = "".join(file.read_text("utf-8", "replace") for file in files)
    ends = [found.end() for found in re.finditer("\n\u2014 .+\n", text)]
    return heads_of(text[: [0, *ends][-1]], public)


def read_rows(rows, name, key, epoch, headed, turns):
    """The leaves up to the first bad row, the chain there, what is bad; only heads turn epochs."""
    chain, leaves, last = sha256(name.encode()).digest(), [], 0
    for row in rows:
        here, leaf = len(leaves) + 1, leaf_of(list(row[:14]))
        following = sha256(chain + leaf).digest()
        if row[0] != here:
            return leaves, chain, Bad("deleted or renumbered", here)
        if following != row[14]:
            return leaves, chain, Bad("edited, inserted, swapped or renumbered", here)
        if (step := row[13] - last) == 1 and key and epoch == last:
            key, epoch = sha256(key).digest(), epoch + 1
        is_sealed = not key or (epoch, hmac.digest(key, following, "sha256")) == (row[13], row[15])
        if step not in (0, 1) or not is_sealed:
            return leaves, chain, Bad("rewritten, inserted or its MAC was changed", here)
        if step != (here - 1 in headed):
            turns.append(Bad("head dropped" if step else "head forged", here - 1))
        chain, last = following, row[13]
        leaves.append(leaf)
    return leaves, chain, None


def wrong_heads(heads, anchors, roots, tail, count):
    """What is wrong with the log's heads, or with the log by those that were kept elsewhere."""
    size, previous, known, good = 0, "-", {head[2] for head in heads}, 0
    for at, root, digest, before, name in heads:
        if name != tail["name"] or roots.get(at, root) != root:
            yield Bad("rewritten", size + 1, at) if name == tail["name"] else Bad("forged", at)
        if before != previous or not 0 < at - size <= 1000:
            yield Bad("head dropped", size + 1, at)
        size, previous = at, digest
    is_due = tail["size"] - size >= 1000
    if is_due or (tail["head_size"], tail["head_digest"] or "-") != (size, previous):
        yield Bad("head dropped", size + 1, max(size + 1, tail["head_size"]))
    for at, root, digest, _, _ in sorted(anchors):
        if at > count:
            yield Bad("cut", count + 1)
        elif digest not in known:
            yield Bad("rewritten", good + 1, at) if roots[at] != root else Bad("head dropped", at)
        good = at


def check_log(path, public, first_key="", anchor="", events=""):
    """Rows and heads of a log, and what it sealed; raises the first `Bad`."""
    log = opened(path)
    tail = log.execute("SELECT * FROM tail").fetchone()
    notes = [note for (note,) in log.execute("SELECT note FROM heads ORDER BY size")]
    heads, forged = heads_of("".join(notes), public)
    forged = forged or (
        heads_of(notes[-1], public[-32:])[1] if heads else None
    )  # by the newest key
    anchors, unread = anchored(anchor, public) if anchor else ([], None)
    epoch, key = Path(first_key).read_text().split() if first_key else (0, "")
    rows = log.execute(f"SELECT {ROW.replace(' ', ', ')}, chain, mac FROM acts ORDER BY seq")  # noqa: S608
    headed, turns = {head[0] for head in heads}, []
    leaves, chain, bad = read_rows(rows, tail["name"], b64decode(key), int(epoch), headed, turns)
    roots, frontier = roots_of(leaves, {head[0] for head in heads + anchors})
    end, told = len(leaves), max([tail["size"], *(head[0] for head in heads[-1:])])
    found = [one for one in (bad, *turns, forged, unread) if one]
    if not found and anchor and ({head[4] for head in anchors} - {tail["name"]} or not anchors):
        found.append(Bad("replaced or not anchored", 1, end))
    if not bad and told != end:
        found.append(Bad("cut", end + 1) if told > end else Bad("inserted", told + 1))
    elif not bad and (tail["chain"], tail["frontier"]) != (chain, frontier):
        found.append(Bad("tail", end))
    found += wrong_heads(heads, [] if bad else anchors, roots, tail, end) if not forged else []
    if found:
        raise min(found, key=lambda one: one.last)
    if events:
        check_events(log, opened(events))
    return f"{end:,} rows, {len(heads):,} heads, {len(anchors):,} from elsewhere"


def check_events(audit, log):
    """The event log against the roots of its ranges."""
    columns = "object, after, facts"
    seals = audit.execute(f"SELECT {columns} FROM acts WHERE action = 'log.seal' ORDER BY seq")  # noqa: S608
    (name,), end = log.execute("SELECT log FROM identity").fetchone(), 0
    purged = purges_of(audit, f"log:{name}")
    for table in ("transactions", "labels"):
        if log.execute(f"SELECT 1 FROM {table} WHERE seq < 1").fetchone():  # noqa: S608
            raise Bad("unsealed", 0, where="event log, position")

    for about, root, facts in seals:
        first, last = map(int, json.loads(facts).values())
        if (about, first) != (f"log:{name}", end + 1):
            raise Bad("renamed or unsealed", end + 1, last, "event log, position")
        end = last
        if is_purged(log, purged, first, last):
            continue
        leaves = list(leaves_of(log, first, last))
        if roots_of(leaves, {len(leaves)})[0][len(leaves)].hex() != root:
            raise Bad("changed since it was sealed", first, last, "event log, position")


def leaves_of(log, first, last):
    """The leaves of what the event log stores at positions."""

    def stored(table, column, value):
        row = log.execute(f"SELECT * FROM {table} WHERE {column} = ?", (value,)).fetchone()  # noqa: S608
        return {name: found for name, found in dict(row or {}).items() if found is not None}

    for seq in range(first, last + 1):
        record = {kind: stored(f"{kind}s", "seq", seq) for kind in ("transaction", "label")}
        payment = record["transaction"].get("transaction_id")
        record["decision"] = stored("decisions", "transaction_id", payment)
        yield leaf_of({key: value for key, value in record.items() if value})


def is_purged(log, purged, first, last):
    """Whether a range went by retention; if it did, nothing may stand there."""
    if not any(start <= first and last <= end for start, end in purged):
        return False
    for table in ("transactions", "labels"):
        query = f"SELECT 1 FROM {table} WHERE seq BETWEEN ? AND ?"  # noqa: S608
        if log.execute(query, (first, last)).fetchone():
            raise Bad("put back after it was purged", first, last, "event log, position")
    return True


def purges_of(audit, about):
    """The ranges of the event log that retention purged: old enough, whole, as they were sealed."""
    rows = "SELECT * FROM acts WHERE action LIKE 'retention.%' ORDER BY seq"
    rows, held, found = audit.execute(rows).fetchall(), False, []
    done = {row["begun"] for row in rows if row["outcome"] == "done"}
    for row in rows:
        kind, outcome, told = row["action"].split(".")[1], row["outcome"], json.loads(row["facts"])
        if kind == "hold":
            held = held or not outcome.startswith("failed")
        held = held and (kind, outcome) != ("release", "done")
        if held or (kind, outcome, row["object"]) != ("purge", "begun", about):
            continue
        numbers = [str(told.get(name)) for name in ("first", "last", "newest_us", "days")]
        if not all(number.isdecimal() for number in numbers):
            continue
        first, last, newest, days = map(int, numbers)
        seals = audit.execute(
            "SELECT after, facts FROM acts WHERE action = 'log.seal' AND object = ? AND seq < ?"
            " ORDER BY seq",
            (about, row["seq"]),
        )
        spans = [(*map(int, json.loads(facts).values()), root) for root, facts in seals]
        mine = [(start, end, root) for start, end, root in spans if first <= start and end <= last]
        roots = [bytes.fromhex(root) for *_, root in mine]
        is_whole = mine and (mine[0][0], mine[-1][1]) == (first, last)
        is_old = newest < row["at_us"] - max(1, days) * 86_400_000_000
        follows = first <= max([end for _, end in found], default=0) + 1
        is_named = is_whole and roots_of(roots, {len(roots)})[0][len(roots)].hex() == row["before"]
        if row["seq"] in done and is_old and follows and is_named:
            found.append((first, last))
    return found


def check_proof(proof, public):
    """From the record to the signed head."""
    record, row, (first, last) = proof["record"], proof["row"], proof["range"].values()
    for fields in record.values():
        fields |= {k: b64decode(v["base64"]) for k, v in fields.items() if type(v) is dict}
    heads, place = heads_of(proof["head"], public[-32:])[0], proof["position"]
    if not heads:
        raise Bad("its head is not by the newest of these keys", place, where="position")
    head, seal = heads[0], leaf_of([row[name] for name in ROW.split()])
    path = b64decode(proof["range_path"])
    root = climbed(leaf_of(record), place - first, last - first + 1, path).hex()
    top = climbed(seal, row["seq"] - 1, head[0], b64decode(proof["row_path"]))
    is_about = {fields["transaction_id"] for fields in record.values()} == {proof["transaction_id"]}
    is_range = json.loads(row["facts"]) == {"first": str(first), "last": str(last)}
    is_sealed = (row["action"], row["after"], top) == ("log.seal", root, head[1])
    is_about &= first <= place <= last and {fields["seq"] for fields in record.values()} == {place}
    if not (is_about and is_range and is_sealed):
        raise Bad("the record is not what was sealed", place, where="position")
    return f"position {place:,} is under the head of {head[0]:,} rows"


def check_growth(old, new, public):
    """That a new head continues an old one: nothing under the old one was changed."""
    told = json.loads(new.read_text("utf-8"))
    (*_, old, head), forged = heads_of(old + told["head"], public)
    forged = forged or heads_of(told["head"], public[-32:])[1]
    roots = both_roots(old[1], old[0], head[0], b64decode(told["path"]))
    if forged or roots != (old[1], head[1]):
        raise Bad("the new head does not continue the old one", old[0])
    return f"the head of {head[0]:,} rows continues that of {old[0]:,}"


def opened(path):
    """A database, never written; of a folder of CSV files from PostgreSQL, one in memory."""
    if Path(path).is_dir():
        return dumped(Path(path))
    log = sqlite3.connect(f"{Path(path).absolute().as_uri()}?mode=ro", uri=True)
    log.row_factory = sqlite3.Row
    return log


def dumped(folder):
    """The tables of a log that `psql` wrote out: acts.csv, heads.csv and tail.csv."""
    log = sqlite3.connect(":memory:")
    log.row_factory = sqlite3.Row
    csv.field_size_limit(1 << 30)
    for table, columns in DUMPED.items():
        names, marks = columns.split(), ", ".join("?" * len(columns.split()))
        log.execute(f"CREATE TABLE {table} ({', '.join(names)})")
        with (folder / f"{table}.csv").open(newline="", encoding="utf-8") as file:
            rows = ([stored_as(name, row[name]) for name in names] for row in csv.DictReader(file))
            log.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)  # noqa: S608
    return log


def stored_as(name, text):
    """A value of a dump as SQLite keeps it."""
    if name in ("chain", "mac", "frontier"):
        return bytes.fromhex(text.removeprefix("\\x"))
    return int(text) if name in NUMBERS else text


def main():
    """Run the check that is asked for."""
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("what", choices=("log", "proof", "heads"))
    parser.add_argument("files", nargs="+")
    for name in ("--public", "--first-key", "--anchor", "--events"):
        parser.add_argument(name, default="", required=name == "--public")
    told = parser.parse_args()
    public = b"".join(b64decode(line) for line in Path(told.public).read_text().split())
    path = told.files[0]
    try:
        if told.what == "log":
            said = check_log(path, public, told.first_key, told.anchor, told.events)
        elif told.what == "proof":
            said = check_proof(json.loads(Path(path).read_text("utf-8")), public)
        else:
            said = check_growth(Path(path).read_text("utf-8"), Path(told.files[1]), public)
    except Bad as bad:
        sys.exit(f"BAD {bad}")
    print(f"good: {said}")  # noqa: T201 -- a program


if __name__ == "__main__":
    main()
