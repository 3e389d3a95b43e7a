"""The routes, who may ask them, and what each answers: JSON, events, metrics, pages."""
