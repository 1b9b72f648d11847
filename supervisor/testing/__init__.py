"""For tests, the project's and its users': virtual time, scripted work, recorded events, seeded simulation."""
