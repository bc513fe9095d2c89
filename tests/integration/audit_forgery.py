"""What somebody with the file of an audit log can do to it; each function is one forgery."""

import random
import sqlite3
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

from fraud_platform.adapters.audit_store import packed
from fraud_platform.adapters.signatures import Signer
from fraud_platform.audit_log.heads import parse_head, signed_head
from fraud_platform.audit_log.merkle import Frontier, grown, root, root_of
from fraud_platform.audit_log.rows import MacKey, Row, chained, leaf, start_of

Forgery = Callable[["Copy", random.Random], int]


class Copy:
    """A copy of a log that its owner writes as they like.

    Args:
        path: the SQLite file, without triggers from now on.
    """

    def __init__(self, path: Path) -> None:
        self.database = sqlite3.connect(path, isolation_level=None)
        self.database.execute("PRAGMA synchronous=OFF")
        names = self.database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        for (name,) in names.fetchall():
            self.database.execute(f"DROP TRIGGER {name}")

    @property
    def rows(self) -> list[Row]:
        """All rows."""
        return list(map(Row._make, self.database.execute("SELECT * FROM acts ORDER BY seq")))

    def write(self, rows: Sequence[Row]) -> None:
        """These rows and no others, and a tail that fits them."""
        self.database.execute("BEGIN")
        self.database.execute("DELETE FROM acts")
        marks = ", ".join("?" * len(Row._fields))
        self.database.executemany(f"INSERT INTO acts VALUES ({marks})", rows)  # noqa: S608
        frontier: Frontier = ()
        for size, row in enumerate(rows):
            frontier = grown(frontier, size, leaf(row))
        told = (len(rows), rows[-1].chain, packed(frontier), rows[-1].epoch)
        self.database.execute("UPDATE tail SET size = ?, chain = ?, frontier = ?, epoch = ?", told)
        self.database.execute("COMMIT")

    def keep_heads(self, notes: Sequence[str]) -> None:
        """These heads and no others, and a tail that remembers the last."""
        self.database.execute("DELETE FROM heads")
        heads = [parse_head(note) for note in notes]
        self.database.executemany(
            "INSERT INTO heads VALUES (?, ?)", [(h.size, h.note) for h in heads]
        )
        size, digest = (heads[-1].size, heads[-1].digest) if heads else (0, "")
        self.database.execute("UPDATE tail SET head_size = ?, head_digest = ?", (size, digest))

    @property
    def notes(self) -> list[str]:
        """All heads."""
        return [n for (n,) in self.database.execute("SELECT note FROM heads ORDER BY size")]

    @property
    def name(self) -> str:
        """The log's."""
        return str(self.database.execute("SELECT name FROM tail").fetchone()[0])


def rechained(rows: Sequence[Row], name: str) -> list[Row]:
    """The rows with numbers and chains that fit, as anybody can make them."""
    chain, found = start_of(name).chain, []
    for seq, row in enumerate(rows, 1):
        numbered = row._replace(seq=seq)
        chain = chained(chain, leaf(numbered))
        found.append(numbered._replace(chain=chain))
    return found


def edit_a_field(copy: Copy, draw: random.Random) -> int:
    rows = copy.rows
    at = draw.randrange(len(rows))
    name = draw.choice(
        ["actor", "role", "action", "object", "origin", "outcome", "reason", "facts"]
    )
    rows[at] = rows[at]._replace(**{name: f"other {draw.random()}"})
    copy.write(rows)
    return at + 1


def edit_one_character(copy: Copy, draw: random.Random) -> int:
    rows = copy.rows
    at = draw.randrange(len(rows))
    text = rows[at].object
    spot = draw.randrange(len(text))
    changed = text[:spot] + chr(ord(text[spot]) ^ 1) + text[spot + 1 :]
    rows[at] = rows[at]._replace(object=changed)
    copy.write(rows)
    return at + 1


def delete_a_row(copy: Copy, draw: random.Random) -> int:
    rows = copy.rows
    at = draw.randrange(len(rows) - 1)
    copy.write(rows[:at] + rows[at + 1 :])
    return at + 1


def insert_a_row(copy: Copy, draw: random.Random) -> int:
    rows = copy.rows
    at = draw.randrange(1, len(rows) - 1)
    foreign = rows[at]._replace(actor="mallory", seq=at + 1)
    if draw.random() < 0.5:  # one that stands well on the row before, as anybody can make it
        foreign = foreign._replace(chain=chained(rows[at - 1].chain, leaf(foreign)))
    behind = [row._replace(seq=row.seq + 1) for row in rows[at:]]
    copy.write([*rows[:at], foreign, *behind])
    return at + 1


def swap_two_rows(copy: Copy, draw: random.Random) -> int:
    rows = copy.rows
    at = draw.randrange(len(rows) - 1)
    other = at + 1 if draw.random() < 0.5 else draw.randrange(at + 1, len(rows))
    rows[at], rows[other] = (
        rows[other]._replace(seq=rows[at].seq),
        rows[at]._replace(seq=rows[other].seq),
    )
    copy.write(rows)
    return at + 1


def delete_and_renumber(copy: Copy, draw: random.Random) -> int:
    rows = copy.rows
    at, many = draw.randrange(len(rows) - 10), draw.choice([1, 1, 2, 5])
    behind = [row._replace(seq=row.seq - many) for row in rows[at + many :]]
    copy.write([*rows[:at], *behind])
    return at + 1


def rewrite_the_chain(copy: Copy, draw: random.Random) -> int:
    rows = copy.rows
    at = draw.randrange(len(rows) - 1)
    rows[at] = rows[at]._replace(reason="never mind")
    copy.write(rechained(rows, copy.name))
    return at + 1


def change_a_mac(copy: Copy, draw: random.Random) -> int:
    rows = copy.rows
    at = draw.randrange(len(rows) - 1)
    rows[at] = rows[at]._replace(mac=sha256(rows[at].mac).digest())
    copy.write(rows)
    return at + 1


def drop_a_head(copy: Copy, draw: random.Random) -> int:
    notes = copy.notes
    at = draw.randrange(len(notes) - 1)
    copy.database.execute("DELETE FROM heads WHERE note = ?", (notes[at],))
    return parse_head(notes[at]).size


def forge_a_head(copy: Copy, draw: random.Random) -> int:
    heads = [parse_head(note) for note in copy.notes]
    head = draw.choice(heads)
    forger = Signer(draw.randbytes(32))
    leaves = [leaf(row) for row in copy.rows[: head.size]]
    forged = signed_head(
        copy.name,
        size=head.size,
        root=root(leaves),
        at_us=head.at_us + 1,
        previous=head.previous,
        signer=forger,
    )
    copy.database.execute("UPDATE heads SET note = ? WHERE size = ?", (forged.note, head.size))
    return head.size


FORGERIES: dict[Forgery, str] = {
    edit_a_field: "edited",
    edit_one_character: "edited",
    delete_a_row: "deleted",
    insert_a_row: "inserted",
    swap_two_rows: "swapped",
    delete_and_renumber: "renumbered",
    rewrite_the_chain: "rewritten",
    change_a_mac: "mac",
    drop_a_head: "head dropped",
    forge_a_head: "head forged",
}
"""Forgery -> what it must be called."""


def cut_the_end(copy: Copy, draw: random.Random) -> int:
    """With all that tells of it; nothing in the file is wrong afterwards."""
    heads = [parse_head(note) for note in copy.notes]
    at = draw.randrange(1, heads[-1].size)
    copy.write(copy.rows[:at])
    copy.keep_heads([head.note for head in heads if head.size <= at])
    return at + 1


def drop_the_last_head(copy: Copy, draw: random.Random) -> int:
    """With what the tail remembers of it."""
    notes = copy.notes
    copy.keep_heads(notes[:-1])
    return parse_head(notes[-1]).size


def write_it_anew(copy: Copy, draw: random.Random, first_key: MacKey, signer: Signer) -> int:
    """As somebody who holds all keys of the log: other rows from one on, and heads of them."""
    rows = copy.rows
    at = draw.randrange(parse_head(copy.notes[-1]).size)
    rows[at] = rows[at]._replace(actor="mallory")
    rows = rechained(rows, copy.name)
    copy.write([r._replace(mac=first_key.at(r.epoch).mac(r.chain)) for r in rows])
    _sign_anew(copy, [parse_head(note).size for note in copy.notes], signer)
    return at + 1


def write_with_the_keys_of_now(copy: Copy, draw: random.Random, key: MacKey, signer: Signer) -> int:
    """As somebody who takes the machine: its MAC key is of the present epoch, its head key of all.

    They let all rows from one on leap into that epoch, or put a head behind each so that it comes.
    """
    rows, sizes = copy.rows, [parse_head(note).size for note in copy.notes]
    at = draw.randrange(10, next(n for n, row in enumerate(rows) if row.epoch == key.epoch - 5))
    leaps = draw.random() < 0.5
    epochs = [key.epoch if leaps else rows[at].epoch + n for n in range(len(rows))]
    behind = [
        row._replace(actor="mallory", epoch=epoch)
        for row, epoch in zip(rows[at:], epochs, strict=False)
    ]
    rows = rechained([*rows[:at], *behind], copy.name)
    macs = [*(r.mac for r in rows[:at]), *(key.mac(r.chain) for r in rows[at:])]
    copy.write([row._replace(mac=mac) for row, mac in zip(rows, macs, strict=True)])
    if not leaps:
        sizes = [*(size for size in sizes if size <= at), *range(at + 1, len(rows) + 1)]
    _sign_anew(copy, sizes, signer)
    return at + 1


def step_an_epoch_without_a_head(
    copy: Copy, draw: random.Random, first_key: MacKey, signer: Signer
) -> int:
    """As somebody who holds all keys, but leaves a head out."""
    sizes = [parse_head(note).size for note in copy.notes]
    left_out = sizes.pop(draw.randrange(len(sizes) - 1))
    _sign_anew(copy, sizes, signer)
    return left_out


def add_a_head(copy: Copy, draw: random.Random, first_key: MacKey, signer: Signer) -> int:
    """As somebody who holds the key of heads: one more, where no epoch ended."""
    sizes = [parse_head(note).size for note in copy.notes]
    added = draw.choice([size for size in range(1, sizes[-1]) if size not in sizes])
    _sign_anew(copy, sorted([*sizes, added]), signer)
    return added


def _sign_anew(copy: Copy, sizes: Sequence[int], signer: Signer) -> None:
    """Heads of the rows that are there now, under these sizes."""
    rows, times = copy.rows, {head.size: head.at_us for head in map(parse_head, copy.notes)}
    notes, previous, frontier, size = [], "", (), 0
    for wanted in sizes:
        for row in rows[size:wanted]:
            frontier, size = grown(frontier, size, leaf(row)), size + 1
        forged = signed_head(
            copy.name,
            size=wanted,
            root=root_of(frontier),
            at_us=times.get(wanted, 10**15 + wanted),
            previous=previous,
            signer=signer,
        )
        notes.append(forged.note)
        previous = forged.digest
    copy.keep_heads(notes)
