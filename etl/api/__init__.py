"""The routes, and what answers each: JSON, events, charts, metrics, pages."""
