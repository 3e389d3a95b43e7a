"""The database: which one it is, the embedded one, its connections, its schema."""
