"""Reads an answer of /trigger_etl from standard input and prints it for people."""

from __future__ import annotations

import json
import sys


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
    print(f"run {run['id']} {run['state']} in {run['seconds']} s")
    for file in run["files"]:
        rejected = f", {file['rejected']} rejected" if file["rejected"] else ""
        counts = file["rejected_by_reason"].items()
        if reasons := ", ".join(f"{count} {reason}" for reason, count in counts):
            rejected += f" ({reasons})"
        records = f"{file['records']} records{rejected}"
        print(f"  {file['file']}: {records}, {file['bytes']} bytes")
    if any(file["rejected"] for file in run["files"]):
        print(f"  rejected records: GET /runs/{run['id']}/rejects")
    for step in run["steps"]:
        print(f"  {step['file']}: {step['rows']} rows, {step['milliseconds']} ms")
    for warning in run["warnings"]:
        print(f"  warning: {warning}")
    return 0 if "status" not in answer else 1


if __name__ == "__main__":
    sys.exit(main())
