"""What may still live: what attempts have left, and runs whose supervisor died; freed on proof."""
