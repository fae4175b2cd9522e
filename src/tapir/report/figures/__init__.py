"""Figures of each section: a drawing, its numbers as a table, and what to conclude."""
