"""settings.toml: every table and key, read and proved once."""
