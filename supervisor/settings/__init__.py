"""settings.toml: every table and key, read and proved once.

`values` is what the engine reads and needs no library; `read` and all that it imports load pydantic, and are loaded
when first used.
"""
