"""Plans: memory and time of a recipe on hardware that is not here.

Lives here: ahead-of-time compilation, hardware tables and the memory search.
May not: train, or need the hardware that it plans for.
"""
