"""Where state lives: the contract, and the stores that keep it."""
