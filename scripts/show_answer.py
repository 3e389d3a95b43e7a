"""Reads an answer of /trigger_etl from standard input and prints it for people."""

from __future__ import annotations

import json
import sys
from typing import Any


def main() -> int:
    """Returns the exit code: 0 for a run that succeeded, else 1."""
    text = sys.stdin.read()
    try:
        answer = json.loads(text)
        run, message, result = answer["run"], answer["message"], answer["result"]
    except (ValueError, KeyError, TypeError):
        print(f"this is no answer of /trigger_etl: {text[:200]}", file=sys.stderr)
        return 1
    print(f"message: {message}\nresult:  {result}")
    if run is None:
        return 1
    is_unchanged = run["state"] == "succeeded" and run["unchanged"]
    unchanged = ": nothing has changed" if is_unchanged else ""
    print(f"run {run['id']} {run['state']} in {run['seconds']} s{unchanged}")
    for file in run["files"]:
        rejected = f", {file['rejected']} rejected" if file["rejected"] else ""
        counts = file["rejected_by_reason"].items()
        if reasons := ", ".join(f"{count} {reason}" for reason, count in counts):
            rejected += f" ({reasons})"
        records = f"{file['records']} records{rejected}"
        print(f"  {file['file']}: {records}, {file['bytes']} bytes{load_of(file)}")
    if any(file["rejected"] for file in run["files"]):
        print(f"  rejected records: GET /runs/{run['id']}/rejects")
    for step in run["steps"]:
        spent = "not needed" if step["kept"] else f"{step['milliseconds']} ms"
        print(f"  {step['file']}: {step['rows']} rows, {spent}")
    for warning in run["warnings"]:
        print(f"  warning: {warning}")
    return 0 if "status" not in answer else 1


def load_of(file: dict[str, Any]) -> str:
    """What the run did with a file, if it did not load all of it."""
    match file["load"]:
        case "kept":
            return ", kept"
        case "appended":
            return f", {file['records_loaded']} records appended"
    return ""


if __name__ == "__main__":
    sys.exit(main())
