"""How an attempt is carried out: the Work protocol and its kinds."""
