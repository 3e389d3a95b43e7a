"""Steps that change the records of CSV files: each edit is of one kind, and random.

An edit takes the files, changes them in memory, and says in a few words what it did.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from tests.support.csvfiles import (
    COLUMNS,
    MAX_RECORDS,
    USERS,
    Files,
    Record,
    new_id,
    new_record,
    spoil,
)

Edit = Callable[[Files, Random], str]


def append(files: Files, rng: Random) -> str:
    file = files.any(rng)
    count = rng.randint(1, 4 if file.table == "user_experiments" else 2)
    count = min(count, MAX_RECORDS[file.table] - len(file.records))
    for _ in range(count):
        file.records.append(new_record(rng, files.tables, file.table))
    return f"append {count} records to {file.name}"


def append_in_the_last_line(files: Files, rng: Random) -> str:
    """As a program does that appends to a file without a line end."""
    file = files.any(rng)
    record = new_record(rng, files.tables, file.table)
    if file.records and not file.ends_with_newline:
        last = file.records.pop()
        record = Record(raw=file.text_of(last) + file.text_of(record))
    file.records.append(record)
    file.ends_with_newline = True
    return f"append a record to {file.name}, in the last line if it has no end"


def drop_last_newline(files: Files, rng: Random) -> str:
    file = files.any(rng)
    file.ends_with_newline = False
    return f"{file.name} without a last line end"


def insert(files: Files, rng: Random) -> str:
    file = files.any(rng)
    where = rng.randint(0, len(file.records))
    file.records.insert(where, new_record(rng, files.tables, file.table))
    return f"insert a record into {file.name} at {where}"


def cut_at_a_record(files: Files, rng: Random) -> str:
    file = files.any(rng)
    stay = rng.randint(len(file.records) // 2, len(file.records))
    del file.records[stay:]
    return f"cut {file.name} after {stay} records"


def cut_in_a_record(files: Files, rng: Random) -> str:
    file = files.any(rng)
    if file.records:
        del file.records[rng.randint(len(file.records) // 2, len(file.records)) + 1 :]
        text = file.text_of(file.records.pop())
        file.records.append(Record(raw=text[: rng.randint(0, len(text))]))
        file.ends_with_newline = False
    return f"cut {file.name} in record {len(file.records)}"


def edit(files: Files, rng: Random) -> str:
    file = files.any(rng)
    if not file.good:
        return "edit nothing"
    record = rng.choice(file.good)
    column = rng.choice(COLUMNS[file.table])
    record.values[column] = new_record(rng, files.tables, file.table).values[column]
    where = file.records.index(record)
    return f"set {column} of record {where} of {file.name}: {record.values[column]!r}"


def remove(files: Files, rng: Random) -> str:
    file = files.any(rng)
    if file.records:
        file.records.pop(where := rng.randrange(len(file.records)))
        return f"remove record {where} of {file.name}"
    return "remove nothing"


def reorder(files: Files, rng: Random) -> str:
    file = files.any(rng)
    if rng.random() < 0.5:
        rng.shuffle(file.records)
        return f"shuffle {file.name}"
    if file.records:
        file.records.append(file.records.pop(rng.randrange(len(file.records))))
    return f"move a record of {file.name} to its end"


def add_bad_record(files: Files, rng: Random) -> str:
    file = files.any(rng)
    record = new_record(rng, files.tables, file.table)
    is_last = rng.random() < 0.5
    where = len(file.records) if is_last else rng.randint(0, len(file.records))
    wrong = spoil(rng, file, record)
    file.records.insert(where, record)
    return f"insert a bad record into {file.name} at {where}: {wrong}"


def add_many_bad_records(files: Files, rng: Random) -> str:
    file = files.any(rng)
    count = rng.randint(3, 8)
    for _ in range(count):
        record = new_record(rng, files.tables, file.table)
        spoil(rng, file, record)
        file.records.insert(rng.randint(0, len(file.records)), record)
    return f"insert {count} bad records into {file.name}"


def spoil_record(files: Files, rng: Random) -> str:
    """Often a user with experiments, which are then rejected as well."""
    file = files.any(rng)
    if not file.good:
        return "spoil nothing"
    record = rng.choice(file.good)
    where = file.records.index(record)
    return f"spoil record {where} of {file.name}: {spoil(rng, file, record)}"


def fix_record(files: Files, rng: Random) -> str:
    file = rng.choice([each for each in files.tables.values() if each.bad] or [None])
    if file is None:
        return "fix nothing"
    record = rng.choice(file.bad)
    where = file.records.index(record)
    if record.good is not None and record.raw is None:
        record.values, record.good = record.good, None
        return f"fix record {where} of {file.name}"
    file.records.remove(record)
    return f"remove the bad record {where} of {file.name}"


def fix_all(files: Files, rng: Random) -> str:
    """Files that a run takes, so that what follows is not one failure."""
    for file in files.tables.values():
        file.restore_format()
        for record in file.bad:
            if record.good is None or record.raw is not None:
                file.records.remove(record)
            else:
                record.values, record.good = record.good, None
    return "fix all records, and write all files as at first"


def add_duplicate(files: Files, rng: Random) -> str:
    file = files.any(rng)
    if not file.good:
        return "duplicate nothing"
    twin = rng.choice(file.good)
    record = new_record(rng, files.tables, file.table)
    record.values[file.key] = twin.values[file.key]
    is_last = rng.random() < 0.7
    where = len(file.records) if is_last else rng.randint(0, len(file.records))
    file.records.insert(where, record)
    return f"key {twin.values[file.key]!r} again in {file.name}, at {where}"


def remove_first_duplicate(files: Files, rng: Random) -> str:
    for file in rng.sample(list(files.tables.values()), len(files.tables)):
        keys = [record.values.get(file.key, "") for record in file.records]
        for where, key in enumerate(keys):
            if key and key in keys[where + 1 :]:
                file.records.pop(where)
                return f"remove the first {key!r} of {file.name}, record {where}"
    return "remove no duplicate"


def add_experiment_of_unknown_user(files: Files, rng: Random) -> str:
    file = files.tables["user_experiments"]
    known = files.tables["users"].ids("user_id")
    user = new_id(rng, USERS, known)
    for _ in range(rng.randint(1, 2)):
        record = new_record(rng, files.tables, file.table)
        record.values["user_id"] = str(user)
        file.records.append(record)
    return f"append experiments of user {user}"


def add_unknown_user(files: Files, rng: Random) -> str:
    """A user whom experiments name already."""
    users = files.tables["users"]
    named = files.tables["user_experiments"].ids("user_id")
    if not (unknown := sorted(named - users.ids("user_id"))):
        return "every user is known"
    record = new_record(rng, files.tables, "users")
    record.values["user_id"] = str(user := rng.choice(unknown))
    where = rng.choice([0, len(users.records)])
    users.records.insert(where, record)
    return f"insert the unknown user {user} into users.csv at {where}"


def remove_user(files: Files, rng: Random) -> str:
    users = files.tables["users"]
    if not users.good:
        return "no user goes"
    user = rng.choice(users.good)
    users.records.remove(user)
    files.gone.append(user)
    return f"user {user.values.get('user_id')!r} goes"


def return_user(files: Files, rng: Random) -> str:
    users = files.tables["users"]
    if not files.gone:
        return "no user comes back"
    user = files.gone.pop()
    where = rng.choice([0, len(users.records) // 2, len(users.records)])
    users.records.insert(where, user)
    return f"user {user.values.get('user_id')!r} comes back at {where}"


#: The edits, and how frequent each is.
EDITS: dict[Edit, int] = {
    append: 14,
    append_in_the_last_line: 2,
    drop_last_newline: 2,
    insert: 3,
    cut_at_a_record: 2,
    cut_in_a_record: 2,
    edit: 5,
    remove: 3,
    reorder: 3,
    add_bad_record: 5,
    add_many_bad_records: 1,
    spoil_record: 3,
    fix_record: 5,
    fix_all: 5,
    add_duplicate: 5,
    remove_first_duplicate: 4,
    add_experiment_of_unknown_user: 5,
    add_unknown_user: 5,
    remove_user: 4,
    return_user: 4,
}
