"""Events that an operator is told about, by a command: grouped, bounded, and never in the way of a run."""
