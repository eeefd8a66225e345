"""Recipes: gin files, their loading and checking, and the wiring of the built-in engine.

Lives here: the only code that touches gin.
May not: contain defaults that a recipe does not name.
"""
