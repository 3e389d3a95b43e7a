"""Features by Polars: ``with_polars.py DATA CONNINFO TABLE``.

The last line printed is its seconds, imports excluded.
"""

from __future__ import annotations

import io
import sys
import time
from pathlib import Path

import polars as pl
from replace_table import replace_table

BLANKS = " \t"

Types = dict[str, type[pl.DataType]]

USERS: Types = {
    "user_id": pl.Int64,
    "name": pl.String,
    "email": pl.String,
    "signup_date": pl.Date,
}
COMPOUNDS: Types = {
    "compound_id": pl.Int64,
    "compound_name": pl.String,
    "compound_structure": pl.String,
}
EXPERIMENTS: Types = {
    "experiment_id": pl.Int64,
    "user_id": pl.Int64,
    "compound_ids": pl.String,
    "run_time": pl.Float64,
}

#: Rows that are sent at once.
SLICE = 50_000


def main() -> None:
    """Read, compute, hand over; print the seconds."""
    data, (conninfo, table) = Path(sys.argv[1]), sys.argv[2:]
    began = time.perf_counter()
    users = _first_ones(_read(data / "users.csv", USERS), "user_id")
    compounds = _first_ones(_read(data / "compounds.csv", COMPOUNDS), "compound_id")
    experiments = _with_lists(_read(data / "user_experiments.csv", EXPERIMENTS))
    if _has_repeats(experiments, "experiment_id"):
        known = experiments.join(users, on="user_id", how="semi", maintain_order="left")
        experiments = _first_ones(known, "experiment_id")
    features = _features(users, compounds, experiments)
    with replace_table(conninfo, table, queued=True) as copy:
        for rows in features.iter_slices(SLICE):
            lines = io.BytesIO()
            rows.write_csv(lines, include_header=False)
            copy.write(lines.getvalue())
    print(time.perf_counter() - began)


def _read(path: Path, types: Types) -> pl.DataFrame:
    """The records of a file whose values fit their types.

    Where all do, the reader itself casts; it skips blanks before numbers and dates.
    """
    names = list(types)
    try:
        records = pl.read_csv(
            path, new_columns=names, schema_overrides=list(types.values())
        )
    except pl.exceptions.ComputeError:
        text = pl.read_csv(path, new_columns=names, infer_schema=False).with_columns(
            pl.all().str.strip_chars(BLANKS).replace("", None)
        )
        records = text.select(_cast(name, kind) for name, kind in types.items()).filter(
            pl.all_horizontal(
                pl.col(name).is_not_null() | text[name].is_null() for name in names
            )
        )
    return records.filter(
        pl.col(name).is_not_null() for name in names if name.endswith("_id")
    )


def _cast(name: str, kind: type[pl.DataType]) -> pl.Expr:
    if kind is pl.Date:
        return pl.col(name).str.to_date("%Y-%m-%d", strict=False)
    return pl.col(name).cast(kind, strict=False)


def _has_repeats(records: pl.DataFrame, key: str) -> bool:
    return bool(records[key].n_unique() < records.height)


def _first_ones(records: pl.DataFrame, key: str) -> pl.DataFrame:
    """Of records with the same number, the first one. Counting is cheaper."""
    if _has_repeats(records, key):
        return records.unique(key, keep="first", maintain_order=True)
    return records


def _with_lists(experiments: pl.DataFrame) -> pl.DataFrame:
    """The experiments whose lists hold numbers, as lists of numbers.

    A null appears where an element is empty, has blanks around it, or is no number:
    only where there are any are the elements looked at one by one.
    """
    split = pl.col("compound_ids").str.strip_chars(BLANKS).str.split(";")
    lists = experiments.select(
        "experiment_id", "user_id", split.cast(pl.List(pl.Int64), strict=False)
    )
    nulls = lists["compound_ids"].explode().null_count()
    if nulls == experiments["compound_ids"].null_count():
        return lists
    element = pl.element().str.strip_chars(BLANKS).replace("", None)
    number = element.cast(pl.Int64, strict=False)
    return (
        experiments.select("experiment_id", "user_id", split)
        .filter(
            pl.col("compound_ids")
            .list.eval(element.is_null() | number.is_not_null())
            .list.all()
            .fill_null(True)
        )
        .with_columns(pl.col("compound_ids").list.eval(number))
    )


def _features(
    users: pl.DataFrame, compounds: pl.DataFrame, experiments: pl.DataFrame
) -> pl.DataFrame:
    """One row a user; on a tie the lowest compound."""
    used = pl.element().drop_nulls().mode().min()
    per_user = (
        experiments.lazy()
        .group_by("user_id")
        .agg(
            pl.len().alias("total_experiments"),
            pl.col("compound_ids").list.explode(keep_nulls=False, empty_as_null=False),
        )
        .with_columns(pl.col("compound_ids").list.agg(used).alias("compound_id"))
        .drop("compound_ids")
    )
    named = compounds.lazy().select(
        "compound_id", pl.col("compound_name").str.strip_chars(BLANKS).replace("", None)
    )
    total = pl.col("total_experiments").sum()
    # By a single value Polars multiplies with its inverse: off in the last bit.
    total_of_each = total + pl.col("total_experiments") * 0
    return (
        users.lazy()
        .with_columns(pl.col("name", "email").str.strip_chars(BLANKS).replace("", None))
        .join(per_user, on="user_id", how="left")
        .join(named, on="compound_id", how="left")
        .with_columns(pl.col("total_experiments").fill_null(0))
        .select(
            "user_id",
            "name",
            "email",
            "signup_date",
            "total_experiments",
            (total / pl.len()).alias("avg_experiments"),
            (pl.col("total_experiments") / total_of_each)
            .fill_nan(0)
            .alias("experiments_pct"),
            "compound_id",
            "compound_name",
        )
        .collect(engine="streaming")
    )


if __name__ == "__main__":
    main()
