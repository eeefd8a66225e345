"""Meshes, shardings and several hosts.

Lives here: where arrays lie, and how processes find each other.
May not: contain training, decoding or checkpoints.
"""
