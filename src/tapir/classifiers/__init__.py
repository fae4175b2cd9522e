"""Classifiers: who tells the task type of an instruction."""
