"""The session lock: files in the format of OpenClaw, published whole, reclaimed on proof."""
