"""The OpenAI-compatible server: requests in, batches of rows that join and leave, text out.

Lives here: the thread that owns the device, what a request may say, the shapes of answers, and the HTTP application.
May not: compute anything on the device itself; that is generation/continuous.py.
"""
