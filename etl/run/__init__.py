"""One run, from the lock to what is published: load, clean, build, check, publish."""
