"""The engine: streams CSV files into Postgres and runs the SQL files of a pipeline.

It holds no table, column or business word of any pipeline; those are below ``sql/``.
"""

#: The version released last, as CHANGELOG.md names it; None before the first release.
RELEASED: str | None = None
