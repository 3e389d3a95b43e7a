"""Features by pandas, as a notebook does it: ``with_pandas.py DATA CONNINFO TABLE``.

The last line printed is its seconds, imports excluded.
"""

from __future__ import annotations

import io
import sys
import time
from pathlib import Path

import pandas as pd
from replace_table import replace_table

BLANKS = " \t"

#: Rows that are sent at once.
SLICE = 50_000


def main() -> None:
    """Read, compute, hand over; print the seconds."""
    data, (conninfo, table) = Path(sys.argv[1]), sys.argv[2:]
    began = time.perf_counter()
    features = _features(
        _read(data / "users.csv"),
        _read(data / "user_experiments.csv"),
        _read(data / "compounds.csv"),
    )
    with replace_table(conninfo, table) as copy:
        for start in range(0, len(features), SLICE):
            lines = io.StringIO()
            rows = features.iloc[start : start + SLICE]
            rows.to_csv(lines, header=False, index=False)
            copy.write(lines.getvalue())
    print(time.perf_counter() - began)


def _read(path: Path) -> pd.DataFrame:
    """A file as text without blanks around values; what is empty is missing."""
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    frame.columns = frame.columns.str.strip()
    frame = frame.apply(lambda column: column.str.strip(BLANKS))
    return frame.mask(frame == "")


def _numbers(text: pd.Series) -> pd.Series:
    """Whole numbers; what is none is missing."""
    whole = text.where(text.str.fullmatch("[+-]?[0-9]{1,18}", na=False))
    return pd.to_numeric(whole).astype("Int64")


def _fits(text: pd.Series, value: pd.Series) -> pd.Series:
    """Where a value is there if its text is."""
    return text.isna() | value.notna()


def _features(
    users: pd.DataFrame, experiments: pd.DataFrame, compounds: pd.DataFrame
) -> pd.DataFrame:
    """One row a user; on a tie the lowest compound, for mode() sorts."""
    dates = pd.to_datetime(users["signup_date"], format="%Y-%m-%d", errors="coerce")
    users["user_id"] = _numbers(users["user_id"])
    users = users[users["user_id"].notna() & _fits(users["signup_date"], dates)]
    users = users.drop_duplicates("user_id")

    compounds["compound_id"] = _numbers(compounds["compound_id"])
    compounds = compounds[compounds["compound_id"].notna()]
    compounds = compounds.drop_duplicates("compound_id")
    names = compounds.set_index("compound_id")["compound_name"]

    lists = experiments["experiment_compound_ids"].str.split(";")
    used = lists.explode().str.strip(BLANKS)
    used = used.mask(used == "")
    numbers = _numbers(used)
    bad_lists = used.index[~_fits(used, numbers)]
    times = pd.to_numeric(experiments["experiment_run_time"], errors="coerce")
    good = _fits(experiments["experiment_run_time"], times)
    experiments["experiment_id"] = _numbers(experiments["experiment_id"])
    experiments["user_id"] = _numbers(experiments["user_id"])
    experiments = experiments[good & experiments["experiment_id"].notna()]
    experiments = experiments.drop(bad_lists.unique(), errors="ignore")
    experiments = experiments[experiments["user_id"].isin(users["user_id"])]
    experiments = experiments.drop_duplicates("experiment_id")

    totals = experiments.groupby("user_id").size()
    pairs = experiments[["user_id"]].join(numbers.rename("compound_id")).dropna()
    favourites = pairs.groupby("user_id")["compound_id"].agg(lambda ids: ids.mode()[0])

    features = users[["user_id", "name", "email", "signup_date"]].copy()
    features["total_experiments"] = features["user_id"].map(totals).fillna(0)
    features["total_experiments"] = features["total_experiments"].astype("int64")
    total = features["total_experiments"].sum()
    features["avg_experiments"] = total / len(features)
    share = features["total_experiments"] / total if total else 0.0
    features["experiments_pct"] = share
    features["compound_id"] = features["user_id"].map(favourites).astype("Int64")
    features["compound_name"] = features["compound_id"].map(names)
    return features


if __name__ == "__main__":
    main()
