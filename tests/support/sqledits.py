"""Steps that change the SQL files of the shipped pipeline, and set them back.

Each edit takes the folder of a copy, and says in a few words what it did.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

from etl.settings import PROJECT

SHIPPED = PROJECT / "sql"

#: The folders that every run reads.
FOLDERS = ("clean", "build", "check")

NAME = "nullif(btrim(users.name, E' \\t'), '') as name"

#: What the file reads differs from one run to the next where the time zone has been
#: changed in between: by a day's date, which stays the same for both services.
CLOCK = "to_char(current_date::timestamptz, 'OF') as email"

#: A file, what to replace in it, and by what.
REPLACED = [
    ("build/030_features.sql", NAME, NAME.replace("users.name", "users.name || '!'")),
    ("build/030_features.sql", "'') as most_common", "'') || '?' as most_common"),
    ("build/010_activity.sql", "order by named.compound_id)", "{} desc)"),
    ("build/020_totals.sql", "users.user_id is null", "users.name is null"),
    ("build/020_totals.sql", "count(*) as total_users", "count(*) + 1 as total_users"),
    ("check/040_no_negative_counts.sql", "-- reads:", "-- severity: warn\n-- reads:"),
    ("check/050_compounds_have_names.sql", "-- severity: warn\n", ""),
    ("check/010_users_are_not_all_gone.sql", "-- reads:", "-- severity: warn\n{}"),
    ("clean/020_users_were_not_rejected.sql", "which was rejected", "and that was"),
    ("clean/030_users_are_known.sql", "no record of users.csv", "no user"),
    ("clean/030_users_are_known.sql", "unknown_user", "stranger"),
    ("clean/040_experiment_ids_are_unique.sql", "-- verified_by: check/060", "-- {}"),
    ("clean/050_compound_ids_are_unique.sql", "-- keeps:   first\n", ""),
    ("build/030_features.sql", "cross join totals", "cross join oops"),
    ("build/030_features.sql", "as users\ncross", "as oops\ncross"),
]

#: Files that come and go, some with other texts.
ADDED = {
    "clean/060_no_user_is_seven.sql": (
        "-- No user has this number.\n"
        "-- rejects: users.user_id\n-- reason:  seven\n-- reads:   staging.users\n"
        "select users.user_id, 'seven' as message\nfrom staging.users\n"
        "where users.user_id = 7;\n"
    ),
    "check/090_few_experiments.sql": (
        "-- Nobody has more experiments than this.\n-- reads:  features_next\n"
        "select features_next.user_id\nfrom features_next\n"
        "where features_next.total_experiments > 4\norder by features_next.user_id;\n"
    ),
    "check/095_all_have_dates.sql": (
        "-- Everybody has a date.\n-- reads:  staging.users\n-- severity: warn\n"
        "select users.user_id\nfrom staging.users\n"
        "where users.signup_date is null\norder by users.user_id;\n"
    ),
    "build/040_guest.sql": (
        "-- A row more, written by a second file.\n"
        "-- grain:  one row\n-- reads:  totals_next\n-- writes: features_next\n"
        "insert into features_next (\n    user_id, name, total_experiments,"
        " avg_experiments, experiments_pct\n)\n"
        "select 99, 'Guest', 0, totals.total_users, 0\nfrom totals_next as totals;\n"
    ),
    "build/015_unknown.sql": (
        "-- A row more, written before the others of its table.\n"
        "-- grain:  one row\n-- reads:  activity_next\n-- writes: totals_next\n"
        "insert into totals_next (total_users, total_experiments)\n"
        "select 1, 1 from activity_next as activity where activity.user_id = 3;\n"
    ),
}

#: What such a file may say later: it writes to another table.
ELSEWHERE = {
    "build/040_guest.sql": (
        "-- A row more, of an unknown user.\n"
        "-- grain:  one row\n-- reads:  totals_next\n-- writes: unknown_users_next\n"
        "insert into unknown_users_next (user_id, total_experiments)\n"
        "select 99, 0 from totals_next as totals;\n"
    ),
    "build/015_unknown.sql": (
        "-- A row more, of a user without experiments.\n"
        "-- grain:  one row\n-- reads:  staging.users\n-- writes: activity_next\n"
        "insert into activity_next (user_id, total_experiments)\n"
        "select users.user_id, 0 from staging.users where users.user_id = 98;\n"
    ),
}


def replace(folder: Path, rng: Random) -> str:
    name, old, new = rng.choice(REPLACED)
    path = folder / name
    if path.exists() and old in path.read_text():
        path.write_text(path.read_text().replace(old, new.replace("{}", old), 1))
    return f"replace {old!r} in {name} by {new!r}"


def add_comment(folder: Path, rng: Random) -> str:
    path = rng.choice([path for each in FOLDERS for path in folder.glob(f"{each}/*")])
    path.write_text(path.read_text() + f"-- {rng.randint(0, 9)}\n")
    return f"a comment at the end of {path.relative_to(folder)}"


def touch(folder: Path, rng: Random) -> str:
    """Line ends are no change of a SQL file, and neither is its time."""
    path = rng.choice([path for each in FOLDERS for path in folder.glob(f"{each}/*")])
    content = path.read_bytes().replace(b"\r\n", b"\n")
    if rng.random() < 0.5:
        content = content.replace(b"\n", b"\r\n")
    path.write_bytes(content)
    return f"other line ends in {path.relative_to(folder)}"


def add_or_remove(folder: Path, rng: Random) -> str:
    name = rng.choice(list(ADDED))
    path = folder / name
    if path.exists() and name in ELSEWHERE and rng.random() < 0.5:
        path.write_text(ELSEWHERE[name])
        return f"{name} writes elsewhere"
    if path.exists():
        path.unlink()
        return f"remove {name}"
    path.write_text(ADDED[name])
    return f"add {name}"


def read_clock(folder: Path, rng: Random) -> str:
    """Seen in the text, or declared."""
    path, old = folder / "build/030_features.sql", "'') as email"
    text = path.read_text()
    if "current_date" in text:
        path.write_bytes((SHIPPED / "build/030_features.sql").read_bytes())
        return "build/030 no longer reads the clock"
    text = text.replace(old, f"'') || {CLOCK}", 1)
    if is_declared := rng.random() < 0.5:
        text = text.replace("-- grain:", "-- runs: always\n-- grain:", 1)
    path.write_text(text)
    return "build/030 reads the clock" + ", and says so" * is_declared


def restore(folder: Path, rng: Random) -> str:
    """All files as they are shipped."""
    for name in FOLDERS:
        shutil.rmtree(folder / name)
        shutil.copytree(SHIPPED / name, folder / name)
    return "all SQL files as they are shipped"


SqlEdit = Callable[[Path, Random], str]

#: The edits, and how frequent each is.
SQL_EDITS: dict[SqlEdit, int] = {
    replace: 4,
    add_comment: 2,
    touch: 1,
    add_or_remove: 3,
    read_clock: 2,
    restore: 6,
}
