"""Reports: reading runs, charts and the page.

Lives here: `explainft report` and what it draws.
May not: import JAX or TensorFlow; a report is made from files alone.
"""
